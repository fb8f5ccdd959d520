"""The latent adversary of LAT: a gradient attack on features in place of images."""

from __future__ import annotations

import tensorflow as tf

from robust_tf.attacks.base import Number
from robust_tf.attacks.gradient import GradientAttack
from robust_tf.attacks.network import logits_of
from robust_tf.models import SplitClassifier, forward_mode


def attack_features(
    network: SplitClassifier,
    attack: GradientAttack,
    x: tf.Tensor,
    y: tf.Tensor,
    seed: tf.Tensor,
    scale: Number = 1.0,
) -> tf.Tensor:
    """Features z' near z = g(x) that raise the attack's objective of h(z').

    Each channel is scaled to [0, 1] by its smallest and largest value over the batch and all
    positions: eps and step size are fractions of that range, which z' does not leave. A dense
    feature is a channel; one that is the same in the whole batch is not moved.

    Args:
      network: generator g and classifier h; g goes by batch statistics, h by the attack's mode.
      attack: on features in [0, 1].
      x: float32 clean images (B, ...).
      y: integer labels (B,).
      seed: int32 (2,).
      scale: in [0, 1], multiplies eps and step size.

    Returns:
      float32 (B, ...), without gradient.
    """
    with forward_mode(batch_norm="batch"):
        z = tf.cast(network.features(x), tf.float32)
    axes = list(range(z.shape.rank - 1))
    low = tf.reduce_min(z, axes)
    extent = tf.reduce_max(z, axes) - low

    def classify(shares: tf.Tensor) -> tf.Tensor:
        return network.classify(low + extent * shares)

    # In these units the ball is one of equal radii and the range is the box of images.
    shares = tf.clip_by_value(tf.math.divide_no_nan(z - low, extent), 0.0, 1.0)
    head = logits_of(classify, attack.batch_norm)
    moved = attack.run(head, shares, y, seed, attack.budget(scale=scale))
    return tf.stop_gradient(low + extent * moved)
