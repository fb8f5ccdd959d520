"""One targeted attack at each wrong class, worst case over all."""

from __future__ import annotations

import dataclasses
from typing import Any

import tensorflow as tf

from robust_tf import registration
from robust_tf.attacks.active_set import Rows, choose, on_active_set
from robust_tf.attacks.base import Attack
from robust_tf.attacks.network import Network, num_classes_of
from robust_tf.attacks.objectives import Objective, margin
from robust_tf.attacks.projected_gradient import ProjectedGradient
from robust_tf.attacks.randomness import each, fold


@registration.configurable
@registration.serializable
@dataclasses.dataclass(frozen=True)
class MultiTargeted(Attack):
    """Runs `attack` at every class t != y; an example stands only if it withstands all of them.

    An example that is broken at one class is not attacked at the next. ADR's program also runs
    t = y, which cannot break an example and is left out.

    Args:
      attack: a `ProjectedGradient`, made targeted if it is not; one run from a fresh random start
        costs what the attack costs, C - 1 of them are made.
      logits: raise z_t - z_y in place of the attack's own objective, as Gowal et al. (2019) do;
        with cross-entropy (the default) it is the multi-targeted attack of Bui et al. (2020).
    """

    attack: ProjectedGradient
    logits: bool = False

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

    def run(
        self, network: Network, x: tf.Tensor, y: tf.Tensor, seed: tf.Tensor, scale: tf.Tensor
    ) -> tf.Tensor:
        logits = network(x)
        num_classes = num_classes_of(logits)
        rows = {
            "x": x,
            "y": y,
            "seed": each(seed, tf.shape(y)[0]),
            "x_adv": x,
            "lead": margin(logits, y),
            "broken": tf.zeros(tf.shape(y), tf.bool),
        }

        def at_one_target(k: tf.Tensor, rows: Rows) -> Rows:
            x, y = rows["x"], rows["y"]
            target = (y + k + 1) % num_classes
            x_adv = self._at(y, target).run(
                network, x, y if self.logits else target, fold(rows["seed"], k), scale
            )
            lead = margin(network(x_adv), y)
            worse = lead < rows["lead"]
            return {
                **rows,
                "x_adv": choose(worse, x_adv, rows["x_adv"]),
                "lead": tf.minimum(lead, rows["lead"]),
                "broken": lead < 0,
            }

        return on_active_set(at_one_target, rows, num_classes - 1, share=0.0)[0]

    def _at(self, y: tf.Tensor, target: tf.Tensor) -> ProjectedGradient:
        """The attack at one target for each example, inside a graph."""
        if not self.logits:
            return self.targeted
        objective = LogitDifference(target=target)
        return dataclasses.replace(self.attack, objective=objective)


@dataclasses.dataclass(frozen=True, eq=False)
class LogitDifference(Objective):
    """z_t - z_y; lives inside one graph, where `target` is known."""

    target: Any = None

    def reference(self, network: Network, x: tf.Tensor) -> Any:
        """The targets, so that they go with their examples."""
        return self.target

    def values(self, logits: tf.Tensor, y: tf.Tensor, reference: tf.Tensor | None) -> tf.Tensor:
        return tf.gather(logits, reference, batch_dims=1) - tf.gather(logits, y, batch_dims=1)
