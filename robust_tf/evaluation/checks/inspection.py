"""Signs that a robust accuracy is too high, looked for before the attacks and in their verdicts.

Sources: Athalye et al. (2018) and Carlini et al. (2019) for what masked gradients look like; Croce
& Hein (2020) and the program AutoAttack for tolerances.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from robust_tf import compat
from robust_tf.attacks.arguments import check_batch
from robust_tf.attacks.network import logits_of
from robust_tf.attacks.objectives import predicted_class
from robust_tf.attacks.threat import threat_of
from robust_tf.evaluation.checks import forward as forward_checks
from robust_tf.evaluation.checks.flags import Flag, flag
from robust_tf.evaluation.checks.forward import collapsed_class
from robust_tf.evaluation.checks.search import Search, gradients
from robust_tf.evaluation.defended import Defended, ExpectationOverTransformation
from robust_tf.models import BlackBox

EXAMPLES = 64  # that are looked at
DRAWS = 16  # of a random model, for one look at what it gives on average
LOW = ("bfloat16", "float16")


def inspect(
    model: Callable[..., Any],
    x: Any,
    y: Any,
    balls: Mapping[str, float],
    seed: int = 0,
    collapsed: int | None = None,
) -> list[Flag]:
    """Looks at a model, before it is attacked, for what makes attacks fail.

    Forward passes of the images as they are, in other batches and slightly changed; in each norm
    input gradients, PGD-20, PGD-100 from other starts, and PGD-50 with eps 1 (in L2
    and L1 as far as the box's middle from its corners). Images that are adversarial after one PGD
    do not go through the next, so that it takes longest on a robust model: as long as 170 gradients
    of the images for each norm.

    Of a `models.black_box`, whose gradients nobody follows, the forward passes alone.

    A network that predicts one class raises the flag 'collapsed' and no other: its gradients are
    small, and attacks on it fail, because it has not learnt, not because it hides them.

    Args:
      model: Keras model or any callable, images to logits (B, C).
      x: float32 images in [0, 1]; the first 64 are looked at.
      y: integer labels (B,). Misclassified images count for the range of the pixels and for the
        collapse alone.
      balls: radius eps by norm, 'Linf', 'L2' or 'L1'; > 0, in units of [0, 1].
      seed: of noise and random starts, >= 0.
      collapsed: the class that the model predicts on all of more images than these, where that is
        known; see `collapsed_class`.

    Returns:
      What was found; of a sound model, nothing. A flag that several norms raise is given once, for
      the first of them.

    Raises:
      TypeError, ValueError: images or labels that do not fit; eps or norm out of range.
    """
    for norm, eps in balls.items():
        if not threat_of(norm, eps).eps > 0:
            raise ValueError(f"eps={eps!r}: must be > 0; give the eps of the attacks.")
    images, labels = check_batch(x, y)
    x, y = images[:EXAMPLES].numpy(), labels[:EXAMPLES].numpy()
    if not len(x):
        raise ValueError("there are no images to look at; give up to 64.")
    forward = _in_numpy(model)
    found = _forward_flags(model, forward, x, y, seed)
    if any("accuracy_0_to_1" in one.figures for one in found):
        return found  # in a range that is not the model's no attack means anything
    if collapsed is None:
        collapsed = collapsed_class(
            predicted_class(logits_of(model, "running")(tf.constant(x))).numpy(), y
        )
    if collapsed is not None:
        return [flag("collapsed" if collapsed >= 0 else "collapsed/nan", predicted=collapsed)]
    if any(one.name == "randomness" for one in found) and not isinstance(
        model, ExpectationOverTransformation
    ):
        # One draw gives the gradient, as to an attack; what it achieved is not left to luck.
        forward = _in_numpy(ExpectationOverTransformation(model, DRAWS))
    right = forward(x).argmax(1) == y
    if isinstance(model, BlackBox) or not right.any():
        return found
    with warnings.catch_warnings():  # of probabilities, at each attack: the flag says it
        warnings.simplefilter("ignore", UserWarning)
        names = {one.name for one in found}
        for norm, eps in balls.items():
            for one in _search_flags(model, forward, (x[right], y[right]), (eps, norm), seed):
                if one.name not in names:
                    where = {"norm": norm} if len(balls) > 1 else {}
                    found.append(dataclasses.replace(one, figures={**where, **one.figures}))
            names = {one.name for one in found}
    return found


def _in_numpy(model: Callable[..., Any]) -> forward_checks.Forward:
    network = logits_of(model, "running")

    def forward(x: np.ndarray) -> np.ndarray:
        logits = network(tf.constant(x, tf.float32)).numpy().astype(np.float64)
        return np.nan_to_num(logits, nan=0.0, posinf=1e30, neginf=-1e30)

    return forward


def _forward_flags(
    model: Any,
    forward: forward_checks.Forward,
    x: np.ndarray,
    y: np.ndarray,
    seed: int,
) -> list[Flag]:
    logits = forward(x)
    own = None if isinstance(model, BlackBox) else forward_checks.probabilities(logits)
    found = [own, forward_checks.randomness(forward, x, logits)]
    if found[-1] is None:  # else every comparison of outputs would only find that again
        found.append(forward_checks.company(forward, x))
        if not _may_be_flat(model):
            found.append(
                forward_checks.steps(forward, x, logits, np.random.default_rng(seed))
                or forward_checks.clipped(forward, x, logits)
            )
    found.append(forward_checks.rescaled(forward, x, y, logits))
    return [one for one in found if one]


def _may_be_flat(model: Any) -> bool:
    """Attacked through a stand-in's gradient, or by none, or computed in few bits."""
    if isinstance(model, keras.layers.Layer):
        return any(layer.compute_dtype in LOW for layer in compat.layers_of(model))
    return isinstance(model, BlackBox) or (isinstance(model, Defended) and model.gradient != "own")


def _search_flags(
    model: Any,
    forward: forward_checks.Forward,
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
