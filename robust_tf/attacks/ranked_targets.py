"""Margin PGD at one class after the other, the nearest first; images far from all leave early."""

from __future__ import annotations

import dataclasses
import math

import tensorflow as tf

from robust_tf import registration
from robust_tf.attacks.active_set import Rows, choose, on_active_set, per_image
from robust_tf.attacks.base import Attack
from robust_tf.attacks.network import Network, input_gradient, num_classes_of
from robust_tf.attacks.objectives import is_misclassified, margin
from robust_tf.attacks.randomness import each, fold
from robust_tf.attacks.threat import Budget, threat_of
from robust_tf.models.forward import check_batch_norm_mode
from robust_tf.validation import check_eps, check_norm, check_number, check_whole

_SHARE = 1 / 32  # of the batch that may wait until it leaves


@registration.configurable
@registration.serializable
@dataclasses.dataclass(frozen=True)
class RankedTargets(Attack):
    """PGD on z_t - z_y, each run at the class that is nearest so far among those not yet tried."""

    eps: float
    targets: int = 9
    steps: int = 20
    runs: int = 18
    near: float = 0.3
    first: int = 3
    norm: str = "Linf"
    batch_norm: str = "running"

    def __post_init__(self) -> None:
        owner = type(self).__name__
        check_norm(owner, self.norm)
        self._put(eps=check_eps(owner, self.eps, self.norm))
        for name in ("targets", "steps", "runs", "first"):
            self._put(**{name: check_whole(owner, name, getattr(self, name), 1)})
        self._put(near=check_number(owner, "near", self.near, 0.0, "the default is 0.3"))
        check_batch_norm_mode(self.batch_norm)

    def run(
        self, network: Network, x: tf.Tensor, y: tf.Tensor, seed: tf.Tensor, budget: Budget
    ) -> tf.Tensor:
        ball = threat_of(self.norm, self.eps)
        bounds = ball.bounds(x, budget.eps)
        eps = tf.cast(budget.eps, tf.float32)
        gradient_at = input_gradient(network, _gain)
        clean = network(x)
        classes = num_classes_of(clean)
        targets = min(self.targets, classes - 1)
        sizes = tf.constant(
            [1 + math.cos(math.pi * i / self.steps) for i in range(self.steps)], tf.float32
        )
        spread = tf.reduce_max(clean, axis=1) - tf.reduce_min(clean, axis=1)
        alone = self.batch_norm == "running"

        def judged(rows: Rows, image: tf.Tensor, logits: tf.Tensor) -> Rows:
            reached, wrong = margin(logits, rows["y"]), is_misclassified(logits, rows["y"])
            take = wrong | (reached < rows["margin"])
            return {
                **rows,
                "x_adv": choose(take, image, rows["x_adv"]),
                "margin": tf.minimum(reached, rows["margin"]),
                "gaps": tf.minimum(rows["gaps"], _gaps(logits, rows["y"])),
                "is_adversarial": wrong,
            }

        def step(k: tf.Tensor, rows: Rows) -> Rows:
            run, i = k // (self.steps + 1), k % (self.steps + 1)
            own = bounds.of(rows)

            def begin() -> tuple:
                tried = tf.cond(
                    tf.equal(run % targets, 0),
                    lambda: tf.zeros_like(rows["tried"]),
                    lambda: rows["tried"],
                )
                target = tf.argmin(
                    tf.where(tried, float("inf"), rows["gaps"]), axis=1, output_type=tf.int32
                )
                tried |= tf.one_hot(target, classes, True, False, dtype=tf.bool)
                noise = ball.random(own.center, fold(rows["seed"], run))
                if self.norm == "Linf":
                    noise = tf.sign(noise)
                return ball.project(own.center + own.radius * noise, own), target, tried

            iterate, target, tried = tf.cond(
                tf.equal(i, 0), begin, lambda: (rows["iterate"], rows["target"], rows["tried"])
            )

            def ascend() -> tuple:
                gradient, _, logits = gradient_at(iterate, rows["y"], target)
                size = eps * tf.gather(sizes, tf.minimum(i, self.steps - 1))
                return ball.step(iterate, gradient, size, own), logits

            moved, logits = tf.cond(i < self.steps, ascend, lambda: (iterate, network(iterate)))
            rows = {**rows, "iterate": moved, "target": target, "tried": tried}
            rows = judged(rows, iterate, logits)
            over = tf.equal(i, self.steps) & (run + 1 >= self.first)
            far = rows["margin"] > self.near * rows["spread"]
            rows["is_adversarial"] |= over & far if alone else False
            return rows

        infinite = tf.fill(tf.shape(clean), float("inf"))
        rows = {
            **bounds.rows(),
            "y": y,
            "seed": each(seed, tf.shape(y)[0]),
            "x_adv": x,
            "margin": margin(clean, y),
            "gaps": _gaps(clean, y),
            "spread": spread,
            "is_adversarial": is_misclassified(clean, y),
            "iterate": x,
            "target": tf.zeros_like(y),
            "tried": tf.zeros_like(infinite, tf.bool),
        }
        times = self.runs * (self.steps + 1)
        return on_active_set(step, rows, times, _SHARE if alone else 1.0)[0]


def _gain(logits: tf.Tensor, y: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """z_t - z_y."""
    return tf.gather(logits, target, batch_dims=1) - tf.gather(logits, y, batch_dims=1)


def _gaps(logits: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """z_y - z_t for each class t, infinite for y itself."""
    own = tf.one_hot(y, tf.shape(logits)[1], on_value=True, off_value=False, dtype=tf.bool)
    gaps = tf.gather(logits, y, batch_dims=1)[:, tf.newaxis] - logits
    return tf.where(own, float("inf"), gaps)
