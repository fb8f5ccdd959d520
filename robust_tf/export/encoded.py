"""From pixels 0..255, and PNG and JPEG files, to the images that a model takes, as graph code."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

# What a division gives. In a graph TensorFlow makes of a division by a constant
# a multiplication by 1 / 255, which has other last bits than the images of data.batches.
_UNIT_INTERVAL = np.arange(256, dtype=np.float32) / np.float32(255)


def to_unit_interval(pixels: tf.Tensor) -> tf.Tensor:
    """The uint8 pixels as float32 in [0, 1], to the bits that training saw."""
    return tf.gather(_UNIT_INTERVAL, tf.cast(pixels, tf.int32))


def possible(shape: tuple[int | None, ...]) -> bool:
    """Whether a model that takes images of this shape can be given files."""
    return len(shape) == 3 and None not in shape and shape[2] in (1, 3, 4)


def decode(image_bytes: tf.Tensor, shape: tuple[int | None, ...]) -> tf.Tensor:
    """Images float32 (B, H, W, C) in [0, 1] from whole files.

    Grey and colour are converted to the model's channels. An image of another size is stretched to
    the model's, bilinear, with antialiasing; one of the model's size keeps its pixels to the bit.

    Args:
      image_bytes: strings (B,), each a PNG or JPEG. (BMP works for models of 3 or 4 channels, the
        first frame of a GIF for those of 3.)
      shape: (H, W, C) of the model.
    """
    height, width, channels = shape

    def one(data: tf.Tensor) -> tf.Tensor:
        pixels = tf.io.decode_image(data, channels=channels, expand_animations=False)
        image = to_unit_interval(tf.ensure_shape(pixels, [None, None, channels]))
        fits = tf.reduce_all(tf.equal(tf.shape(image)[:2], [height, width]))
        sized = tf.cond(
            fits,
            lambda: image,
            lambda: tf.image.resize(image, (height, width), antialias=True),
        )
        return tf.clip_by_value(tf.ensure_shape(sized, shape), 0.0, 1.0)

    return tf.map_fn(one, image_bytes, fn_output_signature=tf.TensorSpec(shape, tf.float32))
