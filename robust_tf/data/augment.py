"""Augmentations of single images: crop and flip, cutout; and what they draw their numbers by.

An augmentation is called with images, float32 (B, H, W, C) in [0, 1], and seeds, int32 (B, 2), one
for each image, and returns such images; it is graph code, without AutoGraph. Its seeds are of
(run, epoch, place in the list, example), so that what it draws from them alone depends on neither
batch size, workers nor interruptions. A class or function of a user's own is used alike.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf

from robust_tf import registration
from robust_tf.validation import check_number, check_whole, plain_fields


@registration.configurable
@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Crops and flips every training image, drawn anew in each epoch.

    Unlike the others it is given what `draw` drew, and takes images of any dtype.

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

    def __call__(self, images: tf.Tensor, offsets: tf.Tensor, flips: tf.Tensor) -> tf.Tensor:
        """Crops and mirrors each image in its own way.

        Args:
          images: (B, H, W, C), any dtype.
          offsets: integers (B, 2), as of `draw`.
          flips: bool (B,), as of `draw`.

        Returns:
          (B, H, W, C), dtype of `images`.
        """
        pad, (height, width) = self.pad, images.shape[1:3]
        offsets = tf.cast(offsets, tf.int32)
        padded = tf.pad(images, [[0, 0], [pad, pad], [pad, pad], [0, 0]]) if pad else images
        rows = offsets[:, :1] + tf.range(height)
        columns = tf.range(width)
        # A mirrored crop is the same crop read from right to left: one gather does both.
        columns = offsets[:, 1:] + tf.where(flips[:, None], width - 1 - columns, columns)
        cropped = tf.gather(padded, rows, axis=1, batch_dims=1) if pad else padded
        return tf.gather(cropped, columns, axis=2, batch_dims=1)


@registration.configurable
@dataclasses.dataclass(frozen=True)
class Cutout:
    """Covers a square at a uniformly random place.

    Its center is a pixel of the image, so that the square may lie partly outside.

    Args:
      size: side of the square in pixels, 1 .. the image's shorter side; 16 for CIFAR-10, 8 for
        CIFAR-100, 20 for SVHN.
      fill: value that covers it, in [0, 1]. The paper covers with 0 after the images were
        normalized, that is with the mean color.

    Source: DeVries & Taylor (2017), arXiv 1708.04552.
    """

    size: int = 16
    fill: float = 0.0

    def __post_init__(self) -> None:
        plain_fields(self)
        check_whole("Cutout", "size", self.size, 1, "pixels; the paper uses 16 for CIFAR-10")
        check_number("Cutout", "fill", self.fill, 0.0, "pixels are in [0, 1]", high=1.0)

    def __call__(self, images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        """Images with a covered square each, see the module."""
        height, width = images.shape[1:3]
        if self.size > min(height, width):
            raise ValueError(
                f"Cutout(size={self.size}): must be 1 .. {min(height, width)}, the shorter side of "
                f"images {(height, width)}."
            )
        centers = tf.cast(uniform(seeds, 2) * [float(height), float(width)], tf.int32)
        covered = inside_box(height, width, centers - self.size // 2, [self.size, self.size])
        return tf.where(covered, tf.constant(self.fill, images.dtype), images)


def uniform(seeds: tf.Tensor, count: int, first: int = 0) -> tf.Tensor:
    """Uniform random numbers in [0, 1) of examples, each row a function of its seed alone.

    SplitMix64 (Steele, Lea & Flood, 2014), from a state that is the mixed seed: the stateless
    generators of TensorFlow take one seed in a call, and a call for each image takes longer than
    most augmentations.

    Args:
      seeds: int32 (B, 2).
      count: how many numbers of each.
      first: number in the stream of the first of them: others give other numbers.

    Returns:
      float32 (B, count), multiples of 2**-24.
    """
    high, low = (tf.cast(tf.bitcast(seeds[:, n], tf.uint32), tf.uint64) for n in (0, 1))
    key = _mixed(tf.bitwise.left_shift(high, _word(32)) | low)
    steps = tf.range(first + 1, first + count + 1, dtype=tf.int64)
    numbers = _mixed(key[:, None] + tf.cast(steps, tf.uint64) * _word(0x9E3779B97F4A7C15))
    numbers = tf.cast(tf.bitwise.right_shift(numbers, _word(40)), tf.int64)
    return tf.cast(numbers, tf.float32) * 2.0**-24


def _mixed(words: tf.Tensor) -> tf.Tensor:
    """SplitMix64's finalizer, uint64 of any shape."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        words = (words ^ tf.bitwise.right_shift(words, _word(shift))) * _word(factor)
    return words ^ tf.bitwise.right_shift(words, _word(31))


def _word(value: int) -> tf.Tensor:
    return tf.constant(value, tf.uint64)


def inside_box(height: int, width: int, first: tf.Tensor, sides: tf.Tensor) -> tf.Tensor:
    """Bool (B, height, width, 1): the pixels of a box, which may lie partly outside of the image.

    Args:
      height: of the image.
      width: of the image.
      first: int32 (B, 2), first row and column of each box.
      sides: int32 (2,) or (B, 2), numbers of its rows and columns.
    """
    end = first + sides
    rows, columns = tf.range(height), tf.range(width)
    in_rows = (rows >= first[:, :1]) & (rows < end[:, :1])
    in_columns = (columns >= first[:, 1:]) & (columns < end[:, 1:])
    return (in_rows[:, :, None] & in_columns[:, None, :])[..., None]
