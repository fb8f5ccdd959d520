"""Training on clean images, the baseline that any attack breaks."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from robust_tf import losses, registration
from robust_tf.losses.labels import check_smoothing
from robust_tf.methods.base import RobustModel
from robust_tf.methods.batch import Batch, Terms


@registration.configurable
@registration.serializable
class Standard(RobustModel):
    """Cross-entropy of clean images, of smoothed labels if wanted.

    Args:
      network: to be trained.
      attack: None; it takes none.
      label_smoothing: d in [0, 1 - 1 / C); the true class has 1 - d, each other d / (C - 1).
    """

    needs_adv = False
    takes_soft_labels = True

    def __init__(
        self,
        network: keras.Model,
        attack: None = None,
        label_smoothing: float = 0.0,
        name: str | None = None,
    ):
        if attack is not None:
            raise ValueError("Standard trains on clean images; it takes no attack.")
        self.label_smoothing = float(label_smoothing)
        super().__init__(network, None, {"cross_entropy": 1.0}, name)
        check_smoothing(label_smoothing, "Standard", self.network.num_classes)

    def terms(self, batch: Batch) -> Terms:
        return {
            "cross_entropy": lambda: smoothed_cross_entropy(
                batch.clean.logits, batch.y, self.label_smoothing
            )
        }

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "label_smoothing": self.label_smoothing}


def smoothed_cross_entropy(logits: tf.Tensor, y: tf.Tensor, smoothing: float) -> tf.Tensor:
    """Cross-entropy (B,) of logits (B, C) against labels, smoothed where that is not 0.

    Labels are class ids (B,), or distributions (B, C): smoothing is linear in them.
    """
    if not smoothing:
        return losses.label_cross_entropy(logits, y)
    if y.shape.rank == 2:
        rest = smoothing / (logits.shape[1] - 1)
        return losses.soft_cross_entropy(logits, rest + (1 - smoothing - rest) * y)
    return losses.soft_cross_entropy(logits, losses.smooth_labels(y, logits.shape[1], smoothing))
