"""TRADES."""

from __future__ import annotations

from typing import Any

import keras

from robust_tf import losses, registration
from robust_tf.attacks import Attack
from robust_tf.methods.base import RobustModel
from robust_tf.methods.batch import Batch, Terms
from robust_tf.validation import check_number


@registration.configurable
@registration.serializable
class TRADES(RobustModel):
    """CE(f(x), y) + beta KL(p(x) || p(x')), with gradients through both predictions.

    Args:
      network: to be trained.
      attack: training adversary, `TRADESAttack` in the official form.
      beta: weight of the divergence, 1 for MNIST, 6 for CIFAR-10.

    The official program forwards the clean images twice, for either term; here once, which differs
    only in that dropout masks are shared and batch statistics see the clean images once.

    Source: Zhang et al. (2019) and its `trades.py`.
    """

    warmup_terms = ("divergence",)
    takes_soft_labels = True

    def __init__(
        self, network: keras.Model, attack: Attack, beta: float = 6.0, name: str | None = None
    ):
        check_number("TRADES", "beta", beta, 0.0, "1 for MNIST, 6 for CIFAR-10")
        self.beta = float(beta)
        super().__init__(network, attack, {"clean": 1.0, "divergence": beta}, name)

    def terms(self, batch: Batch) -> Terms:
        return {
            "clean": lambda: losses.label_cross_entropy(batch.clean.logits, batch.y),
            "divergence": lambda: losses.kl_divergence(batch.clean.logits, batch.adv.logits),
        }

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "beta": self.beta}
