"""Signs that a robust accuracy is too high, looked for before the attacks and in their verdicts.

Sources: Athalye et al. (2018) and Carlini et al. (2019) for what masked gradients look like; Croce
& Hein (2020) and the program AutoAttack for tolerances.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from robust_tf import compat
from robust_tf.attacks import Attack, presets
from robust_tf.attacks.arguments import check_batch
from robust_tf.attacks.network import logits_of
from robust_tf.attacks.objectives import Margin
from robust_tf.evaluation import checks_forward
from robust_tf.evaluation.adaptive import Averaged, Defended
from robust_tf.evaluation.checks_flag import Flag, flag
from robust_tf.evaluation.checks_search import Search, gradients

__all__ = ["Flag", "inspect", "review", "weak_battery"]

EXAMPLES = 64  # that are looked at
DRAWS = 16  # of a random model, for one look at what it gives on average
LOW = ("bfloat16", "float16")


def inspect(
    model: Callable[..., Any], x: Any, y: Any, eps: float, norm: str = "Linf", seed: int = 0
) -> list[Flag]:
    """Looks at a model, before it is attacked, for what fools attacks.

    Forward passes of the images as they are, in other company and slightly changed; input
    gradients; PGD-20, PGD-100 from other starts, and PGD-50 with eps 1 (half the box's diagonal in
    L2). Images that one PGD has broken do not go through the next, so that it takes longest on a
    robust model: as long as 170 gradients of the images.

    Args:
      model: Keras model or any callable, images to logits (B, C).
      x: float32 images in [0, 1]; the first 64 are looked at.
      y: integer labels (B,). Misclassified images count for the range of the pixels alone.
      eps: radius of the ball, > 0, in units of [0, 1].
      norm: 'Linf' or 'L2'.
      seed: of noise and random starts, >= 0.

    Returns:
      What was found; of a sound model, nothing.

    Raises:
      TypeError, ValueError: images or labels that do not fit; eps or norm out of range.
    """
    if not presets.threat(norm, eps).eps > 0:
        raise ValueError(f"eps={eps!r}: must be > 0; give the eps of the attacks.")
    images, labels = check_batch(x, y)
    x, y = images[:EXAMPLES].numpy(), labels[:EXAMPLES].numpy()
    if not len(x):
        raise ValueError("there are no images to look at; give up to 64.")
    forward = _in_numpy(model)
    found = _forward_flags(model, forward, x, y, seed)
    if any("accuracy_0_to_1" in one.figures for one in found):
        return found  # in a range that is not the model's no attack means anything
    if any(one.name == "randomness" for one in found) and not isinstance(model, Averaged):
        # One draw gives the gradient, as to an attack; what it achieved is not left to luck.
        forward = _in_numpy(Averaged(model, DRAWS))
    right = forward(x).argmax(1) == y
    if not right.any():
        return found
    with warnings.catch_warnings():  # of probabilities, at each attack: the flag says it
        warnings.simplefilter("ignore", UserWarning)
        return found + _search_flags(model, forward, (x[right], y[right]), (eps, norm), seed)


def _in_numpy(model: Callable[..., Any]) -> checks_forward.Forward:
    network = logits_of(model, "running")

    def forward(x: np.ndarray) -> np.ndarray:
        logits = network(tf.constant(x, tf.float32)).numpy().astype(np.float64)
        return np.nan_to_num(logits, nan=0.0, posinf=1e30, neginf=-1e30)

    return forward


def _forward_flags(
    model: Any,
    forward: checks_forward.Forward,
    x: np.ndarray,
    y: np.ndarray,
    seed: int,
) -> list[Flag]:
    logits = forward(x)
    found = [checks_forward.probabilities(logits), checks_forward.randomness(forward, x, logits)]
    if found[-1] is None:  # else every comparison of outputs would only find that again
        found.append(checks_forward.company(forward, x))
        if not _may_be_flat(model):
            found.append(
                checks_forward.steps(forward, x, logits, np.random.default_rng(seed))
                or checks_forward.clipped(forward, x, logits)
            )
    found.append(checks_forward.rescaled(forward, x, y, logits))
    return [one for one in found if one]


def _may_be_flat(model: Any) -> bool:
    """Attacked through a stand-in's gradient, or computed in few bits: steps are no surprise."""
    if isinstance(model, keras.layers.Layer):
        return any(layer.compute_dtype in LOW for layer in compat.layers_of(model))
    return isinstance(model, Defended) and model.gradient != "own"


def _search_flags(
    model: Any,
    forward: checks_forward.Forward,
    examples: tuple[np.ndarray, np.ndarray],
    ball: tuple[float, str],
    seed: int,
) -> list[Flag]:
    (x, y), (eps, norm) = examples, ball
    masked = gradients(logits_of(model, "running"), tf.constant(x), tf.constant(y), norm)
    if masked and "error" in masked.figures:
        return [masked]
    search = Search(model, forward, x, y, eps, norm, seed)
    found = [masked, search.rises(), search.more_steps(), search.large_eps()]
    return [one for one in found if one]


