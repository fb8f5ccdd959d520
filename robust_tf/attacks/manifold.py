"""The perturbation of ATLD: images that a discriminator takes for adversarial ones.

What it attacks is not a classifier but a network behind its discriminator, images -> (B, 1 + C):
the logit of being natural, then one for each class. So it is no part of `robust_tf.attacks`, whose
names evaluations know; `methods.ATLD` puts the two together.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import tensorflow as tf

from robust_tf import losses, registration
from robust_tf.attacks.objectives import Objective
from robust_tf.attacks.projected_gradient import ProjectedGradient
from robust_tf.attacks.steps import CleanStart, Steepest
from robust_tf.attacks.threat import Bounds, Linf, Threat
from robust_tf.validation import check_eps, check_number


@registration.serializable
@dataclasses.dataclass(frozen=True)
class ManifoldLoss(Objective):
    """log(1 - D0(x')) + class_weight CE(Dc(x'), y); without the second part labels are ignored.

    The clean half of the manifold loss, log D0(x), does not depend on x'.
    """

    class_weight: float = 0.0

    def values(self, logits: tf.Tensor, y: tf.Tensor, reference: tf.Tensor | None) -> tf.Tensor:
        value = -tf.nn.softplus(logits[:, 0])
        if self.class_weight:
            value += self.class_weight * losses.cross_entropy(logits[:, 1:], y)
        return value


@registration.serializable
@dataclasses.dataclass(frozen=True)
class UnclippedStart:
    """Starts at a uniform draw from the ball, which may lie outside [0, 1]."""

    def __call__(self, threat: Threat, bounds: Bounds, seed: tf.Tensor) -> tf.Tensor:
        return bounds.center + bounds.radius * threat.random(bounds.center, seed)

    def get_config(self) -> dict[str, Any]:
        """For Keras files."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> UnclippedStart:
        """Inverse of `get_config`."""
        return cls()


@registration.configurable
def ManifoldAttack(
    eps: float,
    step_size: float | None = None,
    steps: int = 1,
    random_start: bool = True,
    class_weight: float = 0.0,
    batch_norm: str = "training",
) -> ProjectedGradient:
    """Steps of the gradient's sign that make the discriminator more certain of "adversarial".

    Args:
      eps: radius in L-inf, > 0.
      step_size: > 0, or None for eps.
      steps: >= 1; one in paper and program.
      random_start: from x + U(-eps, eps), not clipped to [0, 1] before the first step, as in the
        program; the paper starts at x.
      class_weight: >= 0, of the cross-entropy of the discriminator's class head, to be raised as
        well. 0 in paper and program; the supplement reports on such a variant without saying how.
      batch_norm: mode of the discriminator's batch normalisation in the attack: 'training' as in
        the program, whose moving averages see each step, 'batch' or 'running'. The network's is
        always 'running'.

    Raises:
      ValueError: an argument outside its range.

    Source: ATLD paper, x' = argmax of the manifold loss in the ball, and its released program.
    """
    hint = "use 8 / 255 for CIFAR-10, 0.3 for MNIST; without a perturbation train with Standard"
    check_eps("ManifoldAttack", eps)
    check_number("ManifoldAttack", "eps", eps, 0.0, hint, strict=True)
    check_number("ManifoldAttack", "class_weight", class_weight, 0.0, "0 in the paper")
    return ProjectedGradient(
        Linf(eps),
        Steepest(eps if step_size is None else step_size),
        steps,
        ManifoldLoss(class_weight=class_weight),
        UnclippedStart() if random_start else CleanStart(),
        batch_norm=batch_norm,
    )
