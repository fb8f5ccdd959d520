"""Adversarial training (ADV, AT)."""

from __future__ import annotations

from typing import Any

import keras

from robust_tf import registration
from robust_tf.attacks import Attack
from robust_tf.losses.labels import check_smoothing
from robust_tf.methods.base import RobustModel
from robust_tf.methods.batch import Batch, Terms
from robust_tf.methods.standard import smoothed_cross_entropy


@registration.configurable
@registration.serializable
class AdversarialTraining(RobustModel):
    """(1 - c) CE(f(x'), y) + c CE(f(x), y), x' from `attack`.

    Args:
      network: to be trained.
      attack: training adversary, e.g. `PGD(eps=0.3, step_size=0.01, steps=40)`.
      clean_weight: c in [0, 1). 0 trains on adversarial images alone; 0.5, half and half, is the
        ADV baseline of the ADR paper.
      label_smoothing: d in [0, 1 - 1 / C); the true class has 1 - d, each other d / (C - 1), in
        both terms.

    Source: Madry et al. (2018); half and half: Bui et al. (2020), released TensorFlow program.
    """

    takes_soft_labels = True

    def __init__(
        self,
        network: keras.Model,
        attack: Attack,
        clean_weight: float = 0.0,
        label_smoothing: float = 0.0,
        name: str | None = None,
    ):
        if not 0 <= clean_weight < 1:
            raise ValueError(
                f"AdversarialTraining(clean_weight={clean_weight!r}): must be in [0, 1)."
            )
        self.clean_weight = float(clean_weight)
        self.label_smoothing = float(label_smoothing)
        self.needs_clean = clean_weight > 0
        weights = {"clean": clean_weight, "adversarial": 1 - clean_weight}
        super().__init__(network, attack, weights, name)
        check_smoothing(label_smoothing, "AdversarialTraining", self.network.num_classes)

    def terms(self, batch: Batch) -> Terms:
        y, smoothing = batch.y, self.label_smoothing
        return {
            "clean": lambda: smoothed_cross_entropy(batch.clean.logits, y, smoothing),
            "adversarial": lambda: smoothed_cross_entropy(batch.adv.logits, y, smoothing),
        }

    def get_config(self) -> dict[str, Any]:
        own = {"clean_weight": self.clean_weight, "label_smoothing": self.label_smoothing}
        return {**super().get_config(), **own}
