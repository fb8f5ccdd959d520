"""The L1 ball cut to the box [0, 1]: projection, steepest step, uniform draw, all exact.

All take float32 and treat each row by itself. A step is what is added to a point of the box.
"""

from __future__ import annotations

import tensorflow as tf

from robust_tf.attacks import randomness


def project(step: tf.Tensor, center: tf.Tensor, radius: tf.Tensor) -> tf.Tensor:
    """The nearest step d with ||d||_1 <= radius and center + d in [0, 1]; in L2, as usual.

    Coordinate i of it is sign(s_i) * min(max(|s_i| - l, 0), room_i), room_i its way to the border
    of the box. l is 0 where that is inside the ball, else what makes the norm equal the radius: the
    norm falls piecewise linearly with l, with a break where a coordinate leaves the border
    (|s_i| - room_i) and where it reaches the center (|s_i|), which are sorted.

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
    # l is rounded too.
    shrink = tf.math.divide_no_nan(radius, tf.reduce_sum(moved, axis=1))
    shrink = tf.where(tf.reduce_sum(moved, axis=1) > radius, shrink, 1.0)
    return tf.sign(step) * moved * shrink[:, tf.newaxis]


def _shift(size: tf.Tensor, room: tf.Tensor, radius: tf.Tensor) -> tf.Tensor:
    """L of `project`, (B,)."""
    count = tf.shape(size)[1]
    # From the greatest down, along which the norm grows: a coordinate begins to move at its size,
    # and has reached the border at size - room.
    breaks, order = tf.math.top_k(tf.concat([size, size - room], axis=1), 2 * count)
    moving = tf.cumsum(tf.where(order < count, 1.0, -1.0), axis=1)
    lengths = tf.cumsum(moving[:, :-1] * (breaks[:, :-1] - breaks[:, 1:]), axis=1)
    # The piece on which the radius lies begins with the last break that is inside the ball.
    piece = tf.reduce_sum(tf.cast(lengths <= radius[:, tf.newaxis], tf.int32), axis=1)
    upper = tf.gather(breaks, piece, batch_dims=1)
    lower = tf.gather(breaks, tf.minimum(piece + 1, 2 * count - 1), batch_dims=1)
    # There l is the root of a line, found anew: sums over coordinates lose less than cumulated ones
    middle = tf.maximum((upper + lower) / 2, 0.0)[:, tf.newaxis]
    at_border = size - room >= middle
    free = tf.logical_and(size > middle, tf.logical_not(at_border))
    length = tf.reduce_sum(tf.where(at_border, room, tf.where(free, size, 0.0)), axis=1)
    number = tf.reduce_sum(tf.cast(free, size.dtype), axis=1)
    root = tf.math.divide_no_nan(length - radius, number)
    root = tf.clip_by_value(root, tf.maximum(lower, 0.0), tf.maximum(upper, 0.0))
    fits = tf.reduce_sum(tf.minimum(size, room), axis=1) <= radius
    return tf.where(fits, 0.0, root)


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
    count = tf.shape(x)[1]
    length = tf.broadcast_to(length, tf.shape(x)[:1])[:, tf.newaxis]
    order = tf.math.top_k(tf.abs(gradient), count).indices
    room = tf.gather(room_of(x, gradient), order, batch_dims=1)
    # What those before it have left; where a slope is 0 the sign is, too.
    left = length - tf.cumsum(room, axis=1, exclusive=True)
    amount = tf.clip_by_value(left, 0.0, room)
    rows = tf.repeat(tf.range(tf.shape(x)[0])[:, tf.newaxis], count, axis=1)
    amount = tf.scatter_nd(tf.stack([rows, order], axis=2), amount, tf.shape(x))
    return tf.sign(gradient) * amount


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
