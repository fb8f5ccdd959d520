"""The L1 ball cut to the box [0, 1]: projection, steepest step, uniform draw, all exact.

All take float32 and treat each row by itself. A step is what is added to a point of the box.
"""

from __future__ import annotations

import tensorflow as tf

from robust_tf.attacks import randomness

_TOLERANCE = 2.0**-21  # of a norm, relative: a few roundings of float32
_MOST_STEPS = 96  # of which 24 halve the interval; usual are 3 to 12


def project(step: tf.Tensor, center: tf.Tensor, radius: tf.Tensor) -> tf.Tensor:
    """The nearest step d with ||d||_1 <= radius and center + d in [0, 1]; in L2, as usual.

    Coordinate i of it is sign(s_i) * min(max(|s_i| - l, 0), room_i), room_i its way to the border
    of the box; l is 0 where that is inside the ball, else what makes the norm equal the radius.

    Args:
      step: (B, n), any finite numbers.
      center: (B, n), in [0, 1].
      radius: scalar or (B,), >= 0.

    Returns:
      (B, n); its norm is at most the radius but for the rounding of a sum.

    Source: Croce & Hein (2021), 'Mind the box', proposition 2.1. To project to the ball and then to
    the box gives another point, farther from the step.
    """
    size, room = tf.abs(step), room_of(center, step)
    radius = tf.broadcast_to(radius, tf.shape(step)[:1])
    shift = _shift(size, room, radius)[:, tf.newaxis]
    moved = tf.minimum(tf.maximum(size - shift, 0.0), room)
    total = tf.reduce_sum(moved, axis=1)  # which the rounding of l may leave above the radius
    shrink = tf.where(total > radius, tf.math.divide_no_nan(radius, total), 1.0)
    return tf.sign(step) * moved * shrink[:, tf.newaxis]


def _shift(size: tf.Tensor, room: tf.Tensor, radius: tf.Tensor) -> tf.Tensor:
    """L of `project`, (B,).

    The norm falls piecewise linearly with l, with a break where a coordinate leaves the border of
    the box (|s_i| - room_i) and where it reaches the center (|s_i|). The source sorts these 2 n
    numbers. Newton's iteration finds the piece without sorting, several times faster, and is exact
    once it is there; as the line is bent to either side, what leaves the interval known to hold the
    root goes to its middle, and so does every fourth step, which ends it in any case.
    """
    border = size - room

    def search(k: tf.Tensor, shift: tf.Tensor, low: tf.Tensor, high: tf.Tensor, going: tf.Tensor):
        at = shift[:, tf.newaxis]
        excess = tf.reduce_sum(tf.minimum(tf.maximum(size - at, 0.0), room), axis=1) - radius
        slope = tf.reduce_sum(tf.cast((size > at) & (border <= at), size.dtype), axis=1)
        low, high = tf.where(excess > 0, shift, low), tf.where(excess > 0, high, shift)
        root = shift + tf.math.divide_no_nan(excess, slope)
        inside = (root > low) & (root < high) & (k % 4 < 3)
        going = going & (tf.abs(excess) > _TOLERANCE * radius)
        return (
            k + 1,
            tf.where(going, tf.where(inside, root, (low + high) / 2), shift),
            low,
            high,
            going,
        )

    fits = tf.reduce_sum(tf.minimum(size, room), axis=1) <= radius
    zero = tf.zeros_like(radius)
    variables = tf.constant(0), zero, zero, tf.reduce_max(size, axis=1), tf.logical_not(fits)
    return tf.while_loop(
        lambda k, shift, low, high, going: tf.reduce_any(going),
        search,
        variables,
        maximum_iterations=_MOST_STEPS,
        parallel_iterations=1,
    )[1]


def add(center: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
    """Center + step, rounded towards the center: no coordinate goes farther than its step says.

    So the sum of many roundings does not lead out of the ball. `step` keeps the box but for
    rounding, as that of `project` does.
    """
    moved = tf.clip_by_value(center + step, 0.0, 1.0)
    beyond = tf.abs(moved - center) > tf.abs(step)
    return tf.where(beyond, tf.math.nextafter(moved, center), moved)


def room_of(x: tf.Tensor, direction: tf.Tensor) -> tf.Tensor:
    """How far each coordinate of x may go in this direction before it meets the box, >= 0."""
    return tf.maximum(tf.where(direction > 0, 1.0 - x, x), 0.0)


def steepest_step(x: tf.Tensor, gradient: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    """The step of at most this L1 norm along which <gradient, step> grows most inside the box.

    The coordinates of the greatest slope go to the border of the box, one after the other, until
    the length is used up: as many as the room in the box asks for.

    Args:
      x: points of the box, (B, n).
      gradient: (B, n).
      length: scalar or (B,), >= 0.

    Returns:
      (B, n).
    """
    slope, room = tf.abs(gradient), room_of(x, gradient)
    length = tf.broadcast_to(length, tf.shape(x)[:1])
    return tf.sign(gradient) * one_by_one(slope, room, tf.ones_like(slope), length)


def one_by_one(slope: tf.Tensor, room: tf.Tensor, price: tf.Tensor, total: tf.Tensor) -> tf.Tensor:
    """How far each coordinate goes, if the steepest goes first, as far as it can.

    Args:
      slope: (B, n), what decides who goes first.
      room: (B, n), how far a coordinate can go.
      price: (B, n), > 0 where the amount matters, of going by 1.
      total: (B,), what can be paid.

    Returns:
      (B, n), in [0, room]; the last one that goes goes as far as the rest of `total` allows.
    """
    count = tf.shape(slope)[1]
    order = tf.math.top_k(slope, count).indices
    room, price = (tf.gather(values, order, batch_dims=1) for values in (room, price))
    left = total[:, tf.newaxis] - tf.cumsum(price * room, axis=1, exclusive=True)
    amount = tf.clip_by_value(tf.math.divide_no_nan(left, price), 0.0, room)
    rows = tf.repeat(tf.range(tf.shape(slope)[0])[:, tf.newaxis], count, axis=1)
    return tf.scatter_nd(tf.stack([rows, order], axis=2), amount, tf.shape(slope))


def unit_ball(seed: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
    """Uniform draws from the unit ball without a box, of this shape (B, ...).

    Source: Barthe et al. (2005): of n Laplace variables and an exponential one, the former divided
    by the sum of all absolute values.
    """
    number = randomness.uniform(seed, shape)
    negative = number < 0.5
    # In [0, 1), so that no logarithm is infinite.
    number = 2 * number - tf.where(negative, 0.0, 1.0)
    values = -tf.math.log1p(-number)
    lead = tf.concat([shape[:1], tf.ones([tf.size(shape) - 1], tf.int32)], 0)
    rest = -tf.math.log1p(-randomness.uniform(randomness.fold(seed, 1), lead))
    axes = tf.range(1, tf.size(shape))
    total = tf.reduce_sum(values, axis=axes, keepdims=True) + rest
    return tf.where(negative, -values, values) / tf.maximum(total, 1e-12)
