"""Margin PGD at one class after the other, the nearest first; images far from all leave early."""

from __future__ import annotations

import dataclasses
import math

import tensorflow as tf

from robust_tf import registration
from robust_tf.attacks.active_set import Rows, choose, on_active_set
from robust_tf.attacks.base import Attack
from robust_tf.attacks.network import Network, input_gradient, num_classes_of
from robust_tf.attacks.objectives import is_misclassified, margin
from robust_tf.attacks.randomness import each, fold
from robust_tf.attacks.steps import UniformStart
from robust_tf.attacks.threat import Budget, threat_of
from robust_tf.models.forward import check_batch_norm_mode
from robust_tf.validation import check_eps, check_norm, check_number

_SHARE = 1 / 32  # of the batch that may be done before its images leave


@registration.configurable
@registration.serializable
@dataclasses.dataclass(frozen=True)
class RankedTargets(Attack):
    """PGD on z_t - z_y, run by run at the class that has come nearest among those not yet tried.

    Every image on the way is judged, and tells how near each class has come (the least z_y - z_t so
    far), so that ranking costs nothing. Each run starts at a uniform point of the ball; step i of n
    has length eps (1 + cos(pi i / n)). When all classes were tried, they are again, from other
    starts. An example leaves with the first image that is misclassified, or after `least` runs if
    its lowest margin is above `near`; it then keeps the image of that margin. No rescaling of the
    logits changes where an image goes or whether it leaves.

    A run costs steps + 1 forwards and `steps` gradients; the clean images cost one forward. In the
    modes of batch normalization where examples see each other none leaves.

    Args:
      eps: radius of the ball.
      targets: how many classes, >= 1; all wrong ones if there are fewer.
      steps: of a run, >= 1.
      runs: at most so many, >= 1.
      least: runs that every image gets, >= 1.
      near: >= 0, share of the range of the clean image's logits (the largest less the smallest).
      norm: 'Linf' or 'L2'.
      batch_norm: mode of `robust_tf.models.BatchNormalization` in the attack: 'running' (default),
        'batch' or 'training'.

    Raises:
      ValueError: an argument outside its range.

    Source: ours; targets by rank on survivors as in MM (Gao et al., 2022), a cosine of steps from
    2 eps as in PMA (OpenTAI) and, to eps, A3 (Liu et al., 2022), more runs for images near the
    boundary as in CR of FastAT_Benchmark, whose thresholds are absolute logits.
    """

    eps: float
    targets: int = 9
    steps: int = 20
    runs: int = 9
    least: int = 1
    near: float = 0.2
    norm: str = "Linf"
    batch_norm: str = "running"

    def __post_init__(self) -> None:
        check_norm("RankedTargets", self.norm, ("Linf", "L2"))
        self._put_whole("targets", "steps", "runs", "least")
        self._put(
            eps=check_eps("RankedTargets", self.eps, self.norm),
            near=check_number("RankedTargets", "near", self.near, 0.0, "0.2 is usual"),
        )
        check_batch_norm_mode(self.batch_norm)

    def run(
        self, network: Network, x: tf.Tensor, y: tf.Tensor, seed: tf.Tensor, budget: Budget
    ) -> tf.Tensor:
        ball = threat_of(self.norm, self.eps)
        bounds = ball.bounds(x, budget.eps)
        gradient_at = input_gradient(network, _gain)
        clean = network(x)
        targets = min(self.targets, num_classes_of(clean) - 1)
        cosines = [1 + math.cos(math.pi * i / self.steps) for i in range(self.steps)]
        sizes = tf.cast(budget.eps, tf.float32) * tf.constant([*cosines, 0.0], tf.float32)
        alone = self.batch_norm == "running"  # else those that stay would see others than before

        def begin(run: tf.Tensor, rows: Rows) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            """Where a run starts, its class, and which classes were tried."""
            tried = rows["tried"] & (run % targets > 0)
            gaps = tf.where(tried, float("inf"), rows["gaps"])
            target = tf.argmin(gaps, axis=1, output_type=tf.int32)
            tried |= tf.one_hot(target, clean.shape[1], True, False, dtype=tf.bool)
            start = UniformStart()(ball, bounds.of(rows), fold(rows["seed"], run))
            return start, target, tried

        def step(k: tf.Tensor, rows: Rows) -> Rows:
            """Looks at an image of a run, and makes the next one, if there is one."""
            run, i = k // (self.steps + 1), k % (self.steps + 1)
            iterate, target, tried = tf.cond(
                tf.equal(i, 0),
                lambda: begin(run, rows),
                lambda: (rows["iterate"], rows["target"], rows["tried"]),
            )

            def ascend() -> tuple[tf.Tensor, tf.Tensor]:
                gradient, _, logits = gradient_at(iterate, rows["y"], target)
                return ball.step(iterate, gradient, sizes[i], bounds.of(rows)), logits

            moved, logits = tf.cond(i < self.steps, ascend, lambda: (iterate, network(iterate)))
            rows = _judged(rows, iterate, logits)
            if alone:  # what is far from the boundary leaves as if it were adversarial
                over = tf.equal(i, self.steps) & (run + 1 >= self.least)
                rows["is_adversarial"] |= over & (rows["margin"] > rows["near"])
            return {**rows, "iterate": moved, "target": target, "tried": tried}

        rows = {
            **bounds.rows(),
            "y": y,
            "seed": each(seed, tf.shape(y)[0]),
            "x_adv": x,
            "margin": margin(clean, y),
            "near": self.near * (tf.reduce_max(clean, axis=1) - tf.reduce_min(clean, axis=1)),
            "gaps": _gaps(clean, y),
            "is_adversarial": is_misclassified(clean, y),
            "iterate": x,
            "target": tf.zeros_like(y),
            "tried": tf.zeros_like(clean, tf.bool),
        }
        looks = self.runs * (self.steps + 1)
        return on_active_set(step, rows, looks, _SHARE if alone else 1.0)[0]


def _judged(rows: Rows, image: tf.Tensor, logits: tf.Tensor) -> Rows:
    """What the attack would return, and how near each class has come, after one more image."""
    reached, is_adversarial = margin(logits, rows["y"]), is_misclassified(logits, rows["y"])
    take = is_adversarial | (reached < rows["margin"])
    return {
        **rows,
        "x_adv": choose(take, image, rows["x_adv"]),
        "margin": tf.minimum(reached, rows["margin"]),
        "gaps": tf.minimum(rows["gaps"], _gaps(logits, rows["y"])),
        "is_adversarial": is_adversarial,
    }


def _gain(logits: tf.Tensor, y: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """z_t - z_y."""
    return tf.gather(logits, target, batch_dims=1) - tf.gather(logits, y, batch_dims=1)


def _gaps(logits: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """z_y - z_t for each class t, infinite for y itself, (B, C)."""
    own = tf.one_hot(y, tf.shape(logits)[1], on_value=True, off_value=False, dtype=tf.bool)
    gaps = tf.gather(logits, y, batch_dims=1)[:, tf.newaxis] - logits
    return tf.where(own, float("inf"), gaps)
