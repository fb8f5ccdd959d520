"""Stateless randomness: one stream for a batch, or one for each example.

A seed is int32 (2,) or (B, 2). With (2,) a draw fills the whole batch from one stream, as training
does. With (B, 2) each example has a stream of its own, so that what an attack does to it does not
depend on which others share its batch; evaluation does this. A batch in parts draws what it draws
as a whole, see `robust_tf.draws`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from robust_tf import draws
from robust_tf.validation import plain

# Odd, so that distinct numbers times these are distinct modulo 2**32, and unrelated.
_ODD, _OTHER_ODD = 0x61C88647, 0x2C1B3C6D


def as_seed(seed: int | tf.Tensor) -> tf.Tensor:
    """int32 (2,) or (B, 2) from an int or a tensor.

    Raises:
      ValueError: anything else.
    """
    seed = plain(seed)
    if isinstance(seed, int) and not isinstance(seed, bool):
        return tf.constant([seed % (2**31), 0], tf.int32)
    given = np.asarray(seed) if isinstance(seed, (list, tuple)) else seed
    if not hasattr(given, "dtype") or not tf.as_dtype(given.dtype).is_integer:
        raise ValueError(
            f"seed={seed!r}: must be an integer, or integers of the shape (2,) or (batch, 2)."
        )
    seed = tf.cast(seed, tf.int32)
    if seed.shape.rank == 2:
        return tf.ensure_shape(seed, [None, 2])
    return tf.ensure_shape(seed, [2])


def fold(seed: tf.Tensor, data: int | tf.Tensor) -> tf.Tensor:
    """A new seed, of the same shape, from a seed and an integer."""
    if seed.shape.rank == 1:
        return tf.random.experimental.stateless_fold_in(seed, data)
    # Multiplied as well as added, so that folding 1 and then 2 is not folding 2 and then 1.
    second = _spread(seed[:, 1] + _spread(tf.cast(data, tf.int32) + 1))
    return tf.stack([seed[:, 0], second], axis=1)


def each(seed: tf.Tensor, examples: int | tf.Tensor) -> tf.Tensor:
    """(B, 2): a seed for each example, numbered from 0 or as `examples` (B,) says."""
    if seed.shape.rank == 2:
        return seed
    if isinstance(examples, int) or tf.convert_to_tensor(examples).shape.rank == 0:
        examples = draws.numbers(examples)
    number = tf.cast(examples, tf.int32)
    # The number goes to the first entry: TensorFlow's fold_in left a small one in the second.
    second = seed[1] * tf.constant(_OTHER_ODD, tf.int32)
    return tf.stack([seed[0] + _spread(number), tf.zeros_like(number) + second], axis=1)


def _spread(number: tf.Tensor) -> tf.Tensor:
    """Small numbers, far from each other in int32 (it wraps around, as it may)."""
    return number * tf.constant(_ODD, tf.int32)


def uniform(seed: tf.Tensor, shape: tf.Tensor, low: float = 0.0, high: float = 1.0) -> tf.Tensor:
    """float32 of this shape, the first entry of which is the batch, in [low, high)."""
    if seed.shape.rank == 1:
        return draws.uniform(shape, seed, low, high)
    return _of_each(
        seed, shape, lambda size, s: tf.random.stateless_uniform(size, s, low, high, tf.float32)
    )


def normal(seed: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
    """float32 of this shape, the first entry of which is the batch, from N(0, 1)."""
    if seed.shape.rank == 1:
        return draws.normal(shape, seed)
    return _of_each(seed, shape, lambda size, s: tf.random.stateless_normal(size, s))


def _of_each(
    seed: tf.Tensor, shape: tf.Tensor, draw: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
) -> tf.Tensor:
    shape = tf.convert_to_tensor(shape)
    values = tf.map_fn(lambda s: draw(shape[1:], s), seed, fn_output_signature=tf.float32)
    return tf.reshape(values, shape)  # what an empty batch gives has lost its shape
