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
      alpha_init: > 0, L2 norm of the first step; None: 10 in L-inf, else 1.
      alpha_final: > 0, of the last one; None: a hundredth of the first.
      gamma_init, gamma_final: in (0, 1), by how much the radius changes at first and at last.
      batch_norm: mode of `robust_tf.models.BatchNormalization`: 'running', 'batch' or 'training'.

    Raises:
      ValueError: an argument outside its range.

    Source: Pintor et al. (2021), 'Fast minimum-norm adversarial attacks through adaptive norm
    constraints', algorithm 1, untargeted. The authors' program and adv_lib default to 10 steps,
    Foolbox to 100, all with alpha_init 1 in every norm; AttackBench takes 10 in L-inf. Points
    are cut to the ball and then to the box; here in L2 to the box before, too, and in L1 projected
    to both at once. In L2 Foolbox does not project at all.
    Programs leave the last iterate out; here it counts.

    Beside the paper, while nothing is found: in L2 and L1 the perturbation is lengthened to the
    radius, as adv_lib does in L2 at all times, else it may never leave a region where the gradient
    turns; the radius grows at least by the factor 1 + gamma where the boundary seems to be nearer
    than that, and always in L1, as the estimate has one pixel move alone, past the box. The radius
    is at most the distance of the farthest corner of the box. A random direction takes the place of
    a gradient that is zero.
    """

    eps: float | None = None  # type: ignore[assignment]
    steps: int = 100
    norm: str = "Linf"
    alpha_init: float | None = None
    alpha_final: float | None = None
    gamma_init: float = 0.05
    gamma_final: float = 0.001
    batch_norm: str = "running"

    def __post_init__(self) -> None:
        check_norm("FMN", self.norm)
        self._check_eps()
        self._put(steps=check_whole("FMN", "steps", self.steps, 1))
        for name in ("alpha_init", "alpha_final"):
            value, hint = getattr(self, name), "None is as usual in this norm"
            if value is not None:
                self._put(**{name: check_number("FMN", name, value, 0.0, hint, strict=True)})
        for name, usual in (("gamma_init", 0.05), ("gamma_final", 0.001)):
            value, hint = getattr(self, name), f"the paper uses {usual:g}"
            value = check_number(
                "FMN", name, value, 0.0, hint, high=1.0, strict=True, strict_high=True
            )
            self._put(**{name: value})
        check_batch_norm_mode(self.batch_norm)

    def step_length(self, k: tf.Tensor) -> tf.Tensor:
        usual = 10.0 if self.norm == "Linf" else 1.0
        first = usual if self.alpha_init is None else self.alpha_init
        last = first / 100 if self.alpha_final is None else self.alpha_final
        return annealed(k, self.steps, first, last)

    def values(self, logits: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        return -margin(logits, y)

    def next_radius(self, k: tf.Tensor, rows: Rows, wrong: tf.Tensor, away: tf.Tensor) -> tf.Tensor:
        gamma = annealed(k, self.steps, self.gamma_init, self.gamma_final)
        before, best = rows["radius"], rows["best"]
        inwards = tf.minimum(before * (1 - gamma), best)
        # Where the boundary seems to be near and is not reached: by rounding it may never be, and
        # what the box cuts off brings no point farther.
        close = tf.constant(True) if self.norm == "L1" else away < gamma * rows["distance"]
        least = tf.where(close, before * (1 + gamma), 0.0)
        estimate = tf.maximum(rows["distance"] + away, least)
        outwards = tf.where(tf.math.is_finite(best), before * (1 + gamma), estimate)
        return tf.where(wrong, inwards, outwards)

    def cut(self, step: tf.Tensor, x: tf.Tensor, radius: tf.Tensor, found: tf.Tensor) -> tf.Tensor:
        if self.norm == "Linf":
            bound = per_image(radius, x)
            return tf.clip_by_value(x + tf.clip_by_value(step, -bound, bound), 0.0, 1.0)
        if self.norm == "L2":  # what the box cuts off takes no part of the length
            step = tf.clip_by_value(x + step, 0.0, 1.0) - x
        length = tf.norm(flat(step), 2 if self.norm == "L2" else 1, axis=1)
        wanted = tf.where(found, tf.minimum(length, radius), radius)
        if self.norm == "L2":
            return tf.clip_by_value(x + scaled_to(step, wanted), 0.0, 1.0)
        longer = tf.maximum(wanted / tf.maximum(length, 1e-12), 1.0)
        center = flat(x)
        near = l1_ball.project(flat(step * per_image(longer, x)), center, radius)
        return tf.reshape(l1_ball.add(center, near), tf.shape(x))
