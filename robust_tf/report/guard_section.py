"""The report's section on catastrophic overfitting: what the guard of each run has measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from robust_tf.report.blocks import Block, Cell, Group, Items, Row, Table, Text, count, percent
from robust_tf.report.charts import Charts
from robust_tf.runs import Run

_FEW = 2  # steps of a training attack, as in `training.guard`
_HINT = (
    "A training with an attack of one or two steps can overfit to that attack within an epoch: its "
    "accuracy under it stays or rises while that under PGD falls to about 0. Both were measured "
    "while it trained, on the same images each time; the PGD has 5 steps and is much weaker than "
    "the attacks of an evaluation."
)
_NAMES = {"training_attack": "training attack", "pgd": "PGD-5"}


def overfitting(runs: Sequence[Run], charts: Charts) -> list[Block] | None:
    """The gap between the training attack and a short PGD; None where no run has few steps."""
    shown = [(k, run) for k, run in enumerate(runs) if run.guard or 0 < _steps(run) <= _FEW]
    if not shown:
        return None
    columns = "Run|Attack steps|Checks|Training attack, %|PGD-5, %|Gap, points|Found at step|Then"
    table = Table(
        "Accuracy under the training attack and under PGD at the last check of each run",
        columns.split("|"),
        [_row(k, run) for k, run in shown],
        "guard",
    )
    blocks: list[Block] = [Text(_HINT, "hint"), table]
    traces = [trace for k, run in shown for trace in _traces(k, run, charts)]
    if traces:
        chart = charts.add(
            "guard",
            "Accuracy while training, on the same images at each check. Solid: PGD of 5 steps; "
            "dotted: the training attack. A line ends where the run went back.",
            "Line chart of accuracy under the training attack and under PGD against the step.",
            traces,
            ("step", "accuracy, %"),
        )
        blocks.append(Group([chart], style="figures"))
    for k, run in shown:
        said = _events(run)
        if said:
            blocks.append(Group([Items(said)], run.name, k))
    return blocks


def _steps(run: Run) -> int:
    """Of the attack that made its training images; 0 where nothing tells it."""
    return int(run.record["method"].get("attack_steps") or 0)


def _row(k: int, run: Run) -> Row:
    """The last check of a run, and the first that found something."""
    steps = count(_steps(run)) if _steps(run) else Cell("–")
    if not run.guard:
        watched = run.record.get("guard") is not None
        why = "no check was due" if watched else "it was not watched"
        return Row([run.name, steps, count(0), *[Cell("–")] * 4, why], k)
    last = run.guard[-1]
    gap = last["training_attack"] - last["pgd"]
    found = [row for row in run.guard if row.get("verdict")]
    then = ", ".join(dict.fromkeys(f"{row['verdict']}: {_done(row)}" for row in found))
    return Row(
        [
            run.name,
            steps,
            count(len(run.guard)),
            percent(last["training_attack"]),
            percent(last["pgd"]),
            Cell(f"{100 * gap:.1f}", 100 * gap),
            count(found[0]["step"]) if found else Cell("–"),
            then or "nothing was found",
        ],
        k,
    )


def _done(row: dict[str, Any]) -> str:
    words = {"rollback": "went back", "stop": "stopped", "warn": "trained on"}
    return words.get(row.get("action", ""), "trained on")


def _traces(k: int, run: Run, charts: Charts) -> list[dict[str, Any]]:
    """Both accuracies; a gap where the run went back."""
    traces = []
    for name, dash in (("pgd", "solid"), ("training_attack", "dot")):
        x: list[float | None] = []
        y: list[float | None] = []
        for row in run.guard:
            x.append(row["step"])
            y.append(100 * row[name])
            if row.get("action") == "rollback":
                x.append(None)
                y.append(None)
        if x:
            hover = "step %{x}: %{y:.1f} %"
            trace = charts.line(k, f"{run.name}, {_NAMES[name]}", x, y, hover, mode="lines")
            traces.append({**trace, "line": {**trace["line"], "dash": dash}})
    return traces


def _events(run: Run) -> list[str]:
    """What was found, a sentence for each time that something was done or first said."""
    said, before = [], ""
    for row in run.guard:
        verdict = row.get("verdict", "")
        if verdict and (verdict != before or row.get("action") != "warn"):
            said.append(
                f"{verdict.capitalize()} at step {row['step']} (epoch {row['epoch']}): of "
                f"{row['images']} images {row['pgd']:.1%} withstood PGD-5, and "
                f"{row['training_attack']:.1%} the training attack. {_told(row, run)}"
            )
        before = verdict
    return said


def _told(row: dict[str, Any], run: Run) -> str:
    """What was done, as a sentence."""
    if row.get("action") == "rollback" and "to_epoch" in row:
        names = [name for name in ("noise", "step_size") if name in row]
        change = ", ".join(f"{name.replace('_', ' ')} {row[name]:g}" for name in names)
        where = f"step {row['to_step_in_epoch']} of epoch {row['to_epoch']}"
        return f"The run went back to {where} and trained on from there with {change}."
    if row.get("action") == "stop":
        best = run.summary.get("selected") == "best"
        kept = f"the best validation, epoch {run.summary.get('best_epoch')}" if best else "the end"
        return f"The training was stopped; what is evaluated is the network of {kept}."
    return "The training went on."
