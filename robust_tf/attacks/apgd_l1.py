"""What AutoPGD does in L1: three radii, the largest first, and steps whose sparsity adapts."""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf

from robust_tf.attacks import sparse_steps
from robust_tf.attacks.active_set import Rows
from robust_tf.attacks.randomness import normal
from robust_tf.attacks.threat import Bounds, Threat

FACTORS = (3.0, 2.0, 1.0)  # of the radius, in the stages of a run


def stage_steps(steps: int) -> tuple[int, int, int]:
    """Of all steps 30, 30 and 40 %; the last stage, which alone counts, has at least one."""
    early = min(math.ceil(0.3 * steps), (steps - 1) // 2)
    return early, early, steps - 2 * early


class SparseAscent:
    """The images at which a run looks, in L1; counterpart of `adaptive_steps.HalvingAscent`.

    A run starts at x + N(0, I), projected. Each stage starts at the best image of the one before,
    projected to its own, smaller ball, and looks at it.

    Args:
      ball: the threat.
      steps: of a run, in all stages.

    Attributes:
      length: images at which a run looks.
    """

    def __init__(self, ball: Threat, steps: int):
        self.ball = ball
        stages = [(f, n) for f, n in zip(FACTORS, stage_steps(steps), strict=True) if n]
        self.length = sum(n + 1 for _, n in stages)
        self.factors = np.concatenate([np.full(n + 1, f, "float32") for f, n in stages])
        starts, due = [], []
        for _, n in stages:
            period = max(int(0.04 * n), 1)
            starts += [i == 0 for i in range(n + 1)]
            due += [i > 0 and i % period == 0 for i in range(n + 1)]
        self.starts, self.due = np.array(starts), np.array(due)

    def initial(self, x: tf.Tensor) -> Rows:
        """The state before the first run."""
        return sparse_steps.initial(x)

    def counts(self, i: tf.Tensor) -> tf.Tensor:
        """Whether image i of a run is in the ball, and may be what the attack returns."""
        return tf.equal(tf.gather(self.factors, i), 1.0)

    def image(self, i: tf.Tensor, rows: Rows, bounds: Bounds, seed: tf.Tensor) -> tf.Tensor:
        """Image i of a run."""
        point = tf.cond(
            tf.equal(i, 0),
            lambda: bounds.center + normal(seed, tf.shape(bounds.center)),
            lambda: tf.cond(
                tf.gather(self.starts, i),
                lambda: rows["best"],
                lambda: sparse_steps.ascended(rows),
            ),
        )
        return self.ball.project(point, bounds._replace(radius=self._radius(i, bounds)))

    def noted(
        self,
        i: tf.Tensor,
        rows: Rows,
        bounds: Bounds,
        image: tf.Tensor,
        gradient: tf.Tensor,
        value: tf.Tensor,
    ) -> Rows:
        """The state after image i."""
        start, radius, center = tf.gather(self.starts, i), self._radius(i, bounds), bounds.center
        rows = sparse_steps.noted(rows, image, gradient, value, start)

        def begun() -> Rows:
            pixels = sparse_steps.moved_pixels(image, center)
            return sparse_steps.begun(rows, sparse_steps.next_share(image, center), pixels, radius)

        def adapted() -> Rows:
            due = tf.gather(self.due, i)
            return tf.cond(
                due, lambda: sparse_steps.adapted(rows, center, radius), lambda: dict(rows)
            )

        return tf.cond(start, begun, adapted)

    def _radius(self, i: tf.Tensor, bounds: Bounds) -> tf.Tensor:
        return bounds.radius * tf.gather(self.factors, i)
