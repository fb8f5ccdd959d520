"""Where a gradient attack starts and how it steps."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from robust_tf import registration
from robust_tf.attacks import randomness, sparse_steps
from robust_tf.attacks.threat import Bounds, Threat
from robust_tf.dataclass_config import DataclassConfig
from robust_tf.validation import check_number, check_step_size


@dataclasses.dataclass(frozen=True)
class Start(DataclassConfig):
    """Base of starts."""

    def __call__(self, threat: Threat, bounds: Bounds, seed: tf.Tensor) -> tf.Tensor:
        """Images of the ball, the shape of `bounds.center`."""
        raise NotImplementedError


@registration.configurable
@registration.serializable
@dataclasses.dataclass(frozen=True)
class CleanStart(Start):
    """Starts at the clean image (BIM, MIM)."""

    def __call__(self, threat: Threat, bounds: Bounds, seed: tf.Tensor) -> tf.Tensor:
        return bounds.center


@registration.configurable
@registration.serializable
@dataclasses.dataclass(frozen=True)
class UniformStart(Start):
    """Starts at a uniform draw from the ball, clipped to [0, 1] as in Madry et al.'s program."""

    def __call__(self, threat: Threat, bounds: Bounds, seed: tf.Tensor) -> tf.Tensor:
        noise = threat.random(bounds.center, seed)
        return threat.project(bounds.center + bounds.radius * noise, bounds)


@registration.serializable
@dataclasses.dataclass(frozen=True)
class UnclippedStart(Start):
    """Starts at a uniform draw from the ball, which may lie outside [0, 1] (ATLD's program)."""

    def __call__(self, threat: Threat, bounds: Bounds, seed: tf.Tensor) -> tf.Tensor:
        return bounds.center + bounds.radius * threat.random(bounds.center, seed)


@registration.serializable
@dataclasses.dataclass(frozen=True)
class BernoulliStart(Start):
    """Starts with each pixel moved by + or - a part of the radius, a coin for each (NuAT: 0.5)."""

    part: float = 0.5

    def __post_init__(self) -> None:
        part = check_number("BernoulliStart", "part", self.part, 0.0, "NuAT has 0.5", high=1.0)
        object.__setattr__(self, "part", part)

    def __call__(self, threat: Threat, bounds: Bounds, seed: tf.Tensor) -> tf.Tensor:
        center = bounds.center
        coin = tf.where(randomness.uniform(seed, tf.shape(center)) < 0.5, -1.0, 1.0)
        return threat.project(center + self.part * bounds.radius * coin, bounds)


@registration.configurable
@registration.serializable
@dataclasses.dataclass(frozen=True)
class GaussianStart(Start):
    """Starts at x + stddev * N(0, I), projected (TRADES: 0.001)."""

    stddev: float = 0.001

    def __post_init__(self) -> None:
        stddev = check_number("GaussianStart", "stddev", self.stddev, 0.0, "TRADES uses 0.001")
        object.__setattr__(self, "stddev", stddev)

    def __call__(self, threat: Threat, bounds: Bounds, seed: tf.Tensor) -> tf.Tensor:
        center = bounds.center
        noise = randomness.normal(seed, tf.shape(center))
        return threat.project(center + self.stddev * noise, bounds)


@registration.configurable
@registration.serializable
@dataclasses.dataclass(frozen=True)
class Steepest(DataclassConfig):
    """x + step_size * the unit step of steepest ascent in the threat's norm (PGD)."""

    step_size: float

    def __post_init__(self) -> None:
        # Of a norm it knows nothing; the attack that does refuses more.
        size = check_step_size(type(self).__name__, self.step_size, norm="any")
        object.__setattr__(self, "step_size", size)

    def initial(self, x: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """State carried from step to step."""
        return ()

    def direction(
        self, gradient: tf.Tensor, state: tuple[tf.Tensor, ...]
    ) -> tuple[tf.Tensor, tuple[tf.Tensor, ...]]:
        """What to take the steepest step along, and the next state."""
        return gradient, state

    def move(
        self,
        threat: Threat,
        x: tf.Tensor,
        gradient: tf.Tensor,
        state: tuple[tf.Tensor, ...],
        step_size: tf.Tensor,
        bounds: Bounds,
    ) -> tuple[tf.Tensor, tuple[tf.Tensor, ...]]:
        """X after a step of this size, a point of the ball, and the next state."""
        direction, state = self.direction(gradient, state)
        return threat.step(x, direction, step_size, bounds), state


@registration.configurable
@registration.serializable
@dataclasses.dataclass(frozen=True)
class Momentum(Steepest):
    """Steps along m <- decay * m + g / mean |g| (MIM).

    Source: Dong et al. (2018). Theirs divides by the L1 norm, CleverHans by the mean, which differs
    by a constant factor for each image and gives the same signs.
    """

    decay: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        decay = check_number("Momentum", "decay", self.decay, 0.0, "the paper uses 1")
        object.__setattr__(self, "decay", decay)

    def initial(self, x: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return (tf.zeros_like(x),)

    def direction(
        self, gradient: tf.Tensor, state: tuple[tf.Tensor, ...]
    ) -> tuple[tf.Tensor, tuple[tf.Tensor, ...]]:
        axes = list(range(1, gradient.shape.rank))
        mean = tf.reduce_mean(tf.abs(gradient), axis=axes, keepdims=True)
        momentum = self.decay * state[0] + gradient / tf.maximum(mean, 1e-12)
        return momentum, (momentum,)


@registration.configurable
@registration.serializable
@dataclasses.dataclass(frozen=True)
class AdaptiveSparsity(Steepest):
    """Steps in L1 along the signs of the greatest slopes, in equal parts; how many pixels adapts.

    The steepest step in L1 takes a few pixels to the border of the box, where the slopes soon are
    others. This one moves a share of them a little: at first `share` of all, later two thirds as
    many as the image has moved so far.

    Args:
      step_size: L1 norm of a step.
      share: in (0, 1], of the pixels that the first step moves.

    Source: Croce & Hein (2021), 'Mind the box', whose APGD also goes back to the best image and
    chooses the step size. For `L1` alone.
    """

    share: float = sparse_steps.SHARE

    def __post_init__(self) -> None:
        super().__post_init__()
        share = check_number(
            "AdaptiveSparsity",
            "share",
            self.share,
            0.0,
            "the paper uses 0.2",
            high=1.0,
            strict=True,
        )
        object.__setattr__(self, "share", share)

    def initial(self, x: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return (tf.fill(tf.shape(x)[:1], self.share),)

    def move(
        self,
        threat: Threat,
        x: tf.Tensor,
        gradient: tf.Tensor,
        state: tuple[tf.Tensor, ...],
        step_size: tf.Tensor,
        bounds: Bounds,
    ) -> tuple[tf.Tensor, tuple[tf.Tensor, ...]]:
        length = tf.broadcast_to(step_size, tf.shape(x)[:1])
        x = threat.project(x + sparse_steps.sparse_step(gradient, state[0], length), bounds)
        return x, (sparse_steps.next_share(x, bounds.center),)
