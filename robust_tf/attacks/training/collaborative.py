"""Collaborative examples: points of the ball where the loss is low."""

from __future__ import annotations

import dataclasses

from robust_tf import registration
from robust_tf.attacks.objectives import CrossEntropy, Objective
from robust_tf.attacks.presets import Preset
from robust_tf.attacks.steps import CleanStart, Start, UniformStart


@registration.configurable
@registration.serializable
@dataclasses.dataclass(frozen=True)
class Collaborative(Preset):
    """PGD with its sign reversed: descends the cross-entropy of the labels it is given.

    That is targeted PGD whose targets are the true labels. It makes nothing harder for the model,
    so evaluations and trainings refuse it; it is for the study of models.

    Args:
      eps: radius of the ball.
      step_size: of each step.
      steps: number of steps.
      random_start: start at a uniform point of the ball rather than at the clean image.
      norm: 'Linf', 'L2' or 'L1'.
      batch_norm: see `ProjectedGradient`.

    Source: Li et al. (2023), "Squeeze training for adversarial robustness", arXiv 2205.11156. The
    start is not stated there.
    """

    eps: float
    step_size: float
    steps: int
    random_start: bool = False
    norm: str = "Linf"
    batch_norm: str = "running"

    @property
    def objective(self) -> Objective:  # type: ignore[override]
        return CrossEntropy(targeted=True)

    @property
    def start(self) -> Start:  # type: ignore[override]
        return UniformStart() if self.random_start else CleanStart()
