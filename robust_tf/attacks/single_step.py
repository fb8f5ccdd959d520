"""Attacks of one step that start from noise, for training at little more than the price of FGSM."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import tensorflow as tf

from robust_tf import registration
from robust_tf.attacks.base import Attack
from robust_tf.attacks.network import Network, input_gradient
from robust_tf.attacks.objectives import CrossEntropy
from robust_tf.attacks.presets import Preset
from robust_tf.attacks.randomness import fold
from robust_tf.attacks.steps import Start, UnclippedStart, UniformStart
from robust_tf.attacks.threat import Budget, Linf
from robust_tf.models.forward import check_batch_norm_mode
from robust_tf.validation import check_eps, check_number, check_step_size


@registration.configurable
@registration.serializable
@dataclasses.dataclass(frozen=True)
class FGSMRS(Preset):
    """FGSM-RS: one step from a uniform point of the ball, back into the ball and the box.

    Away from the box 62.5 % of the pixels end at distance eps, with the step of 1.25 eps. Longer
    steps, and starts from a part of the ball, lead to catastrophic overfitting.

    Args:
      eps: radius of the ball.
      step_size: of the step; None: 1.25 eps, as in the program for CIFAR-10 (10/255 at 8/255) and
        for MNIST (0.375 at 0.3).
      boxed_start: whether the start is clipped to [0, 1], as in the program for CIFAR-10; that for
        MNIST takes the gradient outside of it, too.
      norm: 'Linf', as in the paper, or 'L2'.
      batch_norm: see `ProjectedGradient`; the program makes its images in 'training'.

    Source: Wong, Rice & Kolter (2020), "Fast is better than free", and their program, which has eps
    and box for each channel of normalized images: the same but for rounding.
    """

    eps: float
    step_size: float | None = None
    boxed_start: bool = True
    norm: str = "Linf"
    batch_norm: str = "running"
    steps: ClassVar[int] = 1  # type: ignore[misc]
    step_per_eps: ClassVar[float] = 1.25

    @property
    def start(self) -> Start:  # type: ignore[override]
        return UniformStart() if self.boxed_start else UnclippedStart()


@registration.configurable
@registration.serializable
@dataclasses.dataclass(frozen=True)
class NFGSM(Attack):
    """N-FGSM: one step of size eps from noise of k eps, which is not clipped to the ball.

        x' = clip(u + step sign grad CE(f(u), y), 0, 1),   u = clip(x + U(-k eps, k eps), 0, 1)

    A pixel may so be moved by k eps + step, three eps as usual; away from the box the mean square
    of its move is eps^2 (1 + k^2 / 3). It is an attack to train with: an evaluation refuses it, as
    what it returns lies outside the ball.

    Args:
      eps: radius of the L-inf ball that training is for.
      noise: k >= 0. The paper has 2; 3 for SVHN at 12/255, 4 for a WRN on CIFAR-10 at 16/255, 1 for
        ImageNet.
      step_size: of the step; None: eps.
      boxed_start: whether u is clipped to [0, 1], as in the paper. On images that lie at the border
        of the box, such as MNIST's, that takes half of the noise away.
      batch_norm: see `ProjectedGradient`; the program makes its images in 'training'.

    Raises:
      ValueError: an argument outside its range.

    Source: de Jorge et al. (2022), "Make Some Noise: Reliable and Efficient Single-Step Adversarial
    Training", and the released program.
    """

    eps: float
    noise: float = 2.0
    step_size: float | None = None
    boxed_start: bool = True
    batch_norm: str = "running"
    steps: ClassVar[int] = 1
    has_step_size: ClassVar[bool] = True
    takes_soft_labels: ClassVar[bool] = True
    leaves_ball: ClassVar[bool] = True

    def __post_init__(self) -> None:
        noise = check_number("NFGSM", "noise", self.noise, 0.0, "the paper has 2")
        self._put(eps=check_eps("NFGSM", self.eps), noise=noise)
        if self.step_size is not None:
            self._put(step_size=check_step_size("NFGSM", self.step_size))
        check_batch_norm_mode(self.batch_norm)

    def run(
        self, network: Network, x: tf.Tensor, y: tf.Tensor, seed: tf.Tensor, budget: Budget
    ) -> tf.Tensor:
        # The box, and what noise and step reach anyway: so that rounding does not reach further.
        radius = self.noise * budget.eps
        threat = Linf(1.0)  # whose radius is given
        bounds = threat.bounds(x, radius + tf.cast(budget.step_size, tf.float64))
        noise = tf.cast(radius, x.dtype) * threat.random(x, fold(seed, 0))
        start = threat.project(x + noise, bounds) if self.boxed_start else x + noise
        gradient, *_ = input_gradient(network, CrossEntropy().values)(start, y, None)
        return threat.step(start, gradient, budget.step_size, bounds)
