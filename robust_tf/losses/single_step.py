"""What single-step training adds to its cross-entropy: gradient alignment and the nuclear norm."""

import tensorflow as tf

from robust_tf.losses.labels import as_float32

# Singular values below this part of the largest are rounding, which has no direction.
_RANK_TOLERANCE = 1e-6


def gradient_alignment(first: tf.Tensor, second: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The cosine of two gradients of each image, and whether it has one.

    Andriushchenko & Flammarion (2020), GradAlign: near 1 where a single step finds the direction in
    which the loss grows all over the ball. Lengths do not matter, so that tiny gradients count.

    Args:
        first: (B, ...) floating; gradients flow to it.
        second: (B, ...) of the same shape.

    Returns:
        The cosines, (B,) float32 in [-1, 1] but for rounding, 0 where one of the two gradients is 0
        or not finite; and bool (B,), whether neither is.

    Raises:
        ValueError: not floating, or of different shapes.
    """
    first, second = as_float32(first, "first"), as_float32(second, "second")
    if not first.shape.is_compatible_with(second.shape):
        raise ValueError(
            f"first has shape {tuple(first.shape)} and second {tuple(second.shape)}; give two "
            "gradients at the same images."
        )
    (one, has_one), (other, has_other) = _unit(first), _unit(second)
    both = tf.logical_and(has_one, has_other)
    cosine = tf.reduce_sum(one * other, axis=list(range(1, first.shape.rank)))
    return tf.where(both, cosine, 0.0), both


def nuclear_norm(difference: tf.Tensor) -> tf.Tensor:
    """Each example's share of the nuclear norm of a matrix, the sum of its singular values.

    Sriramanan et al. (2021), NuAT, of the difference of logits of a batch. With D = U S V^T the
    share of row i is the i-th entry on the diagonal of U S U^T, >= 0; all add up to the norm. The
    gradient of their sum is U V^T, by singular values alone: U and V are held fixed, and a
    direction whose singular value is 0 has none.

    Args:
        difference: (B, C) floating.

    Returns:
        (B,) float32, in units of `difference`.

    Raises:
        ValueError: not (B, C), or not floating.
    """
    matrix = as_float32(difference, "difference")
    if matrix.shape.rank != 2:
        raise ValueError(
            f"difference has shape {tuple(matrix.shape)}; give the difference of logits, (B, C)."
        )
    # What is not a number is kept from the decomposition; the product below is not a number then.
    known = tf.where(tf.math.is_finite(matrix), matrix, tf.zeros_like(matrix))
    values, left, right = tf.linalg.svd(tf.stop_gradient(known))
    floor = _RANK_TOLERANCE * tf.reduce_max(values, axis=-1, keepdims=True)
    counts = tf.cast(tf.logical_and(values > floor, values > 0.0), tf.float32)
    direction = tf.matmul(left * counts, right, transpose_b=True)
    return tf.reduce_sum(tf.stop_gradient(direction) * matrix, axis=1)


def _unit(v: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """V scaled to L2 length 1 per example, 0 where it has no direction; and whether it has one."""
    axes = list(range(1, v.shape.rank))
    # The largest entry is divided out first: the squares of a tiny gradient would underflow.
    peak = tf.stop_gradient(tf.reduce_max(tf.abs(v), axis=axes, keepdims=True))
    usable = tf.logical_and(peak > 0.0, tf.math.is_finite(peak))
    # Not multiplied by 0: the gradient of the length of 0 is not a number.
    v = tf.where(usable, v, tf.ones_like(v)) / tf.where(usable, peak, 1.0)
    v /= tf.sqrt(tf.reduce_sum(tf.square(v), axis=axes, keepdims=True))
    return tf.where(usable, v, tf.zeros_like(v)), tf.reshape(usable, [-1])
