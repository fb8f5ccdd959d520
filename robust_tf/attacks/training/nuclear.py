"""The perturbation of NuAT: one step that raises the cross-entropy and a nuclear norm."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import ClassVar

import tensorflow as tf

from robust_tf import losses, registration
from robust_tf.attacks.objectives import Objective
from robust_tf.attacks.presets import Preset
from robust_tf.attacks.steps import BernoulliStart, Start
from robust_tf.validation import check_number


@registration.serializable
@dataclasses.dataclass(frozen=True)
class NuclearLoss(Objective):
    """CE(f(x'), y) + weight * share of ||f(x') - f(x)||_*; f(x) is constant.

    Args:
      weight: of the norm, >= 0.
    """

    takes_soft_labels: ClassVar[bool] = True
    weight: float = 0.0

    def reference(self, network: Callable[[tf.Tensor], tf.Tensor], x: tf.Tensor) -> tf.Tensor:
        """The logits of the clean images, at one more forward."""
        return network(x)

    def values(self, logits: tf.Tensor, y: tf.Tensor, reference: tf.Tensor | None) -> tf.Tensor:
        return nuclear_loss(logits, y, reference, self.weight)


def nuclear_loss(
    logits: tf.Tensor, y: tf.Tensor, clean: tf.Tensor, weight: float | tf.Tensor
) -> tf.Tensor:
    """(B,): the cross-entropy, and the example's share of the nuclear norm times `weight`."""
    value = losses.label_cross_entropy(logits, y)
    return value + weight * losses.nuclear_norm(logits - clean)


@registration.configurable
@registration.serializable
@dataclasses.dataclass(frozen=True)
class NuclearAttack(Preset):
    """Raises CE + weight ||f(x') - f(x)||_* from x +- eps / 2, L-inf (NuAT).

    The norm is of the matrix of logits of the batch, so that its examples see each other. `NuAT`
    itself says by which weight each of its steps goes; the one here is that of other uses of the
    attack, such as a validation.

    Args:
      eps: radius of the ball.
      step_size: of each step; None: eps.
      steps: 1; 2 in NuAT2, of which `NuAT` takes the second on the cross-entropy alone.
      weight: of the nuclear norm, >= 0.
      batch_norm: see `ProjectedGradient`; 'running' in the program.

    Source: Sriramanan et al. (2021), "Towards Efficient and Effective Adversarial Training", and
    the released program.
    """

    eps: float
    step_size: float | None = None
    steps: int = 1
    weight: float = 4.5
    batch_norm: str = "running"

    def __post_init__(self) -> None:
        hint = "the program has 4.5 with ResNet-18"
        self._put(weight=check_number("NuclearAttack", "weight", self.weight, 0.0, hint))
        super().__post_init__()

    @property
    def objective(self) -> Objective:  # type: ignore[override]
        return NuclearLoss(weight=self.weight)

    @property
    def start(self) -> Start:  # type: ignore[override]
        return BernoulliStart(0.5)
