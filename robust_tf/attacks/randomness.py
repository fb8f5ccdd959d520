"""Stateless randomness: one stream for a batch, or one for each example.

A seed is int32 (2,) or (B, 2). With (2,) a draw fills the whole batch from one stream, as training
does. With (B, 2) each example has a stream of its own, so that what an attack does to it does not
depend on which others share its batch; evaluation does this.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

_ODD = 0x61C88647  # far from 1, odd: distinct numbers times it are distinct modulo 2**32


def as_seed(seed: int | tf.Tensor) -> tf.Tensor:
    """int32 (2,) or (B, 2) from an int or a tensor."""
    if isinstance(seed, int):
        return tf.constant([seed % (2**31), 0], tf.int32)
    seed = tf.cast(seed, tf.int32)
    if seed.shape.rank == 2:
        return tf.ensure_shape(seed, [None, 2])
    return tf.ensure_shape(seed, [2])


def fold(seed: tf.Tensor, data: int | tf.Tensor) -> tf.Tensor:
    """A new seed, of the same shape, from a seed and an integer."""
    if seed.shape.rank == 1:
        return tf.random.experimental.stateless_fold_in(seed, data)
    return tf.stack([seed[:, 0], seed[:, 1] + _spread(tf.cast(data, tf.int32) + 1)], axis=1)


def each(seed: tf.Tensor, examples: int | tf.Tensor) -> tf.Tensor:
    """(B, 2): a seed for each example, numbered from 0 or as `examples` (B,) says."""
    if seed.shape.rank == 2:
        return seed
    if isinstance(examples, int) or tf.convert_to_tensor(examples).shape.rank == 0:
        examples = tf.range(examples)
    number = tf.cast(examples, tf.int32)
    # In the first entry: TensorFlow's fold_in leaves its own small number in the second.
    return tf.stack([seed[0] + _spread(number), tf.zeros_like(number) + seed[1]], axis=1)


def _spread(number: tf.Tensor) -> tf.Tensor:
    """Small numbers, far from each other in int32 (it wraps around, as it may)."""
    return number * tf.constant(_ODD, tf.int32)


def uniform(seed: tf.Tensor, shape: tf.Tensor, low: float = 0.0, high: float = 1.0) -> tf.Tensor:
    """float32 of this shape, the first entry of which is the batch, in [low, high)."""
    return _draw(
        seed, shape, lambda size, s: tf.random.stateless_uniform(size, s, low, high, tf.float32)
    )


def normal(seed: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
    """float32 of this shape, the first entry of which is the batch, from N(0, 1)."""
    return _draw(seed, shape, lambda size, s: tf.random.stateless_normal(size, s))


def _draw(
    seed: tf.Tensor, shape: tf.Tensor, draw: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
) -> tf.Tensor:
    shape = tf.convert_to_tensor(shape)
    if seed.shape.rank == 1:
        return draw(shape, seed)
    values = tf.map_fn(lambda s: draw(shape[1:], s), seed, fn_output_signature=tf.float32)
    return tf.reshape(values, shape)  # what an empty batch gives has lost its shape
