"""Training curves from metrics.jsonl: losses and their terms, accuracies, validation."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from robust_tf import files
from robust_tf.figures import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Metrics = dict[str, np.ndarray]


def read_metrics(run_dir: str | os.PathLike[str]) -> Metrics:
    """Columns of a run's metrics.jsonl, each float (epochs,), nan where an epoch has no value.

    A last line that is cut off, of a run that still writes, is left out.

    Raises:
      FileError: no such file. ValueError: no whole line in it, or one that is not a row.
    """
    path = os.path.join(os.fspath(run_dir), "metrics.jsonl")
    lines = files.read_text(path).splitlines()
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            if number == len(lines):
                break
            raise ValueError(f"{path}, line {number} is not JSON: {error}.") from error
        if not isinstance(row, dict) or "epoch" not in row:
            raise ValueError(f"{path}, line {number} is not a row of metrics; it has no 'epoch'.")
        rows.append(row)
    if not rows:
        raise ValueError(f"{path} has no finished epoch; wait for the first, or train again.")
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: np.array([row.get(name, np.nan) for row in rows], float) for name in names}


# What is not a loss, beside the accuracies.
_OTHERS = ("epoch", "step", "images_per_second", "learning_rate")


def terms_of(metrics: Metrics) -> list[str]:
    """The names of the loss and its terms."""
    return [name for name in metrics if name not in _OTHERS and not name.endswith("accuracy")]


@style.drawing
def draw_training(runs: dict[str, Metrics], title: str = "") -> Figure:
    """Accuracies on training batches and on validation images, and the loss or its terms.

    Of one run every term is drawn, of several the whole loss.

    Args:
      runs: `read_metrics` of each, by name.
      title: above all.
    """
    style.check_named(runs, "runs")
    figure = style.new_figure(style.PAGE, 2.7)
    panels = figure.subplots(1, 3)
    looks = style.looks(runs)
    for axes, (kind, heading) in zip(
        panels, [("natural_accuracy", "natural"), ("robust_accuracy", "robust")], strict=False
    ):
        for name, metrics in runs.items():
            look = looks[name]
            for prefix, dash, width in (("", style.DOTTED, 1.0), ("val_", style.SOLID, 1.4)):
                values = metrics.get(prefix + kind)
                if values is not None and np.isfinite(values).any():
                    known = np.isfinite(values)
                    x = metrics["epoch"][known]
                    size = 4.0 if prefix else 2.5
                    axes.plot(
                        x,
                        values[known],
                        color=look.colour,
                        ls=dash,
                        lw=width,
                        marker=look.marker,
                        ms=size,
                    )
        axes.set(xlabel="epoch", title=f"{heading} accuracy")
        axes.grid(True)
        style.percent(axes)
    _draw_losses(panels[2], runs, looks)
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=k.colour, marker=k.marker, label=n) for n, k in looks.items()]
    handles += [
        Line2D([], [], color="black", label="validation"),
        Line2D([], [], color="black", ls=style.DOTTED, lw=1.0, label="training batches"),
    ]
    style.legend_below(figure, handles, 5)
    if title:
        figure.suptitle(title)
    return figure


def _draw_losses(axes: Any, runs: dict[str, Metrics], looks: dict[str, style.Look]) -> None:
    """The terms of one run, or the losses of several."""
    if len(runs) == 1:
        [metrics] = runs.values()
        names = terms_of(metrics)
        colours = ("black", *style.CLASSES)
        for number, name in enumerate(names):
            axes.plot(
                metrics["epoch"],
                metrics[name],
                color=colours[number % len(colours)],
                ls=(style.SOLID, style.DASHED)[number % 2],
                label=name.rstrip("_"),
            )
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
        axes.set_title("loss and its terms")
    else:
        for name, metrics in runs.items():
            if "loss" in metrics:
                look = looks[name]
                axes.plot(
                    metrics["epoch"],
                    metrics["loss"],
                    color=look.colour,
                    ls=look.dash,
                    marker=look.marker,
                    ms=2.5,
                )
        axes.set_title("loss")
    axes.set_xlabel("epoch")
    style.log_scale(axes)
    axes.grid(True)
