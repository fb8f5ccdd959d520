"""The report's first sections: the runs in short, what is missing, how they were trained."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from robust_tf.figures.bars import bar_of
from robust_tf.figures.style import CLASSES
from robust_tf.report.blocks import (
    Block,
    Cell,
    Code,
    Facts,
    Group,
    Items,
    Row,
    Table,
    Text,
    count,
    interval,
    number,
    percent,
    radius,
    slug,
)
from robust_tf.report.charts import Charts
from robust_tf.report.model_analysis import ModelAnalysis, collapse_of
from robust_tf.runs import Run, by_seed
from robust_tf.runs.worst_case import headline, why_none

_KNOWN = ("epoch", "step", "images_per_second", "learning_rate", "loss", "collapsed")
_ACCURACIES = {
    "natural": ("natural_accuracy", "val_natural_accuracy"),
    "robust": ("robust_accuracy", "val_robust_accuracy"),
}


def in_short(runs: Sequence[Run], analyses: Sequence[ModelAnalysis]) -> list[Block]:
    """One row for each run; for runs that differ in their seed only, one for all of them."""
    rows = []
    several = False
    for group in by_seed(runs):
        if len(group) > 1:
            several = True
            rows.append(_over_seeds([runs[k] for k in group]))
        else:
            rows.append(_short(group[0], runs[group[0]]))
    columns = "Run|Natural, %|Worst case, %|95 % interval|Images|Method|Data|eps|Attacks"
    text = (
        "The worst case counts an image only if it withstood every attack named here, all of them "
        "inside the balls of the training (eps). It is an upper bound: the next attack may find "
        "more. The interval is Wilson's, for the choice of images alone."
    )
    if several:
        text += " Of several seeds: mean ± standard deviation over seeds (n - 1), no interval."
    caption = "Natural accuracy and worst case of each run"
    collapsed = [
        Text(f"{run.name}: {collapse_of(analysis)}", "missing")
        for run, analysis in zip(runs, analyses, strict=True)
        if analysis.collapsed is not None
    ]
    return [*collapsed, Table(caption, columns.split("|"), rows, "short"), Text(text, "hint")]


def _short(k: int, run: Run) -> Row:
    """The row of one run."""
    best = headline(run.results, run.balls)
    if best:
        bar = bar_of(best["robust"])
        found = [
            percent(float(best["natural"].mean())),
            percent(bar.accuracy),
            interval(bar.low, bar.high),
            count(best["examples"]),
            ", ".join(best["attacks"]),
        ]
    else:
        found = [*[Cell("–")] * 4, why_none(run.results, run.balls)]
    about = [run.label, run.data.get("name"), radius(run.balls)]
    return Row([run.name, *found[:-1], *about, found[-1]], k)


def _over_seeds(runs: Sequence[Run]) -> Row:
    """The row of runs that differ in their seed: mean and deviation, if measured alike."""
    seeds = ", ".join(str(run.seed) for run in runs)
    name, last = os.path.split(os.path.abspath(runs[0].path))
    name = os.path.basename(name) if last.startswith("seed-") else last
    name = f"{name} (seeds {seeds})"
    about = [runs[0].label, runs[0].data.get("name"), radius(runs[0].balls)]
    best = [headline(run.results, run.balls) for run in runs]
    measured = [one for one in best if one]
    alike = {(one["examples"], tuple(one["attacks"])) for one in measured}
    if len(measured) < len(runs) or len(alike) > 1:
        why = "not all evaluated" if len(measured) < len(runs) else "not all evaluated alike"
        return Row([name, *[Cell("–")] * 4, *about, why])
    cells = [_spread([float(one[key].mean()) for one in measured]) for key in ("natural", "robust")]
    examples, attacks = alike.pop()
    return Row([name, *cells, Cell("–"), count(examples), *about, ", ".join(attacks)])


def _spread(shares: Sequence[float]) -> Cell:
    """'95.13 ± 0.20', in percent."""
    mean, std = 100 * np.mean(shares), 100 * np.std(shares, ddof=1)
    return Cell(f"{mean:.2f} ± {std:.2f}", float(mean))


def missing(runs: Sequence[Run], analyses: Sequence[ModelAnalysis]) -> list[Block] | None:
    """What the folders lack, by run; None where nothing does."""
    parts: list[Block] = []
    for k, (run, analysis) in enumerate(zip(runs, analyses, strict=True)):
        notes = list(dict.fromkeys([*run.notes, *analysis.notes]))
        if notes:
            parts.append(Group([Items(notes)], run.name, k))
    return parts or None


def how(runs: Sequence[Run]) -> list[Block]:
    """Settings, data, versions and the operative configuration of each run."""
    return [_how(k, run) for k, run in enumerate(runs)]


def _span(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 120 else f"{seconds / 60:,.0f} minutes"


def _how(k: int, run: Run) -> Group:
    summary, own, given = run.summary, run.data, run.record["training"]
    terms = ", ".join(f"{name.rstrip('_')} {_text(value)}" for name, value in run.terms.items())
    parts = [part for part in ("train", "validation", "test") if own.get(part) is not None]
    sizes = [f"{_text(own[part])} {part}" for part in parts]
    seconds, parameters = summary.get("training_seconds"), run.network.get("parameters")
    took = seconds if isinstance(seconds, (int, float)) else None
    threat = run.record["threat"]
    attack = [
        f"{name} {_text(threat[key])}"
        for name, key in (("eps", "eps"), ("step size", "step_size"), ("steps", "steps"))
        if threat.get(key)
    ]
    if len(run.balls) > 1:
        attack = [str(threat.get("attack")), *attack[1:]]
    elif threat.get("norm", "Linf") != "Linf":
        attack = [threat["norm"], *attack]
    schedule = [
        f"{name} {_text(given[key]).lstrip('@')}"
        for name, key in (
            ("epochs", "epochs"),
            ("batch", "batch_size"),
            ("learning rate", "learning_rate"),
            ("weight decay", "weight_decay"),
            ("optimizer", "optimizer"),
        )
        if given.get(key) is not None
    ]
    pairs: list[tuple[Any, ...]] = [
        ("Folder", run.path, True),
        ("Method", f"{run.label} ({run.method})" if run.method else "unknown method"),
        ("Terms and weights", terms),
        ("Network", run.network.get("builder")),
        ("Parameters", f"{parameters:,}" if isinstance(parameters, int) else None),
        ("Training attack", ", ".join(attack)),
        ("Attack steps in training", run.attack_steps),
        ("Schedule", ", ".join(schedule)),
        ("Precision", run.precision),
        ("Seed", run.seed),
        ("Evaluated weights", summary.get("selected")),
        ("Best epoch", summary.get("best_epoch")),
        ("Training took", _span(took) if took else None),
        ("Data", ", ".join([str(own["name"]), *sizes]) if own.get("name") else None),
        ("Data fingerprint", own.get("fingerprint"), True),
        ("Versions", ", ".join(f"{a} {b}" for a, b in run.versions.items())),
    ]
    blocks: list[Block] = [Facts(pairs)]
    if run.configuration:
        lines = run.configuration.splitlines()
        lines = [line for line in lines if line and not line.startswith("#")]
        text = "\n".join(lines)
        blocks.append(Code(text, "gin", False, "Operative configuration (gin)"))
    return Group(blocks, run.name, k, element="article")


def training(runs: Sequence[Run], charts: Charts) -> list[Block]:
    """Accuracies, loss and its terms against the epoch."""
    shown = [(k, run) for k, run in enumerate(runs) if run.metrics]
    if not shown:
        return [Text("No run has left training metrics.", "missing")]
    figures = []
    for name, columns in _ACCURACIES.items():
        traces = []
        for k, run in shown:
            for column in columns:
                x, y = _column(run, column)
                if x:
                    validation = column.startswith("val_")
                    title = f"{run.name}, {'held out' if validation else 'training'}"
                    hover = "epoch %{x}: %{y:.2f} %"
                    more = {} if validation else {"mode": "lines", "opacity": 0.6}
                    traces.append(charts.line(k, title, x, [100 * v for v in y], hover, **more))
        if traces:
            figures.append(
                charts.add(
                    f"training-{name}",
                    f"{name.capitalize()} accuracy while training. Lines with markers: held-out "
                    "images; without: training images, as they came.",
                    f"Line chart of {name} accuracy against the epoch. " + _ends(shown, columns[1]),
                    traces,
                    ("epoch", f"{name} accuracy, %"),
                )
            )
    for k, run in shown:
        names = [key for key in run.metrics[0] if key not in _KNOWN and "accuracy" not in key]
        traces = []
        for position, key in enumerate(["loss", *names]):
            x, y = _column(run, key)
            if x:
                trace = charts.line(k, key.rstrip("_"), x, y, "epoch %{x}: %{y:.4g}", mode="lines")
                if key == "loss":
                    trace["line"] = {**trace["line"], "dash": "solid", "width": 3}
                else:
                    color = CLASSES[(position - 1) % len(CLASSES)]
                    dash = ("solid", "dash")[position % 2]
                    trace["line"] = {"color": color, "dash": dash, "width": 1.5}
                traces.append(trace)
        if traces:
            figures.append(
                charts.add(
                    f"loss-{k}-{slug(run.name)}",
                    f"{run.name}: the loss and its terms, unweighted.",
                    f"Line chart of the training loss of {run.name} and of its terms "
                    f"({', '.join(names) or 'one term'}) against the epoch.",
                    traces,
                    ("epoch", "loss"),
                    values=_metrics_table(k, run),
                    run=k,
                )
            )
    return [Group(figures, style="figures")]


def _column(run: Run, name: str) -> tuple[list[float], list[float]]:
    pairs = [(row["epoch"], row[name]) for row in run.metrics if _is_number(row.get(name))]
    return [x for x, _ in pairs], [float(y) for _, y in pairs]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _text(value: Any) -> str:
    """A number as readers have it; whatever else another version has written, as it stands."""
    if not _is_number(value):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _ends(shown: Sequence[tuple[int, Run]], column: str) -> str:
    """The last value of each run, in words."""
    said = []
    for _, run in shown:
        x, y = _column(run, column)
        if x:
            said.append(f"{run.name} ends at {100 * y[-1]:.2f} percent.")
    return " ".join(said)


def _metrics_table(k: int, run: Run) -> Table:
    names = list(dict.fromkeys(name for row in run.metrics for name in row))
    rows = [
        Row([number(row[name], 5) if _is_number(row.get(name)) else Cell("–") for name in names])
        for row in run.metrics
    ]
    titles = [name.rstrip("_").replace("_", " ") for name in names]
    return Table(f"{run.name}: all that was recorded in each epoch", titles, rows, f"metrics-{k}")
