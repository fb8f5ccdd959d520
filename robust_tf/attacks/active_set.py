"""Repeats a step of an attack on those examples that are still robust, inside one graph."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

# Everything that an attack keeps of each example: tensors whose first axis is the example, among
# them 'x_adv' (n, H, W, C), the best image so far, and 'is_adversarial' bool (n,).
Rows = dict[str, tf.Tensor]


def on_active_set(
    step: Callable[[tf.Tensor, Rows], Rows],
    rows: Rows,
    times: int | tf.Tensor,
    share: float = 0.125,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Applies `step` up to so many times; examples leave the batch once they are adversarial.

    An adversarial example keeps its image. Those that are leave together, when they are more than
    `share` of the batch: moving the others costs a copy of their state, and few different sizes of
    batch are met on the way. It ends early where no example is left.

    Args:
      step: (k, rows) -> rows of the same names, dtypes and shapes, k = 0, 1, ... an int32 scalar.
        A row must depend on that row alone, unless `share` is 1.
      rows: at the start.
      times: >= 0.
      share: in [0, 1]; 0 lets each adversarial example leave at once, 1 none.

    Returns:
      x_adv (B, H, W, C) and is_adversarial (B,) of all examples, in the order of `rows`.
    """
    index = tf.range(tf.shape(rows["is_adversarial"])[0])
    results = rows["x_adv"], rows["is_adversarial"]

    def settle(index: tf.Tensor, rows: Rows, results: tuple[tf.Tensor, tf.Tensor]) -> tuple:
        where, (x_adv, is_adversarial) = index[:, tf.newaxis], results
        return (
            tf.tensor_scatter_nd_update(x_adv, where, rows["x_adv"]),
            tf.tensor_scatter_nd_update(is_adversarial, where, rows["is_adversarial"]),
        )

    def leave(index: tf.Tensor, rows: Rows, results: tuple[tf.Tensor, tf.Tensor]) -> tuple:
        stay = tf.where(tf.logical_not(rows["is_adversarial"]))[:, 0]
        kept = {name: tf.gather(value, stay) for name, value in rows.items()}
        return tf.gather(index, stay), kept, settle(index, rows, results)

    def thin(index: tf.Tensor, rows: Rows, results: tuple[tf.Tensor, tf.Tensor]) -> tuple:
        gone = tf.math.count_nonzero(rows["is_adversarial"], dtype=tf.int32)
        allowed = tf.cast(share * tf.cast(tf.shape(index)[0], tf.float32), tf.int32)
        return tf.cond(
            gone > allowed,
            lambda: leave(index, rows, results),
            lambda: (index, rows, results),
        )

    def body(k: tf.Tensor, index: tf.Tensor, rows: Rows, results: tuple) -> tuple:
        moved = step(k, rows)
        done = rows["is_adversarial"]
        moved = {
            **moved,
            "x_adv": choose(done, rows["x_adv"], moved["x_adv"]),
            "is_adversarial": tf.logical_or(done, moved["is_adversarial"]),
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
    """(B,) as (B, 1, ..., 1), to be multiplied with images x."""
    return tf.reshape(mask, [-1] + [1] * (x.shape.rank - 1))


def _any_batch(x: tf.Tensor) -> tf.TensorShape:
    """The shape of x with its first entry free; scalars as they are."""
    return x.shape if x.shape.rank == 0 else tf.TensorShape([None, *x.shape[1:]])
