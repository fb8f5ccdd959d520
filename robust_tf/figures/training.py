"""Training curves from metrics.jsonl: losses and their terms, accuracies, validation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from robust_tf.figures import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from robust_tf.runs import Run

Metrics = dict[str, np.ndarray]


def columns_of(run: Run) -> Metrics:
    """Columns of a run's metrics, each float (epochs,), nan where an epoch has no value.

    Raises:
      ValueError: no epoch of it can be read.
    """
    if not run.metrics:
        raise ValueError(f"{run.path}: {run.metrics_fault}")
    names = dict.fromkeys(name for row in run.metrics for name in row)
    return {name: np.array([row.get(name, np.nan) for row in run.metrics], float) for name in names}


# What is not a loss, beside the accuracies.
_OTHERS = ("epoch", "step", "images_per_second", "learning_rate", "collapsed")


def terms_of(metrics: Metrics) -> list[str]:
    """The names of the loss and its terms."""
    return [name for name in metrics if name not in _OTHERS and not name.endswith("accuracy")]


@style.drawing
def draw_training(runs: dict[str, Metrics], title: str = "") -> Figure:
    """Accuracies on training batches and on validation images, and the loss or its terms.

    Of one run every term is drawn, of several the whole loss.

    Args:
      runs: `columns_of` each, by name.
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
                        color=look.color,
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

    handles = [Line2D([], [], color=k.color, marker=k.marker, label=n) for n, k in looks.items()]
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
        colors = ("black", *style.CLASSES)
        for number, name in enumerate(names):
            axes.plot(
                metrics["epoch"],
                metrics[name],
                color=colors[number % len(colors)],
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
                    color=look.color,
                    ls=look.dash,
                    marker=look.marker,
                    ms=2.5,
                )
        axes.set_title("loss")
    axes.set_xlabel("epoch")
    style.log_scale(axes)
    axes.grid(True)
