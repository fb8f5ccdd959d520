"""Examples that stay where they lie, and are read when they are needed."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import numpy as np
import tensorflow as tf

from robust_tf.data.errors import DataError, counted, listed
from robust_tf.data.splits import Split, checked_labels

_BATCH = 256  # examples of one reading
PARALLEL = max(4, 2 * (os.cpu_count() or 1))  # images that are read at once


@dataclasses.dataclass(frozen=True, eq=False)
class Reader:
    """How the examples of a source are read, each by its number there.

    Attributes:
      read: number, int64 () -> image of `image_shape` and `dtype`; graph code, without AutoGraph.
      image_shape: (H, W, C), or (D,) for points.
      dtype: uint8, or float32 with values in [0, 1].
      name: number -> how an error calls that example: its file.
      fingerprint: of all that the images depend on; None: pixels are looked at.
      keys: uint64 (examples,), equal where images are; None: unknown.
    """

    read: Callable[[tf.Tensor], tf.Tensor]
    image_shape: tuple[int, ...]
    dtype: Any
    name: Callable[[int], str]
    fingerprint: str | None = None
    keys: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Makes one graph of `read`, which the pipelines of all splits call."""
        signature = [tf.TensorSpec([], tf.int64)]
        read = tf.function(self.read, input_signature=signature, autograph=False)
        object.__setattr__(self, "read", read)

    @functools.cached_property
    def read_several(self) -> Callable[[tf.Tensor], tf.Tensor]:
        """numbers, int64 (n,) -> images (n, ...)."""

        @tf.function(input_signature=[tf.TensorSpec([None], tf.int64)], autograph=False)
        def read(numbers: tf.Tensor) -> tf.Tensor:
            spec = tf.TensorSpec(self.image_shape, self.dtype)
            return tf.map_fn(
                self.read, numbers, fn_output_signature=spec, parallel_iterations=PARALLEL
            )

        return read


