"""Splits: examples in a fixed order that are read by position, here from memory.

Those of `streamed` are read from where they lie. Both kinds give the same bits for the same
positions, so that order, augmentation, resuming and workers' shares do not depend on where the
images are.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Examples in memory, read-only, in a fixed order.

    Attributes:
      images: uint8 (N, H, W, C), 0 .. 255; or float32 (N, ...) in [0, 1].
      labels: Class ids, int32 (N,).
      origin: of examples that a source has read, its fingerprint and their numbers in it.

    Raises:
      ValueError: If shapes, dtypes or ranges are not these.
    """

    images: np.ndarray
    labels: np.ndarray
    origin: tuple[str, np.ndarray] | None = None

    def __post_init__(self) -> None:
        """Checks the fields."""
        images, labels = np.asarray(self.images), checked_labels(self.labels)
        if images.ndim < 2 or len(images) != len(labels):
            raise ValueError(
                f"images {images.shape} and labels {labels.shape} do not fit; they must be "
                "(N, H, W, C) or (N, D), and (N,)."
            )
        if images.dtype == np.float32:
            if images.size and not (images.min() >= 0 and images.max() <= 1):
                raise ValueError(
                    f"float32 images span {images.min()} .. {images.max()}, the first that is not "
                    f"finite and in [0, 1] is number {first_outside(images)}. For pixels 0 .. 255 "
                    "pass uint8."
                )
        elif images.dtype != np.uint8:
            raise ValueError(
                f"images are {images.dtype}; they must be uint8 in 0 .. 255 or float32 in [0, 1]."
            )
        for name, array in (("images", images), ("labels", labels)):
            array = array.view()  # so that the caller's own array stays writeable
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    def __len__(self) -> int:
        """Number of examples N."""
        return len(self.labels)

    @property
    def in_memory(self) -> bool:
        """Whether the images are in memory."""
        return True

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of one example, (H, W, C), or (D,) for points."""
        return tuple(self.images.shape[1:])

    @property
    def dtype(self) -> np.dtype:
        """uint8 or float32."""
        return self.images.dtype

    @property
    def epoch_size(self) -> int:
        """Examples in one epoch of training."""
        return len(self)

    def order(self, seed: int, epoch: int, batch_size: int) -> np.ndarray:
        """Positions of the examples in the order of a training epoch, int32, batch after batch."""
        return np.random.default_rng([seed, epoch, 0]).permutation(len(self)).astype(np.int32)

    @functools.cached_property
    def fingerprint(self) -> str:
        """16 hex digits of SHA-256 over all pixels and labels, or over `origin` and labels."""
        return digest(self)

    def pieces(self) -> Iterator[np.ndarray]:
        """All images in order, a part at a time."""
        yield self.images

    def at(self, positions: np.ndarray) -> np.ndarray:
        """The images at these positions, as they are: uint8 or float32 (n, ...)."""
        return self.images[positions]

    def take(self, n: int) -> Split:
        """The first `n` examples (all of them if there are fewer)."""
        return self.select(slice(0, n))

    def select(self, positions: Any) -> Split:
        """The examples at these positions: a slice, or whatever indexes a NumPy array."""
        origin = None if self.origin is None else (self.origin[0], self.origin[1][positions])
        return Split(self.images[positions], self.labels[positions], origin)

    @functools.cached_property
    def tensors(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Images and labels as host tensors, copied once and shared by every epoch's pipeline."""
        with tf.init_scope(), tf.device("CPU:0"):
            return tf.constant(self.images), tf.constant(self.labels)


def first_outside(images: np.ndarray) -> int:
    """Number of the first image that holds something else than values in [0, 1]."""
    rows = images.reshape(len(images), -1)
    return int(np.argmin((rows >= 0).all(axis=1) & (rows <= 1).all(axis=1)))


def checked_labels(labels: Any) -> np.ndarray:
    """int32 (N,).

    Raises:
      ValueError: they are no class ids.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"labels are {labels.dtype} {labels.shape}; they must be integer class ids of "
            "shape (N,). One-hot labels: pass labels.argmax(-1)."
        )
    return labels.astype(np.int32, copy=False)


def digest(*splits: Split) -> str:
    """16 hex digits of SHA-256 over pixels and labels, or over where they come from."""
    found = hashlib.sha256()
    for split in splits:
        if split.origin is None:
            # Shape and type too: else examples could move between splits unnoticed.
            found.update(f"{split.dtype.str}{(len(split), *split.image_shape)}".encode())
            for piece in split.pieces():
                found.update(np.ascontiguousarray(piece).data)
        else:
            source, numbers = split.origin
            found.update(f"{source}{numbers.shape}".encode())
            found.update(np.ascontiguousarray(numbers, np.int64).data)
        found.update(f"{split.labels.dtype.str}{split.labels.shape}".encode())
        found.update(np.ascontiguousarray(split.labels).data)
    return found.hexdigest()[:16]
