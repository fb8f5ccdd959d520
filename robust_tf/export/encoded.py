"""From PNG and JPEG files to the images that a model takes, as graph code."""

from __future__ import annotations

import tensorflow as tf


def possible(shape: tuple[int | None, ...]) -> bool:
    """Whether a model that takes images of this shape can be given files."""
    return len(shape) == 3 and None not in shape and shape[2] in (1, 3, 4)


def decode(image_bytes: tf.Tensor, shape: tuple[int | None, ...]) -> tf.Tensor:
    """Images float32 (B, H, W, C) in [0, 1] from whole files.

    Grey and colour are converted to the model's channels. An image of another size is stretched to
    the model's, bilinear, with antialiasing; one of the model's size keeps its pixels to the bit.

    Args:
      image_bytes: strings (B,), each a PNG or JPEG (BMP and the first frame of a GIF work, too).
      shape: (H, W, C) of the model.
    """
    height, width, channels = shape

    def one(data: tf.Tensor) -> tf.Tensor:
        image = tf.io.decode_image(data, channels=channels, expand_animations=False)
        image = tf.cast(tf.ensure_shape(image, [None, None, channels]), tf.float32)
        fits = tf.reduce_all(tf.equal(tf.shape(image)[:2], [height, width]))
        return tf.ensure_shape(
            tf.cond(
                fits,
                lambda: image,
                lambda: tf.image.resize(image, (height, width), antialias=True),
            ),
            shape,
        )

    pixels = tf.map_fn(one, image_bytes, fn_output_signature=tf.TensorSpec(shape, tf.float32))
    # The division of the training pipeline: other roundings would be other images.
    return tf.clip_by_value(pixels / 255.0, 0.0, 1.0)
