"""Feature Scattering: training on images that move the batch as a whole, without labels."""

from __future__ import annotations

from typing import Any

import keras

from robust_tf import losses, registration
from robust_tf.attacks import Attack
from robust_tf.attacks.training import ScatteringAttack
from robust_tf.losses.labels import check_smoothing
from robust_tf.methods.base import RobustModel
from robust_tf.methods.batch import Batch, Terms


@registration.configurable
@registration.serializable
class FeatureScattering(RobustModel):
    """CE(f(x'), y~), x' from `ScatteringAttack`, y~ smoothed labels; no loss of clean images.

    A step costs three forwards and two backwards with the attack's one step.

    Args:
      network: to be trained, of two classes or more.
      attack: `ScatteringAttack`; another one makes this adversarial training with smoothed labels.
        The batch that is scattered is that of one replica.
      label_smoothing: d in [0, 1 - 1 / C); the true class has 1 - d, each other d / (C - 1).

    Source: Zhang & Wang (2019), "Defense Against Adversarial Attacks Using Feature
    Scattering-based Adversarial Training", and its released program. It holds under PGD and falls
    under AutoAttack (36.6 % on CIFAR-10, as Qian et al. report in the ATLD paper).
    """

    needs_clean = False

    def __init__(
        self,
        network: keras.Model,
        attack: Attack,
        label_smoothing: float = 0.5,
        name: str | None = None,
    ):
        self.label_smoothing = float(label_smoothing)
        self.needs_features = getattr(attack, "space", None) == "features"
        super().__init__(network, attack, {"adversarial": 1.0}, name)
        if self.network.num_classes < 2:
            raise ValueError(
                "FeatureScattering: the network has one class; smoothed labels need two or more."
            )
        check_smoothing(label_smoothing, "FeatureScattering", self.network.num_classes)

    def terms(self, batch: Batch) -> Terms:
        labels = losses.smooth_labels(batch.y, self.network.num_classes, self.label_smoothing)
        return {"adversarial": lambda: losses.soft_cross_entropy(batch.adv.logits, labels)}

    def of_a_part(self) -> str:
        scatters = isinstance(self.attack, ScatteringAttack)
        return "each part is scattered by itself" if scatters else ""

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "label_smoothing": self.label_smoothing}
