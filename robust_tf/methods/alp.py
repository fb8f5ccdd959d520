"""Adversarial logit pairing (ALP)."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from robust_tf import losses, registration
from robust_tf.attacks import Attack
from robust_tf.methods.base import RobustModel
from robust_tf.methods.batch import Batch, Terms
from robust_tf.validation import check_number


@registration.configurable
@registration.serializable
class ALP(RobustModel):
    """CE(f(x), y) / 2 + CE(f(x'), y) / 2 + weight |f(x) - f(x')|^2 / C, x' from `attack`.

    The gradient of the pairing reaches both logits. Beside the attack a step costs a forward and
    backward of clean and of adversarial images.

    Args:
      network: to be trained.
      attack: training adversary, e.g. `PGD(eps=0.3, step_size=0.01, steps=40)`.
      weight: of the pairing, >= 0; 0.5 for ImageNet, about 1 for small images.

    Source: Kannan, Kurakin & Goodfellow (2018), "Adversarial Logit Pairing", with mixed batches.
    """

    warmup_terms = ("pairing",)

    def __init__(
        self, network: keras.Model, attack: Attack, weight: float = 0.5, name: str | None = None
    ):
        check_number("ALP", "weight", weight, 0.0, "about 1 for small images")
        self.weight = float(weight)
        weights = {"clean": 0.5, "adversarial": 0.5, "pairing": weight}
        super().__init__(network, attack, weights, name)

    def terms(self, batch: Batch) -> Terms:
        clean, adv = batch.clean.logits, batch.adv.logits
        return {
            "clean": lambda: losses.cross_entropy(clean, batch.y),
            "adversarial": lambda: losses.cross_entropy(adv, batch.y),
            "pairing": lambda: tf.reduce_mean(tf.square(clean - adv), axis=1),
        }

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "weight": self.weight}
