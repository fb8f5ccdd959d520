"""Robust accuracy against eps, and against the number of steps (ADR Figures 2, 6, 7; ATLD 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from robust_tf.attacks import PGD, Attack
from robust_tf.attacks.network import logits_of
from robust_tf.evaluation import Evaluation, attacks_from_json
from robust_tf.evaluation.attack_names import eps_of, norm_of
from robust_tf.figures import style
from robust_tf.figures.bars import wilson
from robust_tf.figures.forward import Model, adversarial_at, batched

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARKERS = 12  # on a curve, about


class Curve(NamedTuple):
    """Accuracy in [0, 1] at each x (eps, or a number of steps), with a 95 % interval; all (k,)."""

    x: np.ndarray
    accuracy: np.ndarray
    low: np.ndarray
    high: np.ndarray


def curve_of(x: Sequence[float], counts: Sequence[int], examples: int) -> Curve:
    """A curve from the number of images that withstood, out of `examples`, at each x."""
    low, high = wilson(np.asarray(counts), examples)
    return Curve(np.asarray(x, float), np.asarray(counts) / max(examples, 1), low, high)


def eps_curve(evaluation: Evaluation, norm: str = "Linf") -> Curve:
    """Worst case against eps, from what an evaluation found; begins with eps 0, natural accuracy.

    Raises:
      ValueError: it has no attack of a known eps in this norm.
    """
    known = norms_of(evaluation)
    points = evaluation.curves().get(norm)
    if not points:
        raise ValueError(
            f"the evaluation has no attack in {norm}{f', only in {known}' if known else ''}; "
            f'evaluate with --attacks="FMN(norm=\'{norm}\')" or "PGD(eps=[0.1, 0.2, 0.3], ...)".'
        )
    counts = [round(accuracy * len(evaluation)) for _, accuracy in points]
    return curve_of([eps for eps, _ in points], counts, len(evaluation))


def norms_of(evaluation: Evaluation) -> list[str]:
    """The norms in which an evaluation has attacks of a known eps, or distances."""
    if not evaluation.settings.get("balls"):  # one that an earlier version wrote
        evaluation.settings["balls"] = _balls(evaluation)
    return sorted(evaluation.curves())


def accuracy_against_eps(
    model: Model,
    x: np.ndarray,
    y: np.ndarray,
    eps: Sequence[float],
    steps: int = 40,
    step_fraction: float = 0.1,
    seed: int = 0,
    source: Model | None = None,
    norm: str = "Linf",
) -> Curve:
    """Accuracy under PGD of `steps` steps of step_fraction * eps, at each eps >= 0 in this norm.

    Unlike `eps_curve`, each point is its own attack, not the worst case over the smaller ones. The
    attacks are made on `source`, such as the network without its defence; None: on the model.
    """
    attacks = [PGD(r, step_fraction * r, steps, norm=norm) if r else None for r in eps]
    return curve_of(eps, _standing(model, x, y, attacks, seed, source), len(y))


def accuracy_against_steps(
    model: Model,
    x: np.ndarray,
    y: np.ndarray,
    eps: float,
    steps: Sequence[int],
    step_size: float | None = None,
    seed: int = 0,
    source: Model | None = None,
) -> Curve:
    """Accuracy under PGD of each number of steps >= 0, of one `step_size`, by default eps / 10.

    The attacks are made on `source`, see `accuracy_against_eps`.
    """
    attacks = [PGD(eps, step_size or eps / 10, count) if count else None for count in steps]
    return curve_of(steps, _standing(model, x, y, attacks, seed, source), len(y))


@style.drawing
def draw_curves(
    curves: dict[str, Curve],
    xlabel: str = "eps",
    title: str = "",
    trained_at: float | None = None,
    bottom: float | None = None,
) -> Figure:
    """Accuracy against x for each model by name, with bands of 95 %.

    Args:
      curves: by the model's name.
      xlabel: 'eps' or 'steps'.
      title: above the axes.
      trained_at: where on the x axis the models were trained; a thin line.
      bottom: lowest accuracy that is shown; None shows all of them.
    """
    style.check_named(curves, "curves")
    figure = style.new_figure(style.COLUMN, 2.9)
    axes = figure.add_subplot()
    looks = style.looks(curves)
    for name, curve in curves.items():
        look = looks[name]
        axes.fill_between(curve.x, curve.low, curve.high, color=look.color, alpha=0.15, lw=0)
        every = -(-len(curve.x) // MARKERS)  # curves from distances have many points
        line = {"color": look.color, "marker": look.marker, "ls": look.dash, "markevery": every}
        axes.plot(curve.x, curve.accuracy, **line)
    axes.set(xlabel=xlabel, ylabel="robust accuracy", title=title)
    axes.grid(True)
    axes.locator_params(axis="x", nbins=6)
    style.percent(axes)
    lowest = min(float(curve.low.min()) for curve in curves.values())
    axes.set_ylim(max(lowest - 0.03, -0.01) if bottom is None else bottom, 1.01)
    if trained_at is not None:
        axes.axvline(trained_at, color="#404040", lw=0.7, ls=style.DOTTED)
        axes.annotate(
            "trained at",
            (trained_at, 0.02),
            (-3, 0),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            fontsize=6.5,
            color="#404040",
            rotation=90,
            ha="right",
        )
    style.legend_below(figure, style.method_handles(looks), 3)
    return figure


def _standing(
    model: Model,
    x: np.ndarray,
    y: np.ndarray,
    attacks: Sequence[Attack | None],
    seed: int,
    source: Model | None,
) -> list[int]:
    """How many images are correct before and after each attack; None attacks nothing.

    As in `Evaluation`: an image that only a random start corrects is not robust.
    """
    predict = batched(logits_of(model, "running"), np.shape(x)[1:])
    natural = predict(x).argmax(1) == y
    counts = []
    for attack in attacks:
        robust = natural
        if attack is not None:
            moved = adversarial_at(source or model, x, y, 0.0, attack, seed)
            robust = natural & (predict(moved).argmax(1) == y)
        counts.append(int(robust.sum()))
    return counts


def _balls(evaluation: Evaluation) -> dict[str, list]:
    """Norm and eps of each attack, from the attacks themselves."""
    parts = {name: {"attack": one} for name, one in evaluation.settings["attacks"].items()}
    made = attacks_from_json({"attacks": parts})
    return {name: [norm_of(one), eps_of(one)] for name, one in made.items()}
