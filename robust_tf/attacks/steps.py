"""Where a gradient attack starts and how it steps."""

from __future__ import annotations

import dataclasses
from typing import Any

import tensorflow as tf

from robust_tf import registration
from robust_tf.attacks import randomness
from robust_tf.attacks.threat import Bounds, Threat
from robust_tf.validation import check_number, check_step_size


@dataclasses.dataclass(frozen=True)
class _Config:
    """Keras serialisation of a flat dataclass."""

    def get_config(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> _Config:
        return cls(**config)


@dataclasses.dataclass(frozen=True)
class Start(_Config):
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
class Steepest(_Config):
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
