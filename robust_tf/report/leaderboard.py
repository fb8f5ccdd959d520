"""The leaderboard: one page over everything that was evaluated, beside published numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from robust_tf.evaluation.attack_names import balls_text
from robust_tf.figures.bars import wilson
from robust_tf.report import page
from robust_tf.report.blocks import (
    Block,
    Cell,
    Code,
    Facts,
    Group,
    Items,
    Row,
    Section,
    Table,
    Text,
    count,
    interval,
    percent,
)
from robust_tf.report.entries import HERE, PUBLISHED, Entry
from robust_tf.report.saving import names_of

TITLE = "Leaderboard"
READING = (
    "The worst case counts an image only if it withstood every attack named in its row, all inside "
    "the ball of the threat model. It is an upper bound: the next attack may find more. So compare "
    "rows of the same data, threat model and attacks; rows with AutoAttack come first. The "
    "interval is Wilson's at 95 %, for the choice of test images alone; ± is the standard "
    "deviation over seeds (n - 1). Minutes are of the machine that was at hand; the gradient steps "
    "of the training attack do not depend on it. A dash means that this is not known."
)
ABOUT_PUBLISHED = (
    "Published numbers were not measured here: networks, schedules and data of training are those "
    "of their authors, and differ from one another."
)
NONE = "Nothing here was evaluated: bin/evaluate and bin/study write what a leaderboard is made of."
# Columns and how rows can be chosen by them.
COLUMNS = {
    "Model": "",
    "Worst case, %": "",
    "95 % interval": "",
    "Natural, %": "",
    "Measured": "choice",
    "Data": "choice",
    "Threat": "choice",
    "Network": "choice",
    "Method": "choice",
    "AutoAttack": "choice",
    "Attacks": "",
    "Images": "least",
    "Seeds": "",
    "Training, minutes": "most",
    "Attack steps in training": "most",
    "Evaluation, minutes": "most",
    "Flags": "",
}


def build(
    entries: Sequence[Entry], left_out: Sequence[str], folder: str, command: str, made: str
) -> str:
    """The page.

    Args:
      entries: in any order; published ones among them.
      left_out: a sentence for each file that gives no row.
      folder: where they come from; by it `saving.check_free` knows the page again.
      command: that made it, for the reader.
      made: when, for the reader.

    Raises:
      ValueError: Jinja is not installed.
    """
    ordered = sorted(entries, key=_order)
    own = [entry for entry in ordered if entry.origin == HERE]
    details = [_details(k, entry) for k, entry in enumerate(own, 1)]
    sections = [
        Section("table", "All that was evaluated", _table(ordered)),
        Section("rows", "Each row, and how to repeat it", details),
        Section("published", "Published numbers", _sources(ordered)),
        Section("left-out", "Left out", [Items([f"{one.rstrip('.')}." for one in left_out])]),
        Section("repeat", "This page", [Text("It was made by:"), Code(command, "command")]),
    ]
    shown = [s for s in sections if s.blocks and (s.name != "left-out" or left_out)]
    return page.render(TITLE, shown, made, names_of([folder]))


def _order(entry: Entry) -> tuple[Any, ...]:
    """By data and threat model, with AutoAttack before others, the most robust first."""
    threat = balls_text(entry.balls)
    return entry.data, threat, not entry.autoattack, -entry.worst, entry.name


def _table(entries: Sequence[Entry]) -> list[Block]:
    rows = []
    own = 0
    for entry in entries:
        link = ""
        if entry.origin == HERE:
            own += 1
            link = f"row-{own}"
        rows.append(Row(_cells(entry, link)))
    blocks: list[Block] = [] if own else [Text(NONE, "missing")]
    caption = "Worst case of each model, those measured here and those published"
    filters = {name: kind for name, kind in COLUMNS.items() if kind}
    if rows:
        blocks += [Table(caption, list(COLUMNS), rows, "leaderboard", filters)]
        blocks += [Text(READING, "hint")]
    return blocks


def _cells(entry: Entry, link: str) -> list[Any]:
    low, high = wilson(np.asarray(entry.worst * entry.examples), entry.examples)
    seeds = [seed for seed in entry.robust if seed]
    steps = entry.attack_steps
    return [
        Cell(entry.name + " (published)" * (entry.origin == PUBLISHED), link=link),
        _spread(entry.robust.values()),
        interval(float(low), float(high)),
        _spread(entry.natural.values()),
        entry.origin,
        entry.data,
        balls_text(entry.balls),
        entry.network,
        entry.method,
        "yes" if entry.autoattack else "no",
        ", ".join(entry.attacks),
        count(entry.examples),
        Cell(", ".join(seeds) or "–", float(len(seeds)) if seeds else None),
        _minutes(entry.training_seconds),
        count(steps),
        _minutes(entry.evaluation_seconds),
        "; ".join(entry.flags) or ("none" if entry.origin == HERE else ""),
    ]


def _spread(shares: Any) -> Cell:
    """Of several seeds mean and deviation, in percent."""
    values = list(shares)
    if not values:
        return Cell("–")
    if len(values) == 1:
        return percent(values[0])
    mean, std = 100 * np.mean(values), 100 * np.std(values, ddof=1)
    return Cell(f"{mean:.2f} ± {std:.2f}", float(mean))


def _minutes(seconds: float | None) -> Cell:
    return Cell("–") if seconds is None else Cell(f"{seconds / 60:,.1f}", seconds / 60)


def _details(k: int, entry: Entry) -> Group:
    """What the table has no place for: seeds, files, weights, commands."""
    by_seed = [f"{seed}: {100 * share:.2f} %" for seed, share in entry.robust.items() if seed]
    facts = Facts(
        [
            ("Worst case by seed", ", ".join(by_seed)),
            ("Under", ", ".join(entry.attacks)),
            ("Flags", "; ".join(entry.flags) or "none"),
            ("From", entry.source, True),
            ("Weights", ", ".join(sorted(entry.weights)), True),
        ]
    )
    code = Code("\n".join(entry.commands), f"commands of {entry.name}")
    return Group([facts, code], entry.name, element="article", name=f"row-{k}")


def _sources(entries: Sequence[Entry]) -> list[Block]:
    sources = {entry.source: None for entry in entries if entry.origin == PUBLISHED}
    if not sources:
        return []
    return [Text(ABOUT_PUBLISHED), Items([f"{source}." for source in sources])]