def review(
    natural: np.ndarray,
    robust: Mapping[str, np.ndarray],
    attacks: Mapping[str, Attack | str],
) -> list[Flag]:
    """Looks at the verdicts, after the attacks.

    Args:
      natural: bool (N,), whether the clean image is classified correctly.
      robust: for each attack, bool (N,), whether that held under it.
      attacks: by the same names: the attack, or 'white' or 'black'. One that has stages of both
        kinds (AutoAttack) counts as neither: give its stages under names of their own.
    """
    found = [_black_box_stronger(natural, robust, attacks), _restarts_help(robust, attacks)]
    return [one for one in found if one]


def weak_battery(attacks: Mapping[str, Attack] | Iterable[Attack]) -> Flag | None:
    """Says what these attacks lack for a claim of robustness; None if nothing.

    A claim takes APGD on the cross-entropy, a targeted or margin attack, and a black-box one.
    """
    given = list(attacks.values()) if isinstance(attacks, Mapping) else list(attacks)
    have = {strength for attack in given for stage in _stages(attack) for strength in _has(stage)}
    wanted = ("APGD on the cross-entropy", "a targeted or margin attack", "a black-box attack")
    missing = [strength for strength in wanted if strength not in have]
    return flag("weak_battery", missing=missing) if missing else None


def _black_box_stronger(
    natural: np.ndarray, robust: Mapping[str, np.ndarray], attacks: Mapping[str, Attack | str]
) -> Flag | None:
    """More than 0.2 points, as in AutoAttack, and two images at least."""
    white = [robust[name] for name in robust if _colour(attacks[name]) == "white"]
    black = {name: robust[name] for name in robust if _colour(attacks[name]) == "black"}
    if not white or not black:
        return None
    stands = np.logical_and.reduce([natural, *white])
    alone = {name: int((stands & ~verdict).sum()) for name, verdict in black.items()}
    images = int((stands & ~np.logical_and.reduce(list(black.values()))).sum())
    if images < 2 or images <= 0.002 * len(natural):
        return None
    return flag("black_box_stronger", images=images, points=100 * images / len(natural), **alone)


def _restarts_help(
    robust: Mapping[str, np.ndarray], attacks: Mapping[str, Attack | str]
) -> Flag | None:
    """Five points, more than they make on a sound model, and two images at least."""
    efforts = {name: _effort(attacks[name]) for name in robust}
    worst, figures = 0.05, None
    for less, more in itertools.permutations([name for name in robust if efforts[name]], 2):
        base, steps, restarts = efforts[less]  # type: ignore[misc]
        other, more_steps, more_restarts = efforts[more]  # type: ignore[misc]
        broken = int(robust[less].sum()) - int(robust[more].sum())
        gain = broken / len(robust[less])
        harder = base == other and steps <= more_steps and restarts <= more_restarts
        if harder and broken >= 2 and gain > worst:
            worst, figures = gain, {"less": less, "more": more, "points": 100 * gain}
    return flag("restarts_help", **figures) if figures else None


def _effort(attack: Attack | str) -> tuple[dict[str, Any], int, int] | None:
    """What an attack is beside its number of steps and of restarts, and these."""
    if isinstance(attack, str):
        return None
    config = attack.get_config()
    inner = config.pop("attack", None)  # of what a wrapper repeats
    if isinstance(inner, dict):
        config.update(inner["config"])
    steps, restarts = config.pop("steps", None), config.pop("restarts", 1)
    if not isinstance(steps, int):
        return None
    for detail in ("step", "keep"):  # steps are smaller where they are more
        config.pop(detail, None)
    return {"kind": type(attack).__name__, **config}, steps, restarts


def _stages(attack: Attack) -> list[Attack]:
    """All attacks of which this one is the worst case."""
    stages = [stage for _, stage in attack.stages()]
    if stages == [attack]:
        return stages
    return [inner for stage in stages for inner in _stages(stage)]


def _colour(attack: Attack | str) -> str:
    """'white', 'black', or 'both'."""
    if isinstance(attack, str):
        return attack
    kinds = {bool(getattr(stage, "black_box", False)) for stage in _stages(attack)}
    return "both" if len(kinds) > 1 else "black" if kinds == {True} else "white"


def _has(attack: Attack) -> Iterator[str]:
    """What an attack adds to a battery."""
    kind = type(attack).__name__
    if getattr(attack, "black_box", False):
        yield "a black-box attack"
    elif kind == "APGD" and getattr(attack, "loss", None) == "ce":
        yield "APGD on the cross-entropy"
    elif kind in ("APGD", "APGDTargeted", "FAB", "MultiTargeted") or isinstance(
        getattr(attack, "objective", None), Margin
    ):
        yield "a targeted or margin attack"
