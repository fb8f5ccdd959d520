"""One targeted attack at each wrong class, worst case over all."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import gin
import tensorflow as tf

from robust_tf import compat
from robust_tf.attacks.base import Attack, Network, fold
from robust_tf.attacks.objectives import margin
from robust_tf.attacks.projected_gradient import ProjectedGradient


@gin.configurable
@compat.serializable
@dataclasses.dataclass(frozen=True)
class MultiTargeted(Attack):
    """Runs `attack` at every class t != y; an example stands only if it withstands all of them.

    With cross-entropy this is ADR's multi-targeted attack, with `Margin` one on
    margins, close to that of Gowal et al. (2019), who raise z_t - z_y. ADR's program also runs
    t = y, which cannot break an example and is left out.

    Args:
      attack: a `ProjectedGradient`, made targeted if it is not; one run from a fresh random start
        costs what the attack costs, C - 1 of them are made.
    """

    attack: ProjectedGradient

    @property
    def batch_norm(self) -> str:  # type: ignore[override]
        """Of the attack."""
        return self.attack.batch_norm

    @property
    def targeted(self) -> ProjectedGradient:
        """The attack at one target."""
        objective = dataclasses.replace(self.attack.objective, targeted=True)
        return dataclasses.replace(self.attack, objective=objective)

    def __post_init__(self) -> None:
        self.targeted  # an objective that cannot be targeted says so here  # noqa: B018

    def stages(self, num_classes: int) -> Iterator[tuple[Attack, int]]:
        targeted = self.targeted
        for offset in range(1, num_classes):
            yield targeted, offset

    def run(
        self, network: Network, x: tf.Tensor, y: tf.Tensor, seed: tf.Tensor, scale: tf.Tensor
    ) -> tf.Tensor:
        logits = network(x)
        lead, num_classes = margin(logits, y), tf.shape(logits)[1]
        targeted = self.targeted

        def body(offset: tf.Tensor, worst: tf.Tensor, lead: tf.Tensor) -> tuple[tf.Tensor, ...]:
            target = (y + offset) % num_classes
            candidate = targeted.run(network, x, target, fold(seed, offset), scale)
            candidate_lead = margin(network(candidate), y)
            worse = candidate_lead < lead
            image = tf.reshape(
                worse, tf.concat([tf.shape(worse), tf.ones_like(tf.shape(x)[1:])], 0)
            )
            return offset + 1, tf.where(image, candidate, worst), tf.minimum(lead, candidate_lead)

        variables = (tf.constant(1), x, lead)
        return tf.while_loop(
            lambda offset, *_: offset < num_classes, body, variables, parallel_iterations=1
        )[1]
