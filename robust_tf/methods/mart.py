"""Misclassification-aware adversarial training (MART)."""

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
class MART(RobustModel):
    """BCE(f(x'), y) + beta (1 - p_y(x)) KL(p(x) || p(x')), x' from `attack`.

    BCE is `losses.boosted_cross_entropy`. Clean images that are misclassified weigh most in the
    divergence, whose gradient reaches both predictions and the weight. Beside the attack a step
    costs a forward and backward of clean and of adversarial images.

    Args:
      network: to be trained, of two classes or more.
      attack: training adversary on the cross-entropy. The program starts at x + 0.001 N(0, I):
        `ProjectedGradient(Linf(0.031), Steepest(0.007), 10, start=GaussianStart())`.
      beta: weight of the divergence, >= 0; in the program 6 for WideResNet and 5 for ResNet-18.

    Source: Wang et al. (2020), "Improving adversarial robustness requires revisiting misclassified
    examples", and its released program.
    """

    warmup_terms = ("divergence",)

    def __init__(
        self, network: keras.Model, attack: Attack, beta: float = 6.0, name: str | None = None
    ):
        check_number("MART", "beta", beta, 0.0, "5 or 6 for CIFAR-10")
        self.beta = float(beta)
        super().__init__(network, attack, {"boosted": 1.0, "divergence": beta}, name)
        if self.network.num_classes < 2:
            raise ValueError(
                "MART: the network has one class; it needs two or more, as it "
                "pushes down the strongest wrong one."
            )

    def terms(self, batch: Batch) -> Terms:
        return {
            "boosted": lambda: losses.boosted_cross_entropy(batch.adv.logits, batch.y),
            "divergence": lambda: self._divergence(batch),
        }

    def _divergence(self, batch: Batch) -> tf.Tensor:
        clean = batch.clean.logits
        missing = -tf.math.expm1(-losses.cross_entropy(clean, batch.y))  # 1 - p_y
        return missing * losses.kl_divergence(clean, batch.adv.logits)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "beta": self.beta}
