"""One targeted attack at each wrong class, worst case over all."""

from __future__ import annotations

import dataclasses
from typing import Any

import tensorflow as tf

from robust_tf import registration
from robust_tf.attacks.active_set import Rows, choose, on_active_set
from robust_tf.attacks.gradient import GradientAttack
from robust_tf.attacks.network import Network, num_classes_of
from robust_tf.attacks.objectives import Objective, margin
from robust_tf.attacks.randomness import each, fold
from robust_tf.attacks.threat import Budget
from robust_tf.attacks.wrapped import WrappedAttack


@registration.configurable
@registration.serializable
@dataclasses.dataclass(frozen=True)
class MultiTargeted(WrappedAttack):
    """Runs `attack` at every class t != y; an example is robust only if it is so at all of them.

    An example that is adversarial at one class is not attacked at the next. ADR's program also runs
    t = y, which cannot make an example adversarial and is left out.

    Args:
      attack: a gradient attack such as `PGD`, made targeted if it is not; one run from a fresh
        random start costs what the attack costs, C - 1 of them are made.
      logits: raise z_t - z_y in place of the attack's own objective, as Gowal et al. (2019) do;
        with cross-entropy (the default) it is the multi-targeted attack of Bui et al. (2020).
    """

    attack: GradientAttack
    logits: bool = False

    @property
    def targeted(self) -> GradientAttack:
        """The attack at one target."""
        return self.attack.as_targeted()

    def __post_init__(self) -> None:
        if not isinstance(self.attack, GradientAttack):
            raise ValueError(
                f"MultiTargeted(attack={self.attack!r}): must be a gradient attack, such as "
                "PGD(eps, step_size, steps)."
            )
        self.targeted  # an objective that cannot be targeted says so here  # noqa: B018

    def run(
        self, network: Network, x: tf.Tensor, y: tf.Tensor, seed: tf.Tensor, budget: Budget
    ) -> tf.Tensor:
        logits = network(x)
        num_classes = num_classes_of(logits)
        rows = {
            "x": x,
            "y": y,
            "seed": each(seed, tf.shape(y)[0]),
            "x_adv": x,
            "margin": margin(logits, y),
            "is_adversarial": tf.zeros(tf.shape(y), tf.bool),
        }

        def at_one_target(k: tf.Tensor, rows: Rows) -> Rows:
            x, y = rows["x"], rows["y"]
            target = (y + k + 1) % num_classes
            x_adv = self._at(y, target).run(
                network, x, y if self.logits else target, fold(rows["seed"], k), budget
            )
            reached = margin(network(x_adv), y)
            worse = reached < rows["margin"]
            return {
                **rows,
                "x_adv": choose(worse, x_adv, rows["x_adv"]),
                "margin": tf.minimum(reached, rows["margin"]),
                "is_adversarial": reached < 0,
            }

        return on_active_set(at_one_target, rows, num_classes - 1, share=0.0)[0]

    def _at(self, y: tf.Tensor, target: tf.Tensor) -> GradientAttack:
        """The attack at one target for each example, inside a graph."""
        if not self.logits:
            return self.targeted
        objective = LogitDifference(target=target)
        return dataclasses.replace(self.attack.composition(), objective=objective)


@dataclasses.dataclass(frozen=True, eq=False)
class LogitDifference(Objective):
    """z_t - z_y; lives inside one graph, where `target` is known."""

    target: Any = None

    def reference(self, network: Network, x: tf.Tensor) -> Any:
        """The targets, so that they go with their examples."""
        return self.target

    def values(self, logits: tf.Tensor, y: tf.Tensor, reference: tf.Tensor | None) -> tf.Tensor:
        return tf.gather(logits, reference, batch_dims=1) - tf.gather(logits, y, batch_dims=1)
