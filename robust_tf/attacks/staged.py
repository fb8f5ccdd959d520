"""Attacks made of several, one after the other, each on the images that are robust so far."""

from __future__ import annotations

import tensorflow as tf

from robust_tf.attacks.base import Attack
from robust_tf.attacks.network import Network
from robust_tf.attacks.randomness import each
from robust_tf.attacks.threat import Budget
from robust_tf.attacks.worst_case import worst_case


class StagedAttack(Attack):
    """Base of attacks that run their `stages` in order; a subclass says which.

    An example that is robust after all of them has the image of the lowest margin. Beside the
    attacks' own cost, each verdict is one forward. The stages' eps, and step sizes, must be in
    proportion to the whole's: one graph serves every eps.
    """

    def _budget_of(self, stage: Attack, budget: Budget) -> Budget:
        """What a stage may do: its share of the whole's radius."""
        eps = budget.eps * (stage.eps / self.eps)
        own = getattr(stage, "step_size", None)
        step_size = eps if own is None else budget.eps * (own / self.eps)
        return Budget(eps, tf.cast(step_size, tf.float32))

    def notes(self, num_classes: int) -> list[str]:
        return [
            f"{name}: {note}"
            for name, attack in self.stages()
            for note in attack.notes(num_classes)
        ]

    def run(
        self, network: Network, x: tf.Tensor, y: tf.Tensor, seed: tf.Tensor, budget: Budget
    ) -> tf.Tensor:
        stages = [
            (attack, own, self._budget_of(attack, budget))
            for _, attack, own in self.seeded_stages(each(seed, tf.shape(y)[0]))
        ]
        return worst_case(stages, network, x, y)
