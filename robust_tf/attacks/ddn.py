"""DDN: decoupled direction and norm, a minimum-norm attack in L2."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from robust_tf import losses, registration
from robust_tf.attacks.active_set import Rows
from robust_tf.attacks.minimum_norm import GradientSearch, annealed, scaled_to
from robust_tf.models.forward import check_batch_norm_mode
from robust_tf.validation import check_number, check_whole


@registration.configurable
@registration.serializable
@dataclasses.dataclass(frozen=True)
class DDN(GradientSearch):
    """Ascends the cross-entropy on a sphere whose radius follows the boundary.

    From a misclassified point the radius becomes 1 - gamma times what it was, from another one
    1 + gamma times; the perturbation is made to have that L2 norm, and then cut to the box. Steps
    have length 1 at first and 0.01 at the end, along a cosine.

    Args:
      eps: radius of the ball; None: none, the nearest misclassified image wherever it is.
      steps: >= 1; each costs one forward and one backward, and one forward more is made in all.
      gamma: in (0, 1], by how much the radius changes.
      init_eps: > 0, the radius before the first step, in units of [0, 1].
      norm: 'L2'; there is no other.
      batch_norm: mode of `robust_tf.models.BatchNormalization`: 'running', 'batch' or 'training'.

    Raises:
      ValueError: an argument outside its range.

    Source: Rony et al. (2019), 'Decoupling direction and norm for efficient gradient-based L2
    adversarial attacks and defenses', algorithm 1. The paper rounds each iterate to 256 levels, as
    the authors' program (adv_lib) does and Foolbox does not; here none is rounded
    (`evaluate(eight_bits=True)` judges the result so). As in the program the radius is at most the
    distance of the farthest corner of the box, and a random direction takes the place of a gradient
    that is zero. Both leave the last iterate out; here it counts.
    """

    eps: float | None = None  # type: ignore[assignment]
    steps: int = 100
    gamma: float = 0.05
    init_eps: float = 1.0
    norm: str = "L2"
    batch_norm: str = "running"

    def __post_init__(self) -> None:
        if self.norm != "L2":
            raise ValueError(f"DDN(norm={self.norm!r}): must be 'L2'; use FMN for other norms.")
        self._check_eps()
        paper = "the paper uses {:g}".format
        self._put(
            steps=check_whole("DDN", "steps", self.steps, 1),
            gamma=check_number(
                "DDN",
                "gamma",
                self.gamma,
                0.0,
                paper(0.05),
                high=1.0,
                strict=True,
                strict_high=True,
            ),
            init_eps=check_number("DDN", "init_eps", self.init_eps, 0.0, paper(1), strict=True),
        )
        check_batch_norm_mode(self.batch_norm)

    def step_length(self, k: tf.Tensor) -> tf.Tensor:
        return annealed(k, self.steps, 1.0, 0.01)

    def values(self, logits: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        return losses.cross_entropy(logits, y)

    def next_radius(self, k: tf.Tensor, rows: Rows, wrong: tf.Tensor, away: tf.Tensor) -> tf.Tensor:
        # The first radius stands for the clean image.
        before = tf.where(k > 0, rows["radius"], self.init_eps)
        return before * tf.where(wrong, 1 - self.gamma, 1 + self.gamma)

    def cut(self, step: tf.Tensor, x: tf.Tensor, radius: tf.Tensor, found: tf.Tensor) -> tf.Tensor:
        return tf.clip_by_value(x + scaled_to(step, radius), 0.0, 1.0)
