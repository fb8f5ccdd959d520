"""Augmentations of the papers: zero-pad and crop at random, and flip left to right."""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf

from robust_tf import registration
from robust_tf.validation import check_whole, plain_fields


@registration.configurable
@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What is done to every training image, drawn anew in each epoch.

    The recipes of ADR (Hoang et al., 2020) use `pad=2` in the TensorFlow code and `pad=4` in its
    port (as Madry et al., 2018) with `flip=True` on CIFAR-10, and nothing on MNIST.

    Attributes:
      pad: Zero pixels added on each side before a crop of the original size is taken at a
        uniformly random place; 0 leaves the image where it is. From 0 to the image's side.
      flip: Whether each image is mirrored left to right with probability one half.

    Raises:
      ValueError: If `pad` is not a whole number >= 0, or `flip` is not a bool.
    """

    pad: int = 0
    flip: bool = False

    def __post_init__(self) -> None:
        """Checks the fields."""
        plain_fields(self)
        hint = "pixels on each side, 0 for MNIST, 2 or 4 for CIFAR-10"
        check_whole("Augmentation", "pad", self.pad, 0, hint)
        if not isinstance(self.flip, bool):
            raise ValueError(f"Augmentation(flip={self.flip!r}): must be True or False.")

    def __bool__(self) -> bool:
        """True if any image can be changed."""
        return bool(self.pad or self.flip)

    def draw(self, count: int, seed: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Draws one epoch's crops and flips for the examples 0 .. count - 1.

        They belong to the example, not to its place in a batch, so that batch size, sharding and
        a resumed epoch do not change them. Crops and flips have streams of their own: turning
        one off leaves the other as it was.

        Args:
          count: Number of examples.
          seed: Seed of the run, 0 or more.
          epoch: Epoch, 0 or more.

        Returns:
          Offsets int32 (count, 2), row and column of the crop in the padded image, each in
          0 .. 2 * pad; and flips bool (count,).
        """
        crops, flips = (np.random.default_rng([seed, epoch, stream]) for stream in (1, 2))
        offsets = crops.integers(0, 2 * self.pad + 1, size=(count, 2), dtype=np.int32)
        flipped = flips.integers(0, 2, size=count, dtype=np.int32).astype(bool)
        return offsets, flipped & bool(self.flip)


def crop_and_flip(images: tf.Tensor, offsets: tf.Tensor, flips: tf.Tensor, pad: int) -> tf.Tensor:
    """Pads with zeros, crops to the original size and mirrors, each image in its own way.

    Args:
      images: (B, H, W, C), any dtype.
      offsets: int32 (B, 2), the crop's first row and column in the padded image, 0 .. 2 * pad.
      flips: bool (B,), whether the crop is mirrored left to right.
      pad: Zero pixels added on each side.

    Returns:
      (B, H, W, C), dtype of `images`.
    """
    height, width = images.shape[1], images.shape[2]
    padded = tf.pad(images, [[0, 0], [pad, pad], [pad, pad], [0, 0]]) if pad else images
    rows = offsets[:, :1] + tf.range(height)
    columns = tf.range(width)
    # A mirrored crop is the same crop read from right to left: one gather does both.
    columns = offsets[:, 1:] + tf.where(flips[:, None], width - 1 - columns, columns)
    cropped = tf.gather(padded, rows, axis=1, batch_dims=1) if pad else padded
    return tf.gather(cropped, columns, axis=2, batch_dims=1)
