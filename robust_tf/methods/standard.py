"""Training on clean images, the baseline that any attack breaks."""

from __future__ import annotations

import gin

from robust_tf import compat, losses
from robust_tf.methods.base import RobustModel
from robust_tf.methods.batch import Batch, Terms
from robust_tf.models import SplitClassifier


@gin.configurable
@compat.serializable
class Standard(RobustModel):
    """Cross-entropy of clean images."""

    needs_adv = False

    def __init__(self, network: SplitClassifier, attack: None = None, name: str | None = None):
        if attack is not None:
            raise ValueError("Standard trains on clean images; it takes no attack.")
        super().__init__(network, None, {"cross_entropy": 1.0}, name)

    def terms(self, batch: Batch) -> Terms:
        return {"cross_entropy": lambda: losses.cross_entropy(batch.clean.logits, batch.y)}
