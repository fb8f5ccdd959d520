"""The loss on the way to adversarial and to collaborative examples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from robust_tf import losses
from robust_tf.attacks.arguments import check_batch, check_logits, check_values
from robust_tf.attacks.gradient import Ascent
from robust_tf.attacks.network import input_gradient, logits_of
from robust_tf.attacks.steps import Steepest
from robust_tf.attacks.threat import Linf
from robust_tf.validation import check_whole


class LossProfile(NamedTuple):
    """Cross-entropies in nats, float32 (steps + 1, n): row k is of all images after k steps.

    collaborative: while the loss descends; adversarial: while it ascends. Means over the images are
    `profile.adversarial.mean(axis=1)`.
    """

    collaborative: np.ndarray
    adversarial: np.ndarray


def loss_profile(
    model: Callable[..., Any],
    x: np.ndarray,
    y: np.ndarray,
    eps: float,
    step_size: float,
    steps: int,
    batch_size: int = 256,
) -> LossProfile:
    """Losses along projected steps of `Collaborative` and of `BIM`, both from the clean image.

    Nothing is random: the first row is the loss of the clean images. steps + 1 forwards and steps
    gradients for each direction.

    Args:
      model: Keras model or any callable from images (B, H, W, C) to logits (B, C).
      x: float32 images (n, H, W, C) in [0, 1].
      y: integer labels (n,).
      eps: radius of the L-inf ball, >= 0.
      step_size: of each step, > 0.
      steps: number of steps, >= 1.
      batch_size: images at a time, >= 1.

    Raises:
      TypeError, ValueError: arguments out of their range, or as in a call of an attack.

    Source: the comparison of losses in Li et al. (2023), arXiv 2205.11156, the less a model lets
    the loss fall, the more robust it tends to be.
    """
    threat, rule = Linf(eps), Steepest(step_size)
    for name, value in (("steps", steps), ("batch_size", batch_size)):
        check_whole("loss_profile", name, value, 1)
    images, labels = check_batch(x, y)
    network = logits_of(model, "running")
    check_values(images, labels, check_logits(network(images[:64])))
    gradient_at = input_gradient(network, losses.cross_entropy)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, *images.shape[1:]]),
            tf.TensorSpec([None], tf.int32),
            tf.TensorSpec([]),
        ]
    )
    def along(x: tf.Tensor, y: tf.Tensor, sign: tf.Tensor) -> tf.Tensor:
        ascent = Ascent(threat, threat.bounds(x), sign * rule.step_size, rule)
        last, values = ascent.values(lambda x: gradient_at(x, y), x, steps)
        return tf.concat([values, losses.cross_entropy(network(last), y)[tf.newaxis]], 0)

    def everywhere(sign: float) -> np.ndarray:
        batches = tf.data.Dataset.from_tensor_slices((images, labels)).batch(batch_size)
        parts = [along(x, y, tf.constant(sign)).numpy() for x, y in batches]
        return np.concatenate(parts, axis=1) if parts else np.zeros((steps + 1, 0), np.float32)

    return LossProfile(everywhere(-1.0), everywhere(1.0))
