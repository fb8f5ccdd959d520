"""The difference of logits ratio: a margin that no rescaling of the logits changes.

Values for an adversary to raise, (B,) from logits (B, C) and labels (B,). Source: Croce & Hein
(2020), equations 6 and 7, and their program AutoAttack.
"""

from __future__ import annotations

import tensorflow as tf

from robust_tf.attacks.network import num_classes_of
from robust_tf.attacks.objectives import margin

_TINY = 1e-12  # the released program's, against equal logits


def difference_of_logits_ratio(logits: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """DLR: -(z_y - max_{j != y} z_j) / (z_(1) - z_(3)), z_(k) the k-th largest logit.

    With two classes there is no third logit, and it is the numerator alone.
    """
    rise = -margin(logits, y)
    if num_classes_of(logits) < 3:
        return rise
    top = tf.math.top_k(logits, 3).values
    return rise / (top[:, 0] - top[:, 2] + _TINY)


def targeted_difference_of_logits_ratio(
    logits: tf.Tensor, y: tf.Tensor, target: tf.Tensor
) -> tf.Tensor:
    """DLR-T: (z_t - z_y) / (z_(1) - (z_(3) + z_(4)) / 2), z_(k) the k-th largest logit.

    With fewer than four classes it is the numerator alone.
    """
    gain = tf.gather(logits, target, batch_dims=1) - tf.gather(logits, y, batch_dims=1)
    if num_classes_of(logits) < 4:
        return gain
    top = tf.math.top_k(logits, 4).values
    return gain / (top[:, 0] - (top[:, 2] + top[:, 3]) / 2 + _TINY)
