"""Attacks made of several, one after the other, each on the images that are robust so far."""

from __future__ import annotations

import tensorflow as tf

from robust_tf.attacks.active_set import choose
from robust_tf.attacks.base import Attack
from robust_tf.attacks.network import Network
from robust_tf.attacks.objectives import is_misclassified, margin
from robust_tf.attacks.randomness import each
from robust_tf.attacks.threat import Budget


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
        def stage(
            attack: Attack, seed: tf.Tensor, active: tf.Tensor, x_adv: tf.Tensor, margins: tf.Tensor
        ) -> tuple:
            """Which examples are robust, the images and their margins after one more attack."""
            clean, labels, seeds = (tf.gather(rows, active) for rows in (x, y, seed))
            found = attack.run(network, clean, labels, seeds, self._budget_of(attack, budget))
            logits = network(found)
            is_adversarial = is_misclassified(logits, labels)
            reached, before = margin(logits, labels), tf.gather(margins, active)
            take = tf.logical_or(is_adversarial, reached < before)
            found = choose(take, found, tf.gather(x_adv, active))
            where = active[:, tf.newaxis]
            return (
                tf.boolean_mask(active, tf.logical_not(is_adversarial)),
                tf.tensor_scatter_nd_update(x_adv, where, found),
                tf.tensor_scatter_nd_update(margins, where, tf.minimum(reached, before)),
            )

        state = tf.range(tf.shape(y)[0]), x, tf.fill(tf.shape(y), float("inf"))
        for _, attack, own in self.seeded_stages(each(seed, tf.shape(y)[0])):
            # No stage is run on an empty batch, of which batch normalization may know no mean.
            state = tf.cond(
                tf.size(state[0]) > 0,
                lambda attack=attack, own=own, state=state: stage(attack, own, *state),
                lambda state=state: state,
            )
        return state[1]
