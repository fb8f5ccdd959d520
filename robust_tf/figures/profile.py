"""The loss along collaborative, clean and adversarial steps (squeeze training)."""

from __future__ import annotations

from robust_tf.evaluation import LossProfile, loss_profile

__all__ = ["LossProfile", "loss_profile"]
