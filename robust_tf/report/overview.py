"""The report's first sections: the runs in short, what is missing, how they were trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from robust_tf.figures.bars import bar_of
from robust_tf.figures.style import CLASSES
from robust_tf.report.charts import Charts
from robust_tf.report.markup import Html, join, tag
from robust_tf.report.measured import headline, why_none
from robust_tf.report.runs import Run
from robust_tf.report.tables import Cell, Row, count, facts, interval, number, percent, slug, table

_KNOWN = ("epoch", "step", "images_per_second", "learning_rate", "loss")
_ACCURACIES = {
    "natural": ("natural_accuracy", "val_natural_accuracy"),
    "robust": ("robust_accuracy", "val_robust_accuracy"),
}


def in_short(runs: Sequence[Run]) -> Html:
    """One row for each run."""
    rows = []
    for k, run in enumerate(runs):
        best = headline(run.measured, run.eps)
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
            found = [*[Cell("–")] * 4, why_none(run.measured, run.eps)]
        about = [run.label, run.data.get("name"), number(run.eps)]
        cells = [run.name, *found[:-1], *about, found[-1]]
        rows.append(Row(cells, k))
    columns = "Run|Natural, %|Worst case, %|95 % interval|Images|Method|Data|eps|Attacks"
    text = (
        "The worst case counts an image only if it withstood every attack named here, all of them "
        "with an eps up to that of the training. It is an upper bound: the next attack may find "
        "more. The interval is Wilson's, for the choice of images alone."
    )
    caption = "Natural accuracy and worst case of each run"
    return join(
        table(caption, columns.split("|"), rows, "short"),
        tag("p", text, class_="hint"),
    )


def missing(runs: Sequence[Run]) -> Html | None:
    """What the folders lack, by run; None where nothing does."""
    parts = []
    for k, run in enumerate(runs):
        if run.notes:
            items = [tag("li", note) for note in dict.fromkeys(run.notes)]
            parts.append(tag("div", tag("h3", run.name), tag("ul", items), data_run=k))
    return join(parts) if parts else None


def how(runs: Sequence[Run]) -> Html:
    """Settings, data, versions and the operative configuration of each run."""
    return join([_how(k, run) for k, run in enumerate(runs)])


def _how(k: int, run: Run) -> Html:
    summary, own = run.summary, run.data
    weights = summary.get("weights")
    terms = (
        ", ".join(f"{name.rstrip('_')} {_text(value)}" for name, value in weights.items())
        if isinstance(weights, dict)
        else None
    )
    parts = [part for part in ("train", "validation", "test") if own.get(part) is not None]
    sizes = [f"{_text(own[part])} {part}" for part in parts]
    versions = summary.get("versions")
    said = (
        ", ".join(f"{a} {b}" for a, b in versions.items()) if isinstance(versions, dict) else None
    )
    seconds, parameters = summary.get("training_seconds"), summary.get("parameters")
    took = seconds if isinstance(seconds, (int, float)) else None
    attack = [
        f"{name} {run.bound(macro)}"
        for name, macro in (("eps", "eps"), ("step size", "step_size"), ("steps", "steps"))
        if run.bound(macro)
    ]
    schedule = [
        f"{name} {run.bound(key)}"
        for name, key in (
            ("epochs", "train.epochs"),
            ("batch", "train.batch_size"),
            ("learning rate", "train.learning_rate"),
            ("weight decay", "train.weight_decay"),
            ("optimiser", "train.optimizer"),
        )
        if run.bound(key)
    ]
    pairs: list[tuple[str, Any]] = [
        ("Folder", tag("code", run.path)),
        ("Method", f"{run.label} ({run.method})" if run.method else run.label),
        ("Terms and weights", terms),
        ("Network", (run.bound("train.network") or "").lstrip("@") or None),
        ("Parameters", f"{parameters:,}" if isinstance(parameters, int) else None),
        ("Training attack", ", ".join(attack)),
        ("Schedule", ", ".join(schedule).replace("@", "")),
        ("Precision", (run.bound("train.dtype_policy") or "").strip("'") or None),
        ("Seed", run.bound("train.seed")),
        ("Evaluated weights", summary.get("selected")),
        ("Best epoch", summary.get("best_epoch")),
        ("Training took", f"{took / 60:,.0f} minutes" if took else None),
        ("Data", ", ".join([str(own["name"]), *sizes]) if own else None),
        ("Data fingerprint", tag("code", own["fingerprint"]) if own.get("fingerprint") else None),
        ("Versions", said),
    ]
    config = None
    if run.config:
        lines = [line for line in run.config.splitlines() if line and not line.startswith("#")]
        config = tag(
            "details",
            tag("summary", "Operative configuration (gin)"),
            tag("pre", tag("code", "\n".join(lines)), tabindex="0", aria_label="gin"),
        )
    return tag("article", tag("h3", run.name), facts(pairs), config, data_run=k)


def training(runs: Sequence[Run], charts: Charts) -> Html:
    """Accuracies, loss and its terms against the epoch."""
    shown = [(k, run) for k, run in enumerate(runs) if run.metrics]
    if not shown:
        return tag("p", "No run has left training metrics.", class_="missing")
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
                    colour = CLASSES[(position - 1) % len(CLASSES)]
                    dash = ("solid", "dash")[position % 2]
                    trace["line"] = {"color": colour, "dash": dash, "width": 1.5}
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
    return tag("div", figures, class_="figures")


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


def _metrics_table(k: int, run: Run) -> Html:
    names = list(dict.fromkeys(name for row in run.metrics for name in row))
    rows = [
        Row([number(row[name], 5) if _is_number(row.get(name)) else Cell("–") for name in names])
        for row in run.metrics
    ]
    titles = [name.rstrip("_").replace("_", " ") for name in names]
    return table(f"{run.name}: all that was recorded in each epoch", titles, rows, f"metrics-{k}")
