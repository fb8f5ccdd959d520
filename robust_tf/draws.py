"""Stateless random numbers for the examples of a batch, also where it is computed in parts.

One seed fills the tensors of a whole batch. Inside `part_of_batch` a draw is made for the whole and
gives the rows of the part, so that each example has the numbers that it has in one large batch.
What is drawn is as large as one tensor of the whole batch, and is gone after it was read.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import tensorflow as tf


class _Part(NamedTuple):
    """first: number of its first example; rows: its examples; total: those of the batch."""

    first: tf.Tensor
    rows: tf.Tensor
    total: tf.Tensor


class _Context(threading.local):
    """Per thread, because `tf.distribute` traces each replica in a thread of its own."""

    part: _Part | None = None


_CONTEXT = _Context()


@contextlib.contextmanager
def part_of_batch(first: tf.Tensor, rows: tf.Tensor, total: tf.Tensor) -> Iterator[None]:
    """Inside, the examples 0, 1, ... are the examples `first`, `first` + 1, ... of a batch.

    Args:
      first: int32 scalar, >= 0.
      rows: int32 scalar, number of examples of the part, >= 1.
      total: int32 scalar, of the batch.
    """
    before = _CONTEXT.part
    _CONTEXT.part = _Part(first, rows, total)
    try:
        yield
    finally:
        _CONTEXT.part = before


def uniform(shape: Any, seed: tf.Tensor, low: float = 0.0, high: float = 1.0) -> tf.Tensor:
    """float32 of this shape, the first entry of which is the batch, in [low, high).

    Args:
      shape: int32 (rank,) or a list; the batch may be several ones behind each other, such as clean
        and adversarial images.
      seed: int32 (2,).
      low: of the interval.
      high: of the interval.
    """
    return _draw(shape, lambda size: tf.random.stateless_uniform(size, seed, low, high))


def normal(shape: Any, seed: tf.Tensor) -> tf.Tensor:
    """float32 of this shape, from N(0, 1); see `uniform`."""
    return _draw(shape, lambda size: tf.random.stateless_normal(size, seed))


def numbers(count: int | tf.Tensor) -> tf.Tensor:
    """int32 (count,): the number in its batch of each example."""
    here = tf.range(count)
    part = _CONTEXT.part
    if part is None:
        return here
    return here // part.rows * part.total + part.first + here % part.rows


def _draw(shape: Any, draw: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
    part = _CONTEXT.part
    shape = tf.convert_to_tensor(shape, tf.int32)
    if part is None:
        return draw(shape)
    batches, rest = -(-shape[0] // part.rows), shape[1:]
    whole = draw(tf.concat([[batches * part.total], rest], 0))
    whole = tf.reshape(whole, tf.concat([[batches, part.total], rest], 0))
    # By its size, which XLA must know: the place may be any.
    begin = tf.concat([[0, part.first], tf.zeros_like(rest)], 0)
    own = tf.slice(whole, begin, tf.concat([[batches, part.rows], rest], 0))
    return tf.reshape(own, tf.concat([[batches * part.rows], rest], 0))[: shape[0]]
