"""Input gradients and PGD whose radius, step size, steps and seed are tensors of a graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from robust_tf.attacks.gradient import Ascent
from robust_tf.attacks.network import input_gradient, logits_of
from robust_tf.attacks.objectives import CrossEntropy
from robust_tf.attacks.randomness import fold
from robust_tf.attacks.steps import Steepest, UniformStart
from robust_tf.attacks.threat import Linf

# What `attack` takes after images and labels.
SPECS = (
    tf.TensorSpec([], tf.float32, name="eps"),
    tf.TensorSpec([], tf.float32, name="step_size"),
    tf.TensorSpec([], tf.int32, name="steps"),
    tf.TensorSpec([], tf.int32, name="seed"),
)
_UNIT = Linf(1.0)  # whose radius is an argument here


def gradient(
    model: Callable[..., Any], classes: int, x: tf.Tensor, y: tf.Tensor
) -> dict[str, tf.Tensor]:
    """loss, the cross-entropy float32 (B,), and gradient, that of each image, shape of x."""
    with tf.control_dependencies(_labels_fit(y, classes)):
        y = tf.identity(y)
    found, loss, _ = input_gradient(logits_of(model, "running"), CrossEntropy().values)(x, y, None)
    return {"loss": loss, "gradient": found}


def attack(
    model: Callable[..., Any],
    classes: int,
    x: tf.Tensor,
    y: tf.Tensor,
    eps: tf.Tensor,
    step_size: tf.Tensor,
    steps: tf.Tensor,
    seed: tf.Tensor,
) -> tf.Tensor:
    """PGD on the cross-entropy from a uniform start, as graph code with a loop of `steps` rounds.

    The start, the step and the projection are those of `attacks.PGD`, on the same random numbers:
    the result is that of `PGD(eps, step_size, steps)(model, x, y, seed=seed)` for the eps and step
    size that float32 holds.

    Args:
      model: images to logits (B, C).
      classes: C.
      x: float32 (B, ...) in [0, 1].
      y: int32 (B,) in 0..C-1.
      eps: float32 scalar >= 0, radius in L-inf, in units of [0, 1].
      step_size: float32 scalar >= 0.
      steps: int32 scalar >= 0; 0 gives the random start.
      seed: int32 scalar; the same one gives the same bits for the same batch.

    Returns:
      Images inside the ball and [0, 1]. Running it raises InvalidArgumentError for arguments
      outside these ranges.

    Source: Madry et al. (2018).
    """
    gradient_at = input_gradient(logits_of(model, "running"), CrossEntropy().values)
    checks = [*_in_range(x, eps, step_size, steps), *_labels_fit(y, classes)]
    with tf.control_dependencies(checks):
        x, y = tf.identity(x), tf.identity(y)
    bounds = _UNIT.bounds(x, eps)
    ascent = Ascent(_UNIT, bounds, step_size, Steepest(1.0))
    # As `attacks.randomness.as_seed` makes of a Python int.
    pair = tf.stack([tf.bitwise.bitwise_and(seed, 2**31 - 1), 0])
    start = UniformStart()(_UNIT, bounds, fold(pair, 0))
    return tf.stop_gradient(ascent.repeat(lambda x: gradient_at(x, y, None), start, steps))


def _labels_fit(y: tf.Tensor, classes: int) -> list[tf.Operation]:
    """Fails for labels that are no class: their gradient would be 0, and all seem robust."""
    message = f"labels must be in 0..{classes - 1}."
    return [
        tf.debugging.assert_non_negative(y, message),
        tf.debugging.assert_less(y, classes, message),
    ]


def _in_range(
    x: tf.Tensor, eps: tf.Tensor, step_size: tf.Tensor, steps: tf.Tensor
) -> list[tf.Operation]:
    message = "images must be in [0, 1]; divide pixels 0..255 by 255."
    numbers = {"eps": eps, "step_size": step_size, "steps": steps}
    return [
        tf.debugging.assert_non_negative(x, message),
        tf.debugging.assert_less_equal(x, 1.0, message),
        *(tf.debugging.assert_non_negative(v, f"{k} must be >= 0.") for k, v in numbers.items()),
    ]
