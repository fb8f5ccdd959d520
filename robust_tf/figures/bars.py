"""Ablations and comparisons as bars with intervals: natural, PGD, AutoAttack."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from robust_tf import compat
from robust_tf.evaluation import Evaluation
from robust_tf.figures import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Bar(NamedTuple):
    """An accuracy in [0, 1], its 95 % interval, and of how many images."""

    accuracy: float
    low: float
    high: float
    examples: int


def wilson(
    successes: np.ndarray | int, trials: np.ndarray | int, z: float = 1.959964
) -> tuple[np.ndarray, np.ndarray]:
    """The Wilson score interval of a proportion, at 95 % by default.

    Args:
      successes: counts, any shape.
      trials: counts >= 1, broadcast against them.
      z: normal quantile.

    Returns:
      Lower and upper ends in [0, 1].

    Raises:
      ValueError: no trials, or more successes than trials.

    Source: Wilson (1927).
    """
    k, n = np.asarray(successes, float), np.asarray(trials, float)
    if np.any(n < 1) or np.any(k < 0) or np.any(k > n):
        raise ValueError(f"{successes} of {trials}: must be counts with 0 <= successes <= trials.")
    share, weight = k / n, z * z / n
    centre = (share + weight / 2) / (1 + weight)
    half = z * np.sqrt(share * (1 - share) / n + weight / (4 * n)) / (1 + weight)
    return np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)


def bar_of(verdicts: np.ndarray) -> Bar:
    """The bar of per-example verdicts bool (n,), n >= 1."""
    count, total = int(np.sum(verdicts)), len(verdicts)
    low, high = wilson(count, total)
    return Bar(count / total, float(low), float(high), total)


def bars_of(evaluation: Evaluation) -> dict[str, Bar]:
    """'natural', each attack by name, and 'worst case' where there are several attacks.

    Attacks that measure distances have no bar of their own.
    """
    bars = {"natural": bar_of(evaluation.natural)}
    verdicts = {n: v for n, v in evaluation.robust.items() if n not in evaluation.distances}
    bars |= {name: bar_of(robust) for name, robust in verdicts.items()}
    if verdicts and len(evaluation.robust) > 1:
        bars["worst case"] = bar_of(evaluation.worst_case)
    return bars


def merged_bars(found: Mapping[str, Sequence[Evaluation]]) -> dict[str, dict[str, Bar]]:
    """Bars of models, each from several evaluations; of one measure that with the most images.

    Attacks of one name that differ are told apart by what differs, 'PGD-40 eps=0.3 step_size=0.01'.
    There is a 'worst case' only where each model has one evaluation, all of the same attacks.

    Args:
      found: by the model's name.
    """
    every = [one for own in found.values() for one in own]
    kinds: dict[str, list[dict[tuple[str, ...], Any]]] = {}
    for one in every:
        for name in one.outcomes:
            kinds.setdefault(name, []).append(_settings(one, name))
    labels = {name: _differences(variants) for name, variants in kinds.items()}
    single = all(len(own) == 1 for own in found.values())
    comparable = single and all(len(variants) == len(every) for variants in kinds.values())
    made: dict[str, dict[str, Bar]] = {name: {} for name in found}
    for model, own in found.items():
        for one in own:
            for name, bar in bars_of(one).items():
                if name in one.outcomes:
                    settings = _settings(one, name)
                    differs = [f"{p[-1]}={settings[p]}" for p in labels[name] if p in settings]
                    name = " ".join([name, *differs])
                elif name == "worst case" and not comparable:
                    continue
                if name not in made[model] or made[model][name].examples < bar.examples:
                    made[model][name] = bar
    return made


def _settings(evaluation: Evaluation, name: str) -> dict[tuple[str, ...], Any]:
    """All numbers and words in the configuration of an attack, by where they stand in it."""
    config = evaluation.settings.get("attacks", {}).get(name, {})
    with contextlib.suppress(Exception):  # what is not known here is compared as it was written
        config = compat.serialize(compat.deserialize(config))  # with defaults of this version
    leaves: dict[tuple[str, ...], Any] = {}

    def walk(value: Any, path: tuple[str, ...]) -> None:
        if isinstance(value, dict):
            for key, part in value.items():
                if key not in ("module", "registered_name"):  # the class is enough
                    walk(part, (*path, key))
        else:
            leaves[path] = str(value)

    walk(config, ())
    return leaves


def _differences(variants: Sequence[dict[tuple[str, ...], Any]]) -> list[tuple[str, ...]]:
    """Where these configurations are not the same."""
    paths = dict.fromkeys(path for one in variants for path in one)
    return [path for path in paths if len({one.get(path) for one in variants}) > 1]


@style.drawing
def draw_bars(bars: dict[str, dict[str, Bar]], bottom: float = 0.0, title: str = "") -> Figure:
    """Groups of bars, one group for each measure, one bar for each model, with 95 % intervals.

    Args:
      bars: by the model's name, then by the measure, such as 'natural' or 'PGD-40 eps=0.3'. What a
        model lacks is left out.
      bottom: lowest accuracy shown, in [0, 1); the axis says so where it is not 0.
      title: above the axes.
    """
    from matplotlib.patches import Patch
    from matplotlib.patheffects import withStroke

    style.check_named(bars, "models with their bars")
    if not 0 <= bottom < 1:
        raise ValueError(f"bottom={bottom!r}: must be in [0, 1).")
    measures = list(dict.fromkeys(measure for own in bars.values() for measure in own))
    fills, width = style.fills(bars), 0.84 / len(bars)
    figure = style.new_figure(min(style.PAGE, 1.2 + 0.3 * len(bars) * len(measures)), 2.8)
    axes = figure.add_subplot()
    for position, (name, own) in enumerate(bars.items()):
        for group, measure in enumerate(measures):
            if measure in own:
                bar = own[measure]
                x = group + (position - (len(bars) - 1) / 2) * width
                height = max(bar.accuracy - bottom, 0)
                axes.bar(x, height, width * 0.9, bottom, **fills[name])
                if bar.high > bottom:
                    low = max(bar.low, bottom)
                    [line] = axes.plot([x, x], [low, bar.high], color="black", lw=0.8)
                    line.set_path_effects([withStroke(linewidth=1.8, foreground="white")])
                at = max(bar.high, bottom) + 0.018 * (1 - bottom)
                text = f"{100 * bar.accuracy:.1f}"
                axes.text(x, at, text, ha="center", va="bottom", fontsize=6, rotation=90)
    axes.set_xticks(range(len(measures)), [_broken(measure) for measure in measures])
    axes.tick_params(axis="x", length=0)
    axes.set(ylabel="accuracy", title=title, ylim=(bottom, 1 + 0.16 * (1 - bottom)))
    axes.set_yticks([tick for tick in axes.get_yticks() if bottom <= tick <= 1])
    axes.set_ylim(bottom, 1 + 0.16 * (1 - bottom))
    style.percent(axes)
    if bottom:
        axes.set_ylabel(f"accuracy (axis begins at {100 * bottom:g} %)")
    axes.grid(True, axis="y")
    style.legend_below(figure, [Patch(**fill, label=name) for name, fill in fills.items()], 5)
    return figure


def _broken(text: str, width: int = 14) -> str:
    """The text in lines of about so many letters."""
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)
