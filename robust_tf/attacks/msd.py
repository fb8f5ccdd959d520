"""Multi steepest descent (MSD): one ascent in a union of balls."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import tensorflow as tf

from robust_tf import registration
from robust_tf.attacks.active_set import choose
from robust_tf.attacks.gradient import GradientAttack
from robust_tf.attacks.network import Network, input_gradient
from robust_tf.attacks.steps import CleanStart, Steepest
from robust_tf.attacks.threat import Budget
from robust_tf.attacks.union import AttackUnion


@registration.configurable
@registration.serializable
@dataclasses.dataclass(frozen=True)
class MSD(AttackUnion):
    """At each step a steepest step in every ball, of which the one of the highest loss is taken.

        MSD([BIM(0.3, 0.01, 100), BIM(2.0, 0.1, 100, norm="L2"), BIM(10.0, 1.0, 100, norm="L1")])

    It starts at the clean image. A step takes one gradient, and of M balls a step and projection in
    each and a forward of each: M + 1 forwards and one backward. Of all points that were taken, the
    one of the highest loss is returned, which lies in one of the balls. The loss is that of the
    members, cross-entropy in the paper.

    Args:
      attacks: two or more gradient attacks from the clean image, such as `BIM`, of the same steps
        and objective, each with the radius and the step size of its ball, without momentum,
        restarts or `keep='best'`.

    Raises:
      ValueError: attacks that do not fit.

    Source: Maini, Wong & Kolter (2020), "Adversarial Robustness Against the Union of Multiple
    Perturbation Models". Their program's L1 step shares its length among k of the coordinates of
    the highest slope, k drawn from 5..20; here it is that of `L1`, steepest inside the box.
    """

    attacks: Sequence[GradientAttack]

    def __post_init__(self) -> None:
        super().__post_init__()
        first = self.members[0]
        for one in self.members:
            fits = isinstance(one, GradientAttack) and isinstance(one.start, CleanStart)
            fits = fits and type(one.step) is Steepest and (one.restarts, one.keep) == (1, "last")
            if not fits:
                raise ValueError(
                    f"MSD(attacks=[..., {one!r}]): must be gradient attacks of plain steps from "
                    "the clean image, such as BIM(eps, step_size, steps, norm='L2')."
                )
            if (one.steps, one.objective) != (first.steps, first.objective):
                raise ValueError(
                    f"MSD: its members have {first.steps} steps of {first.objective!r} and "
                    f"{one.steps} of {one.objective!r}; give all of them the same."
                )

    @property
    def takes_soft_labels(self) -> bool:  # type: ignore[override]
        return self.members[0].objective.takes_soft_labels

    @property
    def steps(self) -> int:
        """Of the whole, as of each member."""
        return self.members[0].steps

    @property
    def members(self) -> tuple[GradientAttack, ...]:  # type: ignore[override]
        return tuple(self.attacks)

    def run(
        self, network: Network, x: tf.Tensor, y: tf.Tensor, seed: tf.Tensor, budget: Budget
    ) -> tf.Tensor:
        objective = self.members[0].objective
        gradient_at = input_gradient(network, objective.values)
        budgets = [one.budget(scale=budget.eps) for one in self.members]
        balls = [
            (one.threat, one.threat.bounds(x, own.eps), own.step_size)
            for one, own in zip(self.members, budgets, strict=True)
        ]

        def body(at: tf.Tensor, best: tf.Tensor, highest: tf.Tensor) -> tuple:
            gradient = gradient_at(at, y, None)[0]
            moved, value = at, tf.fill(tf.shape(highest), float("-inf"))
            for threat, bounds, step_size in balls:
                candidate = threat.step(at, gradient, step_size, bounds)
                reached = objective.values(network(candidate), y, None)
                take = reached > value
                moved, value = choose(take, candidate, moved), tf.where(take, reached, value)
            better = value > highest
            return moved, choose(better, moved, best), tf.where(better, value, highest)

        variables = x, x, tf.fill(tf.shape(x)[:1], float("-inf"))
        return tf.while_loop(
            lambda *_: True,
            body,
            variables,
            maximum_iterations=self.steps,
            parallel_iterations=1,
        )[1]
