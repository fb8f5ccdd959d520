"""The ascent of APGD in L1 with few steps, as training takes it."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import tensorflow as tf

from robust_tf import registration
from robust_tf.attacks import sparse_steps
from robust_tf.attacks.active_set import Rows, choose
from robust_tf.attacks.base import Attack
from robust_tf.attacks.network import Network, input_gradient
from robust_tf.attacks.objectives import CrossEntropy, KLDivergence, Objective
from robust_tf.attacks.randomness import fold
from robust_tf.attacks.steps import CleanStart, Start
from robust_tf.attacks.threat import L1, Budget, flat
from robust_tf.models.forward import check_batch_norm_mode
from robust_tf.validation import check_eps, check_number, check_whole


@registration.configurable
@registration.serializable
@dataclasses.dataclass(frozen=True)
class TrainingAPGD(Attack):
    """The image of the highest objective among steps + 1, in L1: no image leaves, none is judged.

    One ball and one run, with a checkpoint after every step: `APGD` in L1, which is for
    evaluations, has three radii, and returns what is misclassified. A step costs one forward and
    one gradient, the last image one forward.

    Args:
      eps: radius of the ball, the sum of |x' - x| over pixels and channels; 12 for CIFAR-10, 10 for
        MNIST.
      steps: >= 1.
      share: in (0, 1], of the pixels that the first steps move.
      objective: what is raised: `CrossEntropy()` (default), or `KLDivergence()` for TRADES.
      start: `CleanStart()` (default), or `GaussianStart()`, which a divergence needs.
      batch_norm: mode of `robust_tf.models.BatchNormalization`: 'running' (default), 'batch' or
        'training'.

    Raises:
      ValueError: an argument outside its range.

    Source: Croce & Hein (2021), 'Mind the box', section on adversarial training, and Croce & Hein
    (2022) with their program robust_finetuning: 10 steps, a share of 0.05, eps 12, from the clean
    image, by running averages.
    """

    eps: float
    steps: int = 10
    share: float = 0.05
    objective: Objective = CrossEntropy()
    start: Start = CleanStart()
    batch_norm: str = "running"
    norm: ClassVar[str] = "L1"  # type: ignore[misc]

    def __post_init__(self) -> None:
        owner, paper = type(self).__name__, "the paper uses 0.05"
        self._put(
            eps=check_eps(owner, self.eps, self.norm),
            steps=check_whole(owner, "steps", self.steps, 1),
            share=check_number(owner, "share", self.share, 0.0, paper, high=1.0, strict=True),
        )
        check_batch_norm_mode(self.batch_norm)
        if isinstance(self.objective, KLDivergence) and isinstance(self.start, CleanStart):
            raise ValueError(
                f"{owner}: KLDivergence with CleanStart, whose gradient there is zero; use "
                "GaussianStart or UniformStart."
            )

    @property
    def takes_soft_labels(self) -> bool:  # type: ignore[override]
        """Those of its objective: no image is judged by its class."""
        return self.objective.takes_soft_labels

    def run(
        self, network: Network, x: tf.Tensor, y: tf.Tensor, seed: tf.Tensor, budget: Budget
    ) -> tf.Tensor:
        threat = L1(self.eps)
        bounds = threat.bounds(x, budget.eps)
        reference = self.objective.reference(network, x)
        gradient_at = input_gradient(network, self.objective.values)

        def body(k: tf.Tensor, rows: Rows) -> tuple[tf.Tensor, Rows]:
            image = rows["iterate"]
            gradient, value, _ = gradient_at(image, y, reference)
            rows = sparse_steps.noted(rows, image, gradient, value, tf.equal(k, 0))
            rows = tf.cond(
                k > 0,
                lambda: sparse_steps.adapted(rows, x, bounds.radius),
                lambda: dict(rows),
            )
            return k + 1, {**rows, "iterate": threat.project(sparse_steps.ascended(rows), bounds)}

        every = tf.ones(tf.shape(x)[:1])
        pixels = every * tf.cast(tf.shape(flat(x))[1], tf.float32)
        rows = sparse_steps.initial(self.start(threat, bounds, fold(seed, 0)))
        rows = sparse_steps.begun(rows, self.share * every, pixels, bounds.radius)
        _, rows = tf.while_loop(
            lambda *_: True,
            body,
            (tf.constant(0), rows),
            maximum_iterations=self.steps,
            parallel_iterations=1,
        )
        value = self.objective.values(network(rows["iterate"]), y, reference)
        return choose(value > rows["best_value"], rows["iterate"], rows["best"])
