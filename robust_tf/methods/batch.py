"""What travels through a training step: the batch, what the adversary made of it, and its terms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from robust_tf.attacks.arguments import check_labels

Terms = dict[str, Callable[[], tf.Tensor]]


class AdversarialBatch(NamedTuple):
    """What a method's `craft` made.

    x_adv: float32 images (B, H, W, C), without gradient. extra: whatever else the method's forward
    and terms need, such as soft labels or the images of a second adversary.
    """

    x_adv: tf.Tensor
    extra: Any = None


class Batch(NamedTuple):
    """What a method's terms are made of, for one replica.

    x, x_adv: float32 images (B, H, W, C); y: int32 (B,); clean, adv: logits and features of both
    in training mode, None where the method says that it does not need them (`needs_clean`,
    `needs_adv`); seed: int32 (2,), of this step and replica; extra: of `AdversarialBatch`.
    """

    x: tf.Tensor
    y: tf.Tensor
    x_adv: tf.Tensor
    clean: Any
    adv: Any
    seed: tf.Tensor
    extra: Any = None


def unpack(data: Any, num_classes: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Images float32 and labels int32 of a batch, checked; the values when the step runs.

    Raises:
      ValueError: more or less than images and labels; labels that are not class ids.
      TypeError: images that are not of a floating type.
    """
    if len(data) == 3 and data[2] is None:  # sample weights, as Keras 3's train_on_batch does
        data = data[:2]
    if len(data) != 2:
        raise ValueError(f"a batch has {len(data)} parts; expected (images, labels).")
    x, y = map(tf.convert_to_tensor, data)
    if not x.dtype.is_floating:
        raise TypeError(
            f"images are {x.dtype.name}; methods take float32 in [0, 1]: "
            "tf.cast(x, tf.float32), divided by 255 if the pixels are 0..255."
        )
    check_labels(y)
    x, y = tf.cast(x, tf.float32), tf.cast(y, tf.int32)
    low, high = tf.reduce_min(x), tf.reduce_max(x)
    wanted = "images must be in [0, 1], divided by 255 if the pixels are 0..255; range:"
    images_fit = tf.debugging.Assert(tf.logical_and(low >= 0.0, high <= 1.0), [wanted, low, high])
    low, high = tf.reduce_min(y), tf.reduce_max(y)
    wanted = f"labels must be class ids in 0..{num_classes - 1}; range:"
    labels_fit = tf.debugging.Assert(
        tf.logical_and(low >= 0, high < num_classes), [wanted, low, high]
    )
    with tf.control_dependencies([images_fit, labels_fit]):  # before a kernel meets them
        return tf.identity(x), tf.identity(y)


def correct(logits: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """1.0 where the prediction is y, (B,)."""
    return tf.cast(tf.equal(tf.argmax(logits, axis=1, output_type=tf.int32), y), tf.float32)
