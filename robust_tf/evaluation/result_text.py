"""An evaluation as text: in short, as Python and notebooks show it, and as the whole table."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from robust_tf.evaluation import distances

if TYPE_CHECKING:
    from robust_tf.evaluation.results import Evaluation


def brief(result: Evaluation) -> str:
    """A small table of accuracies, and the titles of the flags."""
    rows = _rows(result)
    width = max(len(name) for name, _ in rows)
    lines = [f"  {name.ljust(width)}  {value:>8}".rstrip() for name, value in rows]
    return "\n".join([f"Evaluation on {len(result):,} images", *lines, *_flag_lines(result)])


def brief_html(result: Evaluation) -> str:
    """As HTML, for a notebook."""
    lines = [f"<b>Evaluation on {len(result):,} images</b>", "<table>"]
    for name, value in _rows(result):
        lines.append(f"<tr><td>{html.escape(name)}</td><td>{value}</td></tr>")
    notes = [f"<br>{html.escape(line)}" for line in _flag_lines(result)]
    return "\n".join([*lines, "</table>", *notes])


def _rows(result: Evaluation, most: int = 12) -> list[tuple[str, str]]:
    """Accuracies in percent: natural, under the first attacks, and under all of them."""
    names = list(result.outcomes)
    shown = names if len(names) <= most else names[: most - 1]
    rows = [("natural", result.natural_accuracy)]
    rows += [(name, result.accuracy(name)) for name in shown]
    cells = [(name, _found(result, name, accuracy)) for name, accuracy in rows]
    if len(shown) < len(names):
        cells.append((f"{len(names) - len(shown)} more attacks", ""))
    return [*cells, *_worst_row(result)]


def _found(result: Evaluation, name: str, accuracy: float) -> str:
    """An accuracy in percent; of an attack that measures distances, their median."""
    if name in result.distances:
        return f"median {distances.summary(result.distances[name]).median:.4g}"
    return f"{100 * accuracy:.2f} %"


def _worst_row(result: Evaluation) -> list[tuple[str, str]]:
    """Nothing where all attacks measure distances: then there is a curve, and no verdict."""
    if result.outcomes and len(result.distances) == len(result.outcomes):
        return []
    return [("worst case over all", f"{100 * result.worst_case_accuracy:.2f} %")]


def _flag_lines(result: Evaluation) -> list[str]:
    """The titles of the flags."""
    return [f"! {flag['title']}" for flag in result.flags]


def _curve_rows(result: Evaluation, most: int = 8) -> list[tuple[str, str]]:
    """Points of the curves; of one from distances, so many, and those at other attacks' eps."""
    radii = {tuple(ball) for ball in result.settings.get("balls", {}).values()}
    points = []
    for norm, curve in result.curves().items():
        own = curve[1:]
        shown = {round(k) for k in np.linspace(0, len(own) - 1, min(most, len(own)))}
        for k, (eps, value) in enumerate(own):
            if k in shown or (norm, eps) in radii or len(radii) >= len(own):
                points.append((f"worst case, {norm} eps {eps:.4g}", f"{100 * value:.2f} %"))
    return points if len(points) > 1 else []


def table(result: Evaluation) -> str:
    """Natural accuracy, each attack's with its cost, the worst case and the flags, as text."""
    size = max(len(result), 1)
    rows = [("natural", f"{100 * result.natural_accuracy:.2f} %", "", "", "")]
    for name, outcome in result.outcomes.items():
        passes = outcome.forwards / size, outcome.gradients / size
        forwards, gradients = (f"{count:,.0f}" if count else "" for count in passes)
        accuracy = _found(result, name, result.accuracy(name))
        rows.append((name, accuracy, _duration(outcome.seconds), forwards, gradients))
        if result.settings.get("balls", {}).get(name, ["", 0])[1] is None:  # of a union
            for stage, verdict in outcome.stages.items():
                rows.append((f"  after {stage}", f"{100 * verdict.mean():.2f} %", "", "", ""))
        if outcome.eight_bits is not None:
            rounded = f"{100 * outcome.eight_bits.mean():.2f} %"
            rows.append((f"{name}, rounded to 8 bits", rounded, "", "", ""))
        if outcome.alone is not None:
            alone = f"{100 * outcome.alone.mean():.2f} %"
            rows.append((f"{name}, attacked image alone", alone, "", "", ""))
        if name in result.distances and outcome.robust.any():
            rows.append((f"{name}, none found", f"{100 * outcome.robust.mean():.2f} %", "", "", ""))
    rows += [(*row, "", "", "") for row in [*_curve_rows(result), *_worst_row(result)]]
    head = ("", "accuracy", "time", "forwards", "gradients")
    widths = [max(len(row[k]) for row in [head, *rows]) for k in range(5)]

    def line(row: Sequence[str]) -> str:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        return "  ".join(cells).rstrip()

    lines = [f"{line(head)}    per image; {len(result):,} images", *map(line, rows)]
    for name, outcome in result.outcomes.items():
        lines += [f"note: {name}: {note}" for note in outcome.details.get("notes", [])]
    for flag in result.flags:
        figures = ", ".join(f"{name} {_listed(v)}" for name, v in flag["figures"].items())
        lines += [f"! {flag['title']} ({figures})" if figures else f"! {flag['title']}"]
        lines += [f"  {flag['explanation']}", f"  {flag['advice']}"]
    return "\n".join(lines)


def _duration(seconds: float) -> str:
    """'0.4 s', '38 s', '12 min 5 s', '1 h 3 min'."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _listed(value: Any) -> str:
    """A figure of a flag as text; several by name."""
    return "; ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
