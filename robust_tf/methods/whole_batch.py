"""Numbers of the whole batch by which the loss of an example goes: over all replicas and parts.

A batch in parts (`methods.parts`) is seen twice: first each part says its numbers, then the loss of
each goes by those of all.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf

REDUCE = {"sum": tf.reduce_sum, "max": tf.reduce_max}


class _Context(threading.local):
    """Per thread, because `tf.distribute` traces each replica in a thread of its own."""

    said: list[tuple[tf.Tensor, str]] | None = None
    known: list[tf.Tensor] | None = None


_CONTEXT = _Context()


def over_batch(values: tf.Tensor, how: str) -> tf.Tensor:
    """The sum or the maximum of `values` over the whole batch, elementwise.

    A method that calls it, in `forward` or in a term, has `sees_batch`.

    Args:
      values: float32 of known shape, of the examples at hand; without gradient.
      how: 'sum' or 'max'.
    """
    values = tf.stop_gradient(values)
    if _CONTEXT.known is not None:
        return _CONTEXT.known.pop(0)
    if _CONTEXT.said is not None:
        _CONTEXT.said.append((values, how))
        return values
    return over_replicas(values, how)


def over_replicas(values: tf.Tensor, how: str) -> tf.Tensor:
    """As `over_batch`, of what each replica has of its share."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return values
    if how == "sum":
        return context.all_reduce(tf.distribute.ReduceOp.SUM, values)
    return REDUCE[how](context.all_gather(values[tf.newaxis], axis=0), axis=0)


@contextlib.contextmanager
def saying() -> Iterator[list[tuple[tf.Tensor, str]]]:
    """Gathers the numbers of a part, and what is to be done with them."""
    before, _CONTEXT.said = _CONTEXT.said, []
    try:
        yield _CONTEXT.said
    finally:
        _CONTEXT.said = before


@contextlib.contextmanager
def knowing(numbers: Sequence[Any] | None) -> Iterator[None]:
    """Inside, `over_batch` gives these, one after the other; None: what it finds itself."""
    before = _CONTEXT.known
    _CONTEXT.known = before if numbers is None else list(numbers)
    try:
        yield
    finally:
        _CONTEXT.known = before
