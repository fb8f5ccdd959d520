"""FMN: fast minimum-norm attacks in L-inf, L2 and L1."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from robust_tf import registration
from robust_tf.attacks import l1_ball
from robust_tf.attacks.active_set import Rows, per_image
from robust_tf.attacks.minimum_norm import GradientSearch, annealed, scaled_to
from robust_tf.attacks.objectives import margin
from robust_tf.attacks.threat import flat
from robust_tf.models.forward import check_batch_norm_mode
from robust_tf.validation import check_norm, check_number, check_whole


@registration.configurable
@registration.serializable
@dataclasses.dataclass(frozen=True)
class FMN(GradientSearch):
    """Lowers the margin of the logits inside a ball whose radius follows the boundary.

    Until a point is misclassified the radius is where the boundary seems to be: the distance so far
    plus |margin| / dual norm of the gradient. Then it becomes 1 + gamma times what it was after a
    point that is classified correctly, and after another one 1 - gamma times, or the least distance
    if that is smaller. Steps go along the gradient, in L2, in every norm; they and gamma fall along
    a cosine.

    Args:
      eps: radius of the ball; None: none, the nearest misclassified image wherever it is.
      steps: >= 1; each costs one forward and one backward, and one forward more is made in all.
        The paper compares at up to 1,000.
      norm: 'Linf', 'L2' or 'L1', the one that is minimized.
      alpha_init, alpha_final: > 0, L2 norm of the first and the last step.
      gamma_init, gamma_final: in (0, 1), by how much the radius changes at first and at last.
      batch_norm: mode of `robust_tf.models.BatchNormalization`: 'running', 'batch' or 'training'.

    Raises:
      ValueError: an argument outside its range.

    Source: Pintor et al. (2021), 'Fast minimum-norm adversarial attacks through adaptive norm
    constraints', algorithm 1, untargeted. The authors' program and adv_lib default to 10 steps,
    Foolbox to 100. The projection is the paper's, to the ball and then to the box; in L1 it is the
    exact one to both. In L2 Foolbox does not project at all, and adv_lib scales to the sphere.
    Programs leave the last iterate out; here it counts. Beside the paper: while nothing is found
    the radius grows at least by the factor 1 + gamma; it is at most that of the farthest corner of
    the box; a random direction takes the place of a gradient that is zero.
    """

    eps: float | None = None
    steps: int = 100
    norm: str = "Linf"
    alpha_init: float = 1.0
    alpha_final: float = 0.01
    gamma_init: float = 0.05
    gamma_final: float = 0.001
    batch_norm: str = "running"

    def __post_init__(self) -> None:
        check_norm("FMN", self.norm)
        self._check_eps()
        self._put(steps=check_whole("FMN", "steps", self.steps, 1))
        for name, usual in (("alpha_init", 1.0), ("alpha_final", 0.01)):
            value = getattr(self, name)
            value = check_number("FMN", name, value, 0.0, f"the paper uses {usual:g}", strict=True)
            self._put(**{name: value})
        for name, usual in (("gamma_init", 0.05), ("gamma_final", 0.001)):
            value, hint = getattr(self, name), f"the paper uses {usual:g}"
            value = check_number(
                "FMN", name, value, 0.0, hint, high=1.0, strict=True, strict_high=True
            )
            self._put(**{name: value})
        check_batch_norm_mode(self.batch_norm)

    def step_length(self, k: tf.Tensor) -> tf.Tensor:
        return annealed(k, self.steps, self.alpha_init, self.alpha_final)

    def values(self, logits: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        return -margin(logits, y)

    def next_radius(self, k: tf.Tensor, rows: Rows, wrong: tf.Tensor, away: tf.Tensor) -> tf.Tensor:
        gamma = annealed(k, self.steps, self.gamma_init, self.gamma_final)
        before, best = rows["radius"], rows["best"]
        inwards = tf.minimum(before * (1 - gamma), best)
        # It grows at least by gamma: on a plane the estimate is the boundary itself, which rounding
        # may leave out of reach for ever, and what the box cuts off brings no point farther.
        estimate = tf.maximum(rows["distance"] + away, before * (1 + gamma))
        outwards = tf.where(tf.math.is_finite(best), before * (1 + gamma), estimate)
        return tf.where(wrong, inwards, outwards)

    def cut(self, step: tf.Tensor, x: tf.Tensor, radius: tf.Tensor, found: tf.Tensor) -> tf.Tensor:
        if self.norm == "L1":
            center = flat(x)
            near = l1_ball.project(flat(step), center, radius)
            return tf.reshape(l1_ball.add(center, near), tf.shape(x))
        if self.norm == "L2":
            own = tf.norm(flat(step), axis=1)
            step = scaled_to(step, tf.minimum(own, radius))
        else:
            bound = per_image(radius, x)
            step = tf.clip_by_value(step, -bound, bound)
        return tf.clip_by_value(x + step, 0.0, 1.0)
