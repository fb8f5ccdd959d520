"""Threat models: the balls in which an adversary may move an image."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import tensorflow as tf

from robust_tf import registration
from robust_tf.attacks import l1_ball, randomness
from robust_tf.dataclass_config import DataclassConfig
from robust_tf.validation import check_eps, check_norm


class Bounds(NamedTuple):
    """What a projection needs, computed once per attack.

    center: the clean images; low, high: the box around them, already cut to [0, 1];
    radius: float32 scalar, the ball's radius after the room left for rounding (L2 and L1).
    """

    center: tf.Tensor
    low: tf.Tensor
    high: tf.Tensor
    radius: tf.Tensor

    def rows(self) -> dict[str, tf.Tensor]:
        """Those that belong to one example each, by name."""
        return {name: value for name, value in self._asdict().items() if value.shape.rank}

    def of(self, rows: dict[str, tf.Tensor]) -> Bounds:
        """The bounds of other examples, whose `rows()` these are, perhaps among others."""
        return self._replace(**{name: rows[name] for name in self.rows()})


class Budget(NamedTuple):
    """How far an attack may go, as scalars of its graph, so that one trace serves all values.

    eps: float64, radius of the ball; step_size: float32, of a gradient attack's steps.
    """

    eps: tf.Tensor
    step_size: tf.Tensor


@dataclasses.dataclass(frozen=True)
class Threat(DataclassConfig):
    """A norm ball of radius `eps`, in pixel units of images in [0, 1], cut to the box [0, 1].

    Args:
      eps: radius, a finite number >= 0, in L-inf at most 1. 0 leaves only the clean image. What is
        usual depends on the norm: 8/255 in L-inf, 0.5 in L2 and 12 in L1 for CIFAR-10.

    Raises:
      ValueError: eps outside its range, or not a number.
    """

    eps: float

    def __post_init__(self) -> None:
        name = type(self).__name__
        object.__setattr__(self, "eps", check_eps(name, self.eps, name))

    def bounds(self, x: tf.Tensor, eps: float | tf.Tensor | None = None) -> Bounds:
        """The ball around images x, of radius eps, a number or float64 scalar; None: its own."""
        raise NotImplementedError

    def step(
        self, x: tf.Tensor, direction: tf.Tensor, step_size: tf.Tensor, bounds: Bounds
    ) -> tf.Tensor:
        """X after a step of steepest ascent of this gradient, projected."""
        return self.project(x + step_size * self.steepest(direction), bounds)

    def project(self, x: tf.Tensor, bounds: Bounds) -> tf.Tensor:
        """A point of the ball and the box, to the last bit; the nearest one for L-inf and L1.

        For L2 the ball first, then the box, as is usual: inside both, not always nearest.
        """
        raise NotImplementedError

    def steepest(self, direction: tf.Tensor) -> tf.Tensor:
        """The unit step, in this norm, along which a function of this gradient grows most."""
        raise NotImplementedError

    def random(self, x: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """A uniform draw from the unit ball, the shape of x."""
        raise NotImplementedError

    def distance(self, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        """The norm of x - y for each example, (B,)."""
        raise NotImplementedError

    def _radius(self, eps: float | tf.Tensor | None) -> tf.Tensor:
        """Eps as a float64 scalar."""
        return scalar(self.eps if eps is None else eps, tf.float64)


@registration.configurable
@registration.serializable
@dataclasses.dataclass(frozen=True)
class Linf(Threat):
    """max |x' - x| <= eps."""

    def bounds(self, x: tf.Tensor, eps: float | tf.Tensor | None = None) -> Bounds:
        eps = self._radius(eps)
        # x +- eps rounded to float32 may lie an ulp outside the ball; step such bounds back inside.
        exact = tf.cast(x, tf.float64)
        high, low = tf.cast(exact + eps, x.dtype), tf.cast(exact - eps, x.dtype)
        high = tf.where(tf.cast(high, tf.float64) - exact > eps, tf.math.nextafter(high, x), high)
        low = tf.where(exact - tf.cast(low, tf.float64) > eps, tf.math.nextafter(low, x), low)
        return Bounds(x, tf.maximum(low, 0.0), tf.minimum(high, 1.0), tf.cast(eps, x.dtype))

    def project(self, x: tf.Tensor, bounds: Bounds) -> tf.Tensor:
        return tf.clip_by_value(x, bounds.low, bounds.high)

    def steepest(self, direction: tf.Tensor) -> tf.Tensor:
        return tf.sign(direction)

    def random(self, x: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        return randomness.uniform(seed, tf.shape(x), -1.0, 1.0)

    def distance(self, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        return tf.reduce_max(tf.abs(flat(x) - flat(y)), axis=1)


@registration.configurable
@registration.serializable
@dataclasses.dataclass(frozen=True)
class L2(Threat):
    """||x' - x||_2 <= eps, over all pixels and channels of an image."""

    def bounds(self, x: tf.Tensor, eps: float | tf.Tensor | None = None) -> Bounds:
        eps = tf.cast(self._radius(eps), x.dtype)
        # Each coordinate of center + step is rounded by at most 2^-25 in [0, 1], the norm of the
        # step itself by a few ulp: leave that much room, so that the result is inside for certain.
        size = tf.cast(tf.reduce_prod(tf.shape(x)[1:]), x.dtype)
        radius = tf.maximum(eps * (1 - 2.0**-20) - tf.sqrt(size) * 2.0**-24, 0.0)
        return Bounds(x, tf.zeros([], x.dtype), tf.ones([], x.dtype), radius)

    def project(self, x: tf.Tensor, bounds: Bounds) -> tf.Tensor:
        step = x - bounds.center
        shrink = tf.minimum(1.0, bounds.radius / tf.maximum(_norm(step), 1e-12))
        return tf.clip_by_value(bounds.center + step * shrink, bounds.low, bounds.high)

    def steepest(self, direction: tf.Tensor) -> tf.Tensor:
        return direction / tf.maximum(_norm(direction), 1e-12)

    def random(self, x: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        direction = randomness.normal(seed, tf.shape(x))
        size = tf.cast(tf.reduce_prod(tf.shape(x)[1:]), x.dtype)
        shape = tf.concat([tf.shape(x)[:1], tf.ones([tf.rank(x) - 1], tf.int32)], 0)
        length = randomness.uniform(randomness.fold(seed, 1), shape) ** (1 / size)
        return self.steepest(direction) * length

    def distance(self, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        return tf.norm(flat(x) - flat(y), axis=1)


@registration.configurable
@registration.serializable
@dataclasses.dataclass(frozen=True)
class L1(Threat):
    """||x' - x||_1 <= eps, the sum of |x' - x| over all pixels and channels of an image.

    With images in [0, 1], eps is the number of values that may go from 0 to 1; 12 is usual for
    CIFAR-10 (3,072 values), 10 for MNIST (784).
    """

    def bounds(self, x: tf.Tensor, eps: float | tf.Tensor | None = None) -> Bounds:
        eps = tf.cast(self._radius(eps), x.dtype)
        # No coordinate is rounded outwards (`l1_ball.add`): the room is for that of their sum.
        return Bounds(x, tf.zeros([], x.dtype), tf.ones([], x.dtype), eps * (1 - 2.0**-18))

    def step(
        self, x: tf.Tensor, direction: tf.Tensor, step_size: tf.Tensor, bounds: Bounds
    ) -> tf.Tensor:
        """Steepest inside the box: more coordinates move where the first ones meet its border."""
        length = tf.reshape(step_size, [-1])
        move = l1_ball.steepest_step(flat(x), flat(direction), length)
        return self.project(x + tf.reshape(move, tf.shape(x)), bounds)

    def project(self, x: tf.Tensor, bounds: Bounds) -> tf.Tensor:
        center = flat(bounds.center)
        step = l1_ball.project(flat(x) - center, center, bounds.radius)
        return tf.reshape(l1_ball.add(center, step), tf.shape(x))

    def steepest(self, direction: tf.Tensor) -> tf.Tensor:
        """Without a box that is one coordinate, the one of the greatest slope."""
        slope = flat(direction)
        first = tf.one_hot(tf.argmax(tf.abs(slope), axis=1), tf.shape(slope)[1])
        return tf.reshape(tf.sign(slope) * first, tf.shape(direction))

    def random(self, x: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        return l1_ball.unit_ball(seed, tf.shape(x))

    def distance(self, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(tf.abs(flat(x) - flat(y)), axis=1)


def flat(x: tf.Tensor) -> tf.Tensor:
    """(B, ...) -> (B, n)."""
    return tf.reshape(x, [tf.shape(x)[0], tf.reduce_prod(tf.shape(x)[1:])])


def _norm(x: tf.Tensor) -> tf.Tensor:
    """L2 norm of each example, (B, 1, ..., 1)."""
    return tf.sqrt(tf.reduce_sum(tf.square(x), axis=list(range(1, x.shape.rank)), keepdims=True))


def threat_of(norm: str, eps: float) -> Threat:
    """`Linf(eps)`, `L2(eps)` or `L1(eps)`.

    Raises:
      ValueError: another norm, or eps out of range.
    """
    check_norm("threat", norm)
    return {"Linf": Linf, "L2": L2, "L1": L1}[norm](eps)


def scalar(value: float | tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """A scalar of this type; a Python number without a detour by float32."""
    value = tf.cast(value, dtype) if tf.is_tensor(value) else tf.convert_to_tensor(value, dtype)
    return tf.ensure_shape(value, [])
