"""How values of examples become one number: weights, and the batch that all replicas share.

Replicas get unequal shares of a ragged last batch, some of them nothing. The loss of a step is a
sum over the global batch, divided by its size; each replica computes its part, and gradients are
summed over replicas. A share without examples holds one image of zeros that weighs nothing, since
kernels of convolutions fail on an empty batch.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import tensorflow as tf

from robust_tf.models import forward_mode


class Share(NamedTuple):
    """What a replica has of a batch.

    x: float32 images (B, H, W, C); y: int32 (B,); weights: float32 (B,) of the examples, 0 of an
    image that stands in for none, None where each weighs 1; number: int32, of examples; sizes:
    float32 (replicas,), numbers of examples of all shares.
    """

    x: tf.Tensor
    y: tf.Tensor
    weights: tf.Tensor | None
    number: tf.Tensor
    sizes: tf.Tensor

    @classmethod
    def of(cls, x: tf.Tensor, y: tf.Tensor, weights: tf.Tensor | None) -> Share:
        """Of images, labels and sample weights of this replica, or none."""
        number, replicas = tf.shape(y)[0], _replicas()
        if replicas == 1:
            return cls(x, y, weights, number, tf.cast(number, tf.float32)[tf.newaxis])
        if not y.shape[0]:  # not known, or 0
            weights = tf.ones([number]) if weights is None else weights
            parts = x, y, weights
            x, y, weights = tf.cond(
                number > 0,
                lambda: tuple(map(tf.identity, parts)),
                lambda: tuple(tf.zeros([1, *part.shape[1:]], part.dtype) for part in parts),
            )
        context = tf.distribute.get_replica_context()
        mine = tf.one_hot(context.replica_id_in_sync_group, replicas)
        sizes = context.all_reduce(tf.distribute.ReduceOp.SUM, mine * tf.cast(number, tf.float32))
        return cls(x, y, weights, number, sizes)

    @contextlib.contextmanager
    def reduced(self, counted: Callable[[tf.Tensor], tf.Tensor] = tf.identity) -> Iterator[None]:
        """Inside, `global_mean` and `record` are of this share.

        Args:
          counted: of the sizes of shares, on how many of its examples, the first, each trains.
        """
        here = counted(tf.cast(self.number, tf.float32))
        size = tf.maximum(tf.reduce_sum(counted(self.sizes)), 1.0)
        before = _CONTEXT.reduction
        _CONTEXT.reduction = _Reduction(self.weights, here, size)
        try:
            with forward_mode(filled=None if _replicas() == 1 else self.number > 0):
                yield
        finally:
            _CONTEXT.reduction = before


@contextlib.contextmanager
def rows_of_share(first: tf.Tensor, rows: tf.Tensor) -> Iterator[None]:
    """Inside, the examples are `rows` of those of the share in force, from number `first` on."""
    before = _CONTEXT.reduction
    if before is not None and before.weights is not None:
        own = tf.slice(before.weights, [first], [rows])
        _CONTEXT.reduction = before._replace(weights=own)
    try:
        yield
    finally:
        _CONTEXT.reduction = before


class _Reduction(NamedTuple):
    """weights: of `Share`; here, size: numbers of examples, of this replica and of all."""

    weights: tf.Tensor | None
    here: tf.Tensor
    size: tf.Tensor


class _Context(threading.local):
    """Per thread, because `tf.distribute` traces each replica in a thread of its own."""

    reduction: _Reduction | None = None


_CONTEXT = _Context()


def _replicas() -> int:
    """Of the step that is being traced; 1 outside of one."""
    context = tf.distribute.get_replica_context()
    return 1 if context is None else int(context.num_replicas_in_sync)


def weighted(values: tf.Tensor) -> tf.Tensor:
    """Values (B,) of the first examples of the share in force, times their weights."""
    reduction = _CONTEXT.reduction
    if reduction is None or reduction.weights is None:
        return values
    return values * reduction.weights[: tf.shape(values)[0]]


def global_mean(values: tf.Tensor) -> tf.Tensor:
    """This replica's part of sum(weights * values) / B, B the number of examples of all replicas.

    The sum of the parts is the mean over the global batch, and so are sums of their gradients.
    As in Keras, weights are not normalized.

    Args:
      values: float (B,), of the first examples of the share in force.
    """
    reduction = _CONTEXT.reduction
    if reduction is None:
        return tf.reduce_mean(values) / _replicas()
    return tf.reduce_sum(weighted(values)) / reduction.size


def record(metric: Any, values: tf.Tensor, weigh: bool = False) -> None:
    """Adds examples to a mean, each once; one that stands in for none is left out.

    Args:
      metric: `keras.metrics.Mean`.
      values: float32, (B,) of the first examples of the share in force, or one value of them all.
      weigh: multiply by sample weights, which losses are and accuracies are not.
    """
    reduction = _CONTEXT.reduction
    counts = None
    if reduction is not None and not values.shape.rank:
        counts = reduction.here
    elif reduction is not None and reduction.weights is not None:
        counts = tf.fill(tf.shape(values), tf.minimum(reduction.here, 1.0))
    metric.update_state(weighted(values) if weigh else values, sample_weight=counts)


def mean_here(part: tf.Tensor) -> tf.Tensor:
    """What `global_mean` would be if this replica's share were the whole batch, of its part."""
    reduction = _CONTEXT.reduction
    if reduction is None:
        return part * _replicas()
    return part * (reduction.size / tf.maximum(reduction.here, 1.0))
