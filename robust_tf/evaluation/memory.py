"""Batches that are too large for the memory of the device: they are halved."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
import tensorflow as tf

Found = TypeVar("Found")


@contextlib.contextmanager
def in_words(batch_size: int) -> Iterator[None]:
    """Names the batch size where memory does not suffice for something else than its batches.

    Raises:
      MemoryError: in place of TensorFlow's error.
    """
    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        raise MemoryError(
            f"out of memory with batches of {batch_size} images; give a smaller --batch_size "
            "(batch_size)."
        ) from error


class Memory:
    """Runs batches of one evaluation, in smaller parts once memory has not sufficed for one.

    Attributes:
      most: so many images at once, at most; None: no batch was too large so far.
    """

    def __init__(self) -> None:
        self.most: int | None = None

    def run(
        self, name: str, work: Callable[[np.ndarray], Found], part: np.ndarray
    ) -> list[tuple[int, Found]]:
        """What `work` gives for a batch, or for each of the parts in which it fits.

        Args:
          name: what is done, for the warning.
          work: called with positions of examples.
          part: those of the batch.

        Returns:
          Where each part begins in the batch, and what `work` gave for it.

        Raises:
          MemoryError: there is not enough for a single image.
        """
        found: list[tuple[int, Found]] = []
        done = 0
        while done < len(part):
            now = part[done : done + (self.most or len(part))]
            try:
                found.append((done, work(now)))
                done += len(now)
            except tf.errors.ResourceExhaustedError as error:
                if len(now) == 1:
                    raise MemoryError(
                        f"{name}: out of memory with a single image at once; use a device with "
                        "more memory, or end what else uses it."
                    ) from error
                self.most = (len(now) + 1) // 2
                warnings.warn(
                    f"{name}: out of memory with {len(now)} images at once, going on with "
                    f"{self.most}; give --batch_size={self.most} (batch_size) another time.",
                    stacklevel=4,
                )
        return found
