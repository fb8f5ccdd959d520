"""Repeats a step of an attack on those examples that it has not broken yet, inside one graph."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

# Everything that an attack keeps of each example: tensors whose first axis is the example, among
# them 'x_adv' (n, H, W, C), the best adversarial image so far, and 'broken' bool (n,).
Rows = dict[str, tf.Tensor]


def on_active_set(
    step: Callable[[tf.Tensor, Rows], Rows],
    rows: Rows,
    times: int | tf.Tensor,
    share: float = 0.125,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Applies `step` up to so many times; broken examples leave the batch, state and all.

    An example that is broken keeps its image. The broken ones leave together, when they are more
    than `share` of the batch: moving the others costs a copy of their state, and few different
    sizes of batch are met on the way. It ends early where nobody is left.

    Args:
      step: (k, rows) -> rows of the same names, dtypes and shapes, k = 0, 1, ... an int32 scalar.
        A row must depend on that row alone, unless `share` is 1.
      rows: at the start.
      times: >= 0.
      share: in [0, 1]; 0 lets each broken example leave at once, 1 none.

    Returns:
      x_adv (B, H, W, C) and broken (B,) of all examples, in the order of `rows`.
    """
    index = tf.range(tf.shape(rows["broken"])[0])
    results = rows["x_adv"], rows["broken"]

    def settle(index: tf.Tensor, rows: Rows, results: tuple[tf.Tensor, tf.Tensor]) -> tuple:
        where, (x_adv, broken) = index[:, tf.newaxis], results
        return (
            tf.tensor_scatter_nd_update(x_adv, where, rows["x_adv"]),
            tf.tensor_scatter_nd_update(broken, where, rows["broken"]),
        )

    def leave(index: tf.Tensor, rows: Rows, results: tuple[tf.Tensor, tf.Tensor]) -> tuple:
        stay = tf.where(tf.logical_not(rows["broken"]))[:, 0]
        kept = {name: tf.gather(value, stay) for name, value in rows.items()}
        return tf.gather(index, stay), kept, settle(index, rows, results)

    def thin(index: tf.Tensor, rows: Rows, results: tuple[tf.Tensor, tf.Tensor]) -> tuple:
        gone = tf.math.count_nonzero(rows["broken"], dtype=tf.int32)
        allowed = tf.cast(share * tf.cast(tf.shape(index)[0], tf.float32), tf.int32)
        return tf.cond(
            gone > allowed,
            lambda: leave(index, rows, results),
            lambda: (index, rows, results),
        )

    def body(k: tf.Tensor, index: tf.Tensor, rows: Rows, results: tuple) -> tuple:
        moved = step(k, rows)
        done = rows["broken"]
        moved = {
            **moved,
            "x_adv": choose(done, rows["x_adv"], moved["x_adv"]),
            "broken": tf.logical_or(done, moved["broken"]),
        }
        return k + 1, *thin(index, {name: moved[name] for name in rows}, results)

    index, rows, results = thin(index, rows, results)
    variables = (tf.constant(0), index, rows, results)
    _, index, rows, results = tf.while_loop(
        lambda k, index, *_: tf.logical_and(k < times, tf.shape(index)[0] > 0),
        body,
        variables,
        shape_invariants=tf.nest.map_structure(_any_batch, variables),
        parallel_iterations=1,
    )
    return settle(index, rows, results)


def choose(mask: tf.Tensor, x: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
    """The rows of x where mask (B,) is true, those of `other` elsewhere.

    This operation copies whole rows; `tf.where` would broadcast the mask over every pixel, which
    took 5 % of an attack.
    """
    return tf.raw_ops.Select(condition=mask, x=x, y=other)


def per_image(mask: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """(B,) as (B, 1, ..., 1), to stand beside images x."""
    return tf.reshape(mask, [-1] + [1] * (x.shape.rank - 1))


def _any_batch(x: tf.Tensor) -> tf.TensorShape:
    """The shape of x with its first entry free; scalars as they are."""
    return x.shape if x.shape.rank == 0 else tf.TensorShape([None, *x.shape[1:]])
