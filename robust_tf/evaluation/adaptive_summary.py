"""A defence at inference in three columns: oblivious attacks, adaptive ones, and the worst case."""

from __future__ import annotations

import numpy as np

from robust_tf.evaluation.defended_attacks import ADAPTIVE, OBLIVIOUS
from robust_tf.evaluation.results import Evaluation

NAMES = ("oblivious", "adaptive", "worst case")


def adaptive_summary(evaluation: Evaluation) -> dict[str, dict[str, float]]:
    """Accuracies of a defended model, as the paper measures them and as they should be.

    Args:
      evaluation: of `bpda(model)`, under `oblivious_attacks`, `adaptive_attacks`, or
        attacks named like theirs.

    Returns:
      For each attack, by its name without 'oblivious: ' or 'adaptive: ', and last for 'all' of
      them: the accuracy in each column that it has, in [0, 1]. A worst case is that of each example
      over the row; over 'all', it is the headline: every attack that was run counts.

    Raises:
      ValueError: neither kind of attack is there.
    """
    robust = evaluation.robust
    rows: dict[str, dict[str, np.ndarray]] = {}
    for name, verdict in robust.items():
        for prefix, column in ((OBLIVIOUS, NAMES[0]), (ADAPTIVE, NAMES[1])):
            if name.startswith(prefix):
                rows.setdefault(name.removeprefix(prefix), {})[column] = verdict
    if not rows:
        raise ValueError(
            f"no attack is named {OBLIVIOUS!r}... or {ADAPTIVE!r}..., only {list(robust)}: run "
            "those of oblivious_attacks and adaptive_attacks."
        )
    whole = {
        column: np.logical_and.reduce([row[column] for row in rows.values() if column in row])
        for column in NAMES[:2]
        if any(column in row for row in rows.values())
    }
    for row in rows.values():
        row[NAMES[2]] = np.logical_and.reduce(list(row.values()))
    rows["all"] = {**whole, NAMES[2]: evaluation.worst_case}
    return {
        name: {column: float(verdict.mean()) for column, verdict in row.items()}
        for name, row in rows.items()
    }


def adaptive_table(evaluation: Evaluation) -> str:
    """`adaptive_summary` as text, in percent, the natural accuracy first."""
    natural = dict.fromkeys(NAMES, evaluation.natural_accuracy)
    rows = {"natural": natural, **adaptive_summary(evaluation)}
    width = max(map(len, rows))
    lines = ["  ".join([" " * width, *(name.rjust(10) for name in NAMES)])]
    for name, row in rows.items():
        cells = [f"{100 * row[c]:.2f} %" if c in row else "" for c in NAMES]
        lines.append("  ".join([name.ljust(width), *(cell.rjust(10) for cell in cells)]).rstrip())
    return "\n".join(lines)
