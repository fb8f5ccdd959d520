"""The perturbation of ATLD: images that a discriminator takes for adversarial ones.

What it attacks is not a classifier but a network behind its discriminator, images -> (B, 1 + C):
the logit of being natural, then one for each class. `methods.ATLD` puts the two together.
"""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from robust_tf import losses, registration
from robust_tf.attacks.objectives import Objective
from robust_tf.attacks.presets import Preset
from robust_tf.attacks.steps import CleanStart, Start, UnclippedStart
from robust_tf.validation import check_number


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


@registration.configurable
@registration.serializable
@dataclasses.dataclass(frozen=True)
class ManifoldAttack(Preset):
    """Steps of the gradient's sign that make the discriminator more certain of "adversarial".

    Args:
      eps: radius in L-inf, > 0.
      step_size: > 0, or None for eps.
      steps: >= 1; one in paper and program.
      random_start: from x + U(-eps, eps), not clipped to [0, 1] before the first step, as in the
        program; the paper starts at x.
      class_weight: >= 0, of the cross-entropy of the discriminator's class head, to be raised as
        well. 0 in paper and program; the supplement reports on such a variant without saying how.
      batch_norm: mode of the discriminator's batch normalization in the attack: 'training' as in
        the program, whose moving averages see each step, 'batch' or 'running'. The network's is
        always 'running'.

    Raises:
      ValueError: an argument outside its range.

    Source: ATLD paper, x' = argmax of the manifold loss in the ball, and its released program.
    """

    eps: float
    step_size: float | None = None
    steps: int = 1
    random_start: bool = True
    class_weight: float = 0.0
    batch_norm: str = "training"

    def __post_init__(self) -> None:
        super().__post_init__()
        hint = "use 8 / 255 for CIFAR-10, 0.3 for MNIST; without a perturbation train with Standard"
        check_number("ManifoldAttack", "eps", self.eps, 0.0, hint, strict=True)
        weight = check_number("ManifoldAttack", "class_weight", self.class_weight, 0.0, "0 in ATLD")
        self._put(class_weight=weight)

    @property
    def objective(self) -> Objective:  # type: ignore[override]
        return ManifoldLoss(class_weight=self.class_weight)

    @property
    def start(self) -> Start:  # type: ignore[override]
        return UnclippedStart() if self.random_start else CleanStart()