class StreamedSplit(Split):
    """Examples that are read when they are needed.

    `images` reads all of them: of a part, `take(8).images`.

    Args:
      reader: how one is read.
      labels: class ids, (N,).
      numbers: of the examples in the reader, (N,); None: all, in its order.
    """

    def __init__(self, reader: Reader, labels: Any, numbers: Any = None):
        labels = checked_labels(labels).view()
        numbers = np.arange(len(labels)) if numbers is None else np.asarray(numbers)
        for name, array in (("labels", labels), ("numbers", numbers.astype(np.int64).view())):
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        object.__setattr__(self, "reader", reader)

    reader: Reader
    numbers: np.ndarray

    @property
    def in_memory(self) -> bool:
        """Whether the images are in memory."""
        return False

    @property
    def origin(self) -> tuple[str, np.ndarray] | None:  # type: ignore[override]
        """Fingerprint of the source, and the examples' numbers in it."""
        known = self.reader.fingerprint
        return None if known is None else (known, self.numbers)

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of one example, (H, W, C), or (D,) for points."""
        return self.reader.image_shape

    @property
    def dtype(self) -> np.dtype:
        """uint8 or float32."""
        return np.dtype(self.reader.dtype)

    @property
    def images(self) -> np.ndarray:  # type: ignore[override]
        """All images, read anew each time."""
        try:
            found = np.empty((len(self), *self.image_shape), self.dtype)
        except MemoryError as error:
            size = len(self) * int(np.prod(self.image_shape)) * self.dtype.itemsize / 1e9
            raise DataError(
                f"{len(self):,} images {self.image_shape} take {size:.1f} GB, which are not free: "
                "set data.in_memory = False, or a smaller image_size."
            ) from error
        first = 0
        for piece in self.pieces():
            found[first : first + len(piece)] = piece
            first += len(piece)
        return found

    def pieces(self) -> Iterator[np.ndarray]:
        """All images in order, a part at a time.

        Raises:
          DataError: lists every example that cannot be read.
        """
        try:
            for images in self.dataset(self.numbers).batch(_BATCH):
                yield images.numpy()
        except tf.errors.OpError as error:
            self._raise(error)

    def at(self, positions: np.ndarray) -> np.ndarray:
        """The images at these positions, as they are: uint8 or float32 (n, ...).

        Raises:
          DataError: lists every example of the split that cannot be read, if one of these cannot.
        """
        try:
            return self.reader.read_several(tf.constant(self.numbers[positions])).numpy()
        except tf.errors.OpError as error:
            self._raise(error)

    def select(self, positions: Any) -> Split:
        """The examples at these positions: a slice, or whatever indexes a NumPy array."""
        return StreamedSplit(self.reader, self.labels[positions], self.numbers[positions])

    def dataset(self, numbers: Any) -> tf.data.Dataset:
        """The images of these numbers in their order, read in parallel."""
        # Tensors of the host, where tf.data runs, whatever the strategy or device in force.
        with tf.init_scope(), tf.device("CPU:0"):
            found = tf.data.Dataset.from_tensor_slices(tf.constant(numbers, tf.int64))
            found = found.map(self.read_one, num_parallel_calls=PARALLEL, deterministic=True)
        return found.with_options(pipeline_options())

    def read_one(self, number: tf.Tensor) -> tf.Tensor:
        """The image of this number, its shape known to the graph."""
        return tf.ensure_shape(self.reader.read(number), self.image_shape)

    def _raise(self, error: tf.errors.OpError) -> NoReturn:
        """Raises `DataError` with every example that cannot be read."""

        def fault(number: int) -> str:
            try:
                self.read_one(tf.constant(number, tf.int64))
            except tf.errors.OpError as found:
                return f"{self.reader.name(number)}: {_reason(found)}"
            return ""

        with concurrent.futures.ThreadPoolExecutor(PARALLEL) as pool:
            faults = [one for one in pool.map(fault, sorted(self.numbers.tolist())) if one]
        if not faults:
            raise DataError(f"The images could not be read: {_reason(error)}.") from error
        raise DataError(
            f"{counted(len(faults), 'image')} cannot be read:\n{listed(faults)}\n"
            "Mend or remove them: nothing is skipped."
        ) from error


def in_memory(splits: Sequence[Split]) -> list[Split]:
    """The same splits with their images in memory.

    Raises:
      DataError: lists every example that cannot be read.
    """
    found = [split if split.in_memory else None for split in splits]
    for whole, places in _by_reader(splits):
        images = whole.images
        ends = np.cumsum([len(splits[place]) for place in places])[:-1]
        for place, part in zip(places, np.split(images, ends), strict=True):
            found[place] = Split(part, splits[place].labels, splits[place].origin)
    return [
        Split(split.images, split.labels) if held is None else held
        for split, held in zip(splits, found, strict=True)
    ]


def check(splits: Sequence[Split]) -> None:
    """Reads every example that is not in memory once.

    Raises:
      DataError: lists every one that cannot be read.
    """
    for whole, _ in _by_reader(splits):
        for _ in whole.pieces():
            pass


def _by_reader(splits: Sequence[Split]) -> list[tuple[StreamedSplit, list[int]]]:
    """Those that one reader reads as one, and their places: each pass costs a graph."""
    streamed = {n: split for n, split in enumerate(splits) if isinstance(split, StreamedSplit)}
    found = []
    for reader in dict.fromkeys(split.reader for split in streamed.values()):
        places = [place for place, split in streamed.items() if split.reader is reader]
        labels = np.concatenate([streamed[place].labels for place in places])
        numbers = np.concatenate([streamed[place].numbers for place in places])
        found.append((StreamedSplit(reader, labels, numbers), places))
    return found


def pipeline_options() -> tf.data.Options:
    """Of every pipeline here: in order, and without tf.data's own tuning."""
    options = tf.data.Options()
    # The thread that tunes a pipeline sleeps for longer and longer, up to a minute, and whoever
    # drops the iterator, at the end of an epoch, waits for it to wake.
    options.autotune.enabled = False
    options.deterministic = True
    return options


def _reason(error: tf.errors.OpError) -> str:
    """What TensorFlow's message says, without the names of its nodes."""
    text = re.sub(r"\{\{.*?\}\} *|\[\[.*?\]\]|\[Op:.*?\]", "", str(error.message))
    lines = [line.strip(" \t.:,") for line in text.splitlines()]
    noise = ("Graph execution error", "Detected at node", "File ", "<stack traces unavailable>")
    lines = [line for line in lines if line and not line.startswith(noise)]
    return (lines[-1] if lines else type(error).__name__)[:200]
