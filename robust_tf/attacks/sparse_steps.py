"""Ascent in L1 by steps that move a share of the pixels, which adapts as the step size does.

What AutoPGD does in L1, after an example has looked at one more image; `Rows` hold its state.
"""

from __future__ import annotations

import tensorflow as tf

from robust_tf.attacks.active_set import Rows, choose
from robust_tf.attacks.threat import flat

SHARE = 0.2  # of the pixels, at first
_SPARSER = 0.95  # of the pixels moved before: with fewer the step size starts anew
_SHORTER, _LEAST = 1.5, 0.1  # divisor of the step size; its least value, in radii
FEWER = 1.5  # so many times fewer pixels move in the next step than have moved so far


def initial(x: tf.Tensor) -> Rows:
    """The state before the first image, which `noted` makes a beginning."""
    number = tf.zeros(tf.shape(x)[:1], tf.float32)
    return {
        "iterate": x,
        "gradient": tf.zeros_like(x),
        "best": x,
        "best_gradient": tf.zeros_like(x),
        "best_value": number,
        "share": number,
        "moved_pixels": number,
        "step_size": number,
    }


def sparse_step(gradient: tf.Tensor, share: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    """A step of this L1 norm, in equal parts along the signs of the greatest slopes.

    Args:
      gradient: (B, ...).
      share: (B,), of the n coordinates; at least one moves, and those that tie with the last one.
      length: (B,).

    Returns:
      (B, ...), 0 where the gradient is.
    """
    slope = tf.abs(flat(gradient))
    count = tf.shape(slope)[1]
    others = tf.cast((1.0 - share) * tf.cast(count, tf.float32), tf.int32)
    last = count - 1 - tf.clip_by_value(others, 0, count - 1)
    least = tf.gather(tf.math.top_k(slope, count).values, last, batch_dims=1)
    sign = tf.where(slope >= least[:, tf.newaxis], tf.sign(flat(gradient)), 0.0)
    number = tf.maximum(tf.reduce_sum(tf.abs(sign), axis=1), 1.0)
    return tf.reshape(sign * (length / number)[:, tf.newaxis], tf.shape(gradient))


def moved_pixels(x: tf.Tensor, center: tf.Tensor) -> tf.Tensor:
    """How many coordinates differ from the clean image's, float32 (B,)."""
    return tf.reduce_sum(tf.cast(tf.not_equal(flat(x), flat(center)), tf.float32), axis=1)


def next_share(x: tf.Tensor, center: tf.Tensor) -> tf.Tensor:
    """Of the pixels that the next step moves, after the image x has moved some, (B,)."""
    return moved_pixels(x, center) / tf.cast(tf.shape(flat(center))[1], tf.float32) / FEWER


def ascended(rows: Rows) -> tf.Tensor:
    """The iterate after a step, to be projected."""
    return rows["iterate"] + sparse_step(rows["gradient"], rows["share"], rows["step_size"])


def begun(rows: Rows, share: tf.Tensor, pixels: tf.Tensor, radius: tf.Tensor) -> Rows:
    """At a start: the first share and number of pixels (B,), and steps as long as the radius."""
    return {
        **rows,
        "share": share,
        "moved_pixels": pixels,
        "step_size": tf.zeros_like(share) + radius,
    }


def noted(
    rows: Rows, image: tf.Tensor, gradient: tf.Tensor, value: tf.Tensor, fresh: tf.Tensor
) -> Rows:
    """After one more image; where it is a start, the record is new."""
    higher = tf.logical_or(fresh, value > rows["best_value"])
    return {
        **rows,
        "iterate": image,
        "gradient": gradient,
        "best": choose(higher, image, rows["best"]),
        "best_gradient": choose(higher, gradient, rows["best_gradient"]),
        "best_value": tf.where(higher, value, rows["best_value"]),
    }


def adapted(rows: Rows, center: tf.Tensor, radius: tf.Tensor) -> Rows:
    """At a checkpoint: the share follows the best image, and so does the step size.

    Where the best image has moved fewer pixels than at the last checkpoint, the next step is as
    long as the radius, from there; else it is shorter.
    """
    pixels = moved_pixels(rows["best"], center)
    sparser = pixels < _SPARSER * rows["moved_pixels"]
    shorter = tf.maximum(rows["step_size"] / _SHORTER, _LEAST * radius)
    return {
        **rows,
        "share": next_share(rows["best"], center),
        "moved_pixels": pixels,
        "step_size": tf.where(sparser, radius, shorter),
        "iterate": choose(sparser, rows["best"], rows["iterate"]),
        "gradient": choose(sparser, rows["best_gradient"], rows["gradient"]),
    }
