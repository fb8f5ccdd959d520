"""The nearest point of a hyperplane inside the box [0, 1]; in L-inf and L2 without sorting."""

from __future__ import annotations

import tensorflow as tf

from robust_tf.attacks import l1_ball

# A step multiplies (way still missing) x (slope) by 1/4 or less, so that float32 is used up well
# before; images need 4 to 12 steps.
_MAX_STEPS = 64


def project_linf(x: tf.Tensor, w: tf.Tensor, excess: tf.Tensor) -> tf.Tensor:
    """The move d of least L-inf norm that takes x to a hyperplane and leaves it in the box.

    Every coordinate goes by the same amount against sign(excess) * w, until it meets the box.

    Args:
      x: points in [0, 1], (B, n).
      w: normals, (B, n), of any scale; where w is 0, so is d.
      excess: <w, x> - b for the hyperplane {v: <w, v> = b}, (B,). It is asked for in place of b
        since a caller near the hyperplane knows it better than float32 can subtract it.

    Returns:
      d (B, n), with x + d in [0, 1] but for rounding, and <w, x + d> = b; where the box does not
      reach the hyperplane, x + d is the corner that comes nearest to it.

    Source: Croce & Hein (2020), section 3.1. Their program sorts the coordinates by their room to
    the box. Here the way already gone towards the hyperplane, a concave and piecewise linear
    function of the amount, is solved by Newton's iteration from 0, which stays below the root and
    is exact once it is on the root's piece.
    """
    return _project(x, w, excess, by_slope=False)


def project_l2(x: tf.Tensor, w: tf.Tensor, excess: tf.Tensor) -> tf.Tensor:
    """The move d of least L2 norm; as `project_linf`, with coordinates that go by |w| each.

    The released program leaves coordinates with |w| < 1e-8 where they are; here w may have any
    scale.
    """
    return _project(x, w, excess, by_slope=True)


def project_l1(x: tf.Tensor, w: tf.Tensor, excess: tf.Tensor) -> tf.Tensor:
    """The move d of least L1 norm; as `project_linf`, with few coordinates that go.

    Those of the greatest |w| go to the border of the box, one after the other, until the hyperplane
    is reached.
    """
    w, missing, direction, room = _scaled(x, w, excess)
    return direction * l1_ball.one_by_one(w, room, w, missing)


def _scaled(
    x: tf.Tensor, w: tf.Tensor, excess: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """|w|, |excess|, which way each coordinate goes (0 where w is), and its room to the box.

    Scaled to max |w| = 1, so that squares neither overflow nor vanish.
    """
    size = tf.reduce_max(tf.abs(w), axis=1)
    w = tf.math.divide_no_nan(w, size[:, tf.newaxis])
    missing = tf.math.divide_no_nan(tf.abs(excess), size)
    direction = tf.where(excess[:, tf.newaxis] < 0, tf.sign(w), -tf.sign(w))
    room = tf.where(direction > 0, 1 - x, x)
    return tf.abs(w), missing, direction, room


def _project(x: tf.Tensor, w: tf.Tensor, excess: tf.Tensor, by_slope: bool) -> tf.Tensor:
    w, missing, direction, room = _scaled(x, w, excess)
    speed = w if by_slope else tf.ones_like(w)
    gain, slope = w * room, w * speed
    stop = tf.math.divide_no_nan(room, speed)  # the amount at which a coordinate meets the box
    beyond = missing >= tf.reduce_sum(gain, axis=1)

    def newton(amount: tf.Tensor, before: tf.Tensor, going: tf.Tensor) -> tuple:
        free = tf.cast(
            stop > amount[:, tf.newaxis], tf.float32
        )  # a product is faster than tf.where
        steepness = tf.reduce_sum(free * slope, axis=1)
        left = missing - tf.reduce_sum((1 - free) * gain, axis=1)
        # As steep as before: still on the piece on which the last step was exact.
        going = going & (steepness < before) & (steepness > 0)
        root = tf.math.divide_no_nan(left, steepness)
        return tf.where(going, tf.maximum(root, amount), amount), steepness, going

    infinite = tf.fill(tf.shape(missing), float("inf"))
    amount, _, _ = tf.while_loop(
        lambda amount, before, going: tf.reduce_any(going),
        newton,
        (tf.zeros_like(missing), infinite, tf.logical_not(beyond)),
        maximum_iterations=_MAX_STEPS,
        parallel_iterations=1,
    )
    gone = tf.minimum(amount[:, tf.newaxis] * speed, room)
    return direction * tf.where(beyond[:, tf.newaxis], room, gone)


# By norm.
PROJECTIONS = {"Linf": project_linf, "L2": project_l2, "L1": project_l1}
