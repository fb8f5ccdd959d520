"""Runs beside the papers' numbers, which stand in papers.json with their sources."""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Sequence
from typing import Any

from robust_tf.evaluation import OBLIVIOUS
from robust_tf.report.blocks import Block, Cell, Row, Table, Text, percent
from robust_tf.runs import Result, Run

SAME_EPS = 0.02  # relative: 8/255 is also printed as 0.031
PRINTED = {"R-FGSM": "FGSM"}  # that of ATLD's program starts at random


def paper_tables() -> list[dict[str, Any]]:
    """All of them: name, source, data, eps, network, note, columns, rows (title, values).

    Values are in percent, None where the paper has none; columns are kinds of attacks as
    `runs.results.kind_of` gives them.
    """
    file = importlib.resources.files("robust_tf.report") / "papers.json"
    return json.loads(file.read_text(encoding="utf-8"))


def comparison(runs: Sequence[Run]) -> list[Block]:
    """Each of the papers' tables on the data of a run, with the run's own numbers added."""
    names = list(dict.fromkeys(str(run.data.get("name")) for run in runs if run.data))
    parts: list[Block] = []
    for number, one in enumerate(paper_tables()):
        if one["data"] not in names:
            continue
        rows = [
            Row([title, *[percent(None if v is None else v / 100) for v in values], "paper"])
            for title, values in one["rows"]
        ]
        own = []
        for k, run in enumerate(runs):
            own += _own_rows(k, run, one)
        if not own:
            continue
        caption = f"{one['name']}: {one['data']}, eps {_eps(one['eps'])}"
        columns = ["Model", *[f"{PRINTED.get(name, name)}, %" for name in one["columns"]], "Of"]
        parts.append(Table(caption, columns, [*own, *rows], f"paper-{number}"))
        parts.append(Text(f"Source: {one['source']}. {one['note']}".strip(), "hint"))
    if parts:
        text = (
            "The papers' schedules, networks and attacks differ from those of a run unless its "
            "configuration says that they are the same; a dash means that this was not measured. "
            "Numbers of a run are of the evaluation with most images; behind a transformation an "
            "attacked image counts as in the paper, whatever becomes of the clean one."
        )
        return [Text(text), *parts]
    on = ", ".join(names) or "unknown data"
    return [Text(f"The papers have no numbers on {on} that these runs have been measured by.")]


def _own_rows(k: int, run: Run, one: dict[str, Any]) -> list[Row]:
    """The run's numbers in the columns of a paper's table, also behind its inferences."""
    if run.data.get("name") != one["data"] or not run.results:
        return []
    if one["network"] and run.network.get("builder") != one["network"]:
        return []
    rows = []
    kinds = dict.fromkeys((m.inference or {}).get("kind") for m in run.results)
    for kind in kinds:
        chosen = [m for m in run.results if (m.inference or {}).get("kind") == kind]
        found = [_accuracy(chosen, name, one["eps"]) for name in one["columns"]]
        attacked = [
            value for name, value in zip(one["columns"], found, strict=True) if name != "natural"
        ]
        if any(value is not None for value in attacked):
            title = f"{run.name} ({run.label}{f' {str(kind).upper()}' if kind else ''})"
            sizes = sorted({size for value in found if value for size in [value[1]]})
            cells = [percent(value[0]) if value else Cell("–") for value in found]
            images = " to ".join(f"{size:,}" for size in dict.fromkeys((sizes[0], sizes[-1])))
            rows.append(Row([title, *cells, f"this run, {images} images"], k, strong=True))
    return rows


def _accuracy(measured: Sequence[Result], kind: str, eps: float) -> tuple[float, int] | None:
    """Accuracy under attacks of this kind and eps, and of how many images; of most images."""
    found = []
    for one in measured:
        if not one.whole:
            continue
        size = len(one.evaluation)
        if kind == "natural":
            found.append((one.evaluation.natural_accuracy, size))
            continue
        for attacked in one.attacks:
            same = attacked.eps is not None and abs(attacked.eps - eps) <= SAME_EPS * eps
            plain = attacked.kind.removeprefix(OBLIVIOUS)
            if same and attacked.norm == "Linf" and plain == kind:
                # Behind a transformation as the paper counts, T(x') alone, where the file has it.
                counted = attacked.robust if attacked.alone is None else attacked.alone
                found.append((float(counted.mean()), size))
    return max(found, key=lambda pair: pair[1], default=None)


def _eps(eps: float) -> str:
    return f"{round(255 * eps)}/255" if abs(255 * eps - round(255 * eps)) < 0.01 else f"{eps:.4g}"
