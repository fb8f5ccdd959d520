"""A `tf.data.Dataset` of (image, label) as a split: it is read from its beginning, in its order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from robust_tf.data.augmenting import Augmenting
from robust_tf.data.errors import DataError
from robust_tf.data.splits import Split, checked_labels, first_outside
from robust_tf.data.streamed import pipeline_options

_BATCH = 64  # examples of one reading
_BUFFER = 256 << 20  # bytes of images among which the next ones are drawn


class SequentialSplit(Split):
    """The examples of a `tf.data.Dataset`, which gives the same ones in the same order each time.

    Nothing but the labels is kept. Positions are read fast in ascending order; one that lies before
    the last starts the dataset anew. Training draws each batch from a buffer of 256 MB of images,
    and what is skipped is read.

    Args:
      dataset: of (image, label): images uint8 or float32 in [0, 1], one by one or in batches,
        labels integer class ids. Read once here.
      name: how errors call it.

    Raises:
      DataError: it is not of that form, is empty or endless, or cannot be read.
    """

    def __init__(self, dataset: tf.data.Dataset, name: str = "the tf.data.Dataset"):
        tape = _Tape(_one_by_one(dataset, name), name)
        self._set(tape, np.arange(len(tape.labels)))

    _tape: _Tape
    numbers: np.ndarray

    def _set(self, tape: _Tape, numbers: np.ndarray) -> None:
        labels = tape.labels[numbers]
        for name, value in (("_tape", tape), ("numbers", numbers), ("labels", labels)):
            object.__setattr__(self, name, value)

    @property
    def in_memory(self) -> bool:
        """Whether the images are in memory."""
        return False

    @property
    def origin(self) -> tuple[str, np.ndarray] | None:  # type: ignore[override]
        """None: its pixels are its fingerprint."""
        return None

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of one example, (H, W, C), or (D,) for points."""
        return self._tape.image_shape

    @property
    def dtype(self) -> np.dtype:
        """uint8 or float32."""
        return self._tape.dtype

    @property
    def images(self) -> np.ndarray:  # type: ignore[override]
        """All images, read anew each time."""
        return self._tape.read(self.numbers)

    def pieces(self) -> Iterator[np.ndarray]:
        """All images in order, a part at a time."""
        for first in range(0, len(self), _BATCH):
            yield self._tape.read(self.numbers[first : first + _BATCH])

    def at(self, positions: np.ndarray) -> np.ndarray:
        """The images at these positions, as they are: uint8 or float32 (n, ...)."""
        return self._tape.read(self.numbers[positions])

    def select(self, positions: Any) -> SequentialSplit:
        """The examples at these positions, in the order of the dataset."""
        found = SequentialSplit.__new__(SequentialSplit)
        found._set(self._tape, np.sort(self.numbers[positions]))
        return found

    def in_order(self) -> tf.data.Dataset:
        """The images, one by one."""
        return self._chosen().map(lambda _, example: example[0])

    def _chosen(self) -> tf.data.Dataset:
        """(number, (image, label)) of the examples of this split."""
        chosen = np.zeros(len(self._tape.labels), bool)
        chosen[self.numbers] = True
        with tf.init_scope(), tf.device("CPU:0"):
            is_chosen = tf.constant(chosen)
        return self._tape.dataset.enumerate().filter(lambda number, _: is_chosen[number])

    def epochs(
        self,
        batch_size: int,
        steps: int,
        epochs: range,
        augmenting: Augmenting,
        skip: int,
        shard: tuple[int, int],
    ) -> tf.data.Dataset:
        """Training batches of epochs, one after the other; see `data.epochs`.

        Returns:
          (images, labels), this worker's part of each batch.
        """
        size = int(np.prod(self.image_shape)) * self.dtype.itemsize
        count, share = len(self._tape.labels), batch_size // shard[0]

        like, extra = augmenting.draw(1, 0), augmenting.extra

        @tf.autograph.experimental.do_not_convert
        def one(epoch: tf.Tensor) -> tf.data.Dataset:
            found = self._chosen()
            draws: tuple[tf.Tensor, ...] = ()
            if like:
                types = [tf.as_dtype(one.dtype) for one in like]
                drawn = tf.numpy_function(
                    lambda epoch: augmenting.draw(count, int(epoch)), [epoch], types, stateful=False
                )
                shapes = [[count, *one.shape[1:]] for one in like]
                draws = tuple(map(tf.ensure_shape, drawn, shapes))
            buffer = max(1, min(len(self), _BUFFER // size))
            found = _shuffled(found, buffer, augmenting.seed, epoch)
            if extra:  # after the last example, the first
                found = found.concatenate(found.take(extra))
                found = found.window(batch_size + extra, shift=batch_size, drop_remainder=True)
                found = found.flat_map(_joined(batch_size + extra))
            else:
                found = found.batch(batch_size, drop_remainder=True)

            @tf.autograph.experimental.do_not_convert
            def part(numbers: tf.Tensor, examples: Any) -> tuple[tf.Tensor, tf.Tensor]:
                mine = slice(shard[1] * share, (shard[1] + 1) * share + extra)
                images, labels = examples[0][mine], tf.cast(examples[1][mine], tf.int32)
                numbers = numbers[mine]
                own = tuple(tf.gather(draw, numbers) for draw in draws)
                return augmenting(images, labels, numbers, epoch, own)

            return found.take(steps).map(part)

        with tf.init_scope():
            found = tf.data.Dataset.range(epochs.start, epochs.stop).flat_map(one).skip(skip)
            left = steps * len(epochs) - skip
            found = found.apply(tf.data.experimental.assert_cardinality(left))
        return found.with_options(pipeline_options())


def _joined(size: int) -> Callable[[tf.Tensor, Any], tf.data.Dataset]:
    """From a window of examples, number and (image, label), to one batch of this size."""

    def batch(numbers: Any, examples: Any) -> tf.data.Dataset:
        parts = tf.data.Dataset.zip((numbers, tf.data.Dataset.zip(examples)))
        return parts.batch(size, drop_remainder=True)

    return batch


def _shuffled(dataset: tf.data.Dataset, buffer: int, seed: int, epoch: Any) -> tf.data.Dataset:
    """As `Dataset.shuffle`, which takes no seed that is a tensor."""
    spec = tf.nest.flatten(dataset.element_spec)
    variant = tf.raw_ops.ShuffleDataset(
        input_dataset=tf.data.experimental.to_variant(dataset),
        buffer_size=tf.constant(buffer, tf.int64),
        seed=tf.constant(seed + 1, tf.int64),  # two zeros would be no seed at all
        seed2=tf.cast(epoch, tf.int64),
        reshuffle_each_iteration=False,
        output_types=[one.dtype for one in spec],
        output_shapes=[one.shape for one in spec],
    )
    return tf.data.experimental.from_variant(variant, dataset.element_spec)


class _Tape:
    """A dataset of single examples, read forwards.

    Attributes:
      labels, image_shape, dtype: of all its examples.
    """

    def __init__(self, dataset: tf.data.Dataset, name: str):
        self.dataset, self.name = dataset, name
        spec = dataset.element_spec[0]
        self.image_shape, self.dtype = tuple(spec.shape), np.dtype(spec.dtype.as_numpy_dtype)
        self._batches: Any = None
        self._first = 0
        self._images = np.zeros((0, *self.image_shape), self.dtype)
        self.labels = self._look()

    def _look(self) -> np.ndarray:
        """Reads everything once."""
        found: list[np.ndarray] = []
        try:
            for images, labels in self._start():
                low, high = tf.reduce_min(images), tf.reduce_max(images)
                if images.dtype == tf.float32 and not (low >= 0 and high <= 1):
                    bad = sum(map(len, found)) + first_outside(images.numpy())
                    raise DataError(
                        f"{self.name}: images span {low:g} .. {high:g} from number {bad} on; they "
                        "must be finite and in [0, 1]. For pixels 0 .. 255 give uint8."
                    )
                found.append(labels.numpy())
        except tf.errors.OpError as error:
            raise DataError(f"{self.name} cannot be read: {error.message}") from error
        if not found:
            raise DataError(f"{self.name} is empty.")
        return checked_labels(np.concatenate(found))

    def _start(self) -> Any:
        dataset = self.dataset.batch(_BATCH).prefetch(1)
        return iter(dataset.with_options(pipeline_options()))

    def read(self, numbers: np.ndarray) -> np.ndarray:
        """The images of these numbers, in any order."""
        found = np.empty((len(numbers), *self.image_shape), self.dtype)
        for place in np.argsort(numbers, kind="stable"):
            number = int(numbers[place])
            if self._batches is None or number < self._first:
                self._batches, self._first = self._start(), 0
                self._images = self._images[:0]
            while number >= self._first + len(self._images):
                self._advance()
            found[place] = self._images[number - self._first]
        return found

    def _advance(self) -> None:
        self._first += len(self._images)
        try:
            images, labels = next(self._batches)
        except (StopIteration, tf.errors.OpError) as error:
            raise DataError(f"{self.name} could be read once, but not again: {error}") from error
        self._images = images.numpy()
        if (labels.numpy() != self.labels[self._first : self._first + len(labels)]).any():
            raise DataError(
                f"{self.name} gives other examples each time it is read; where it is shuffled, "
                "shuffle(..., reshuffle_each_iteration=False)."
            )


def _one_by_one(dataset: Any, name: str) -> tf.data.Dataset:
    """The dataset, not in batches.

    Raises:
      DataError: it is none of (image, label).
    """
    spec = getattr(dataset, "element_spec", None)
    if not isinstance(spec, tuple) or len(spec) != 2 or not all(map(_is_tensor, spec)):
        raise DataError(f"{name} holds {spec}; its elements must be pairs (image, label).")
    images, labels = spec
    if images.shape.rank is None or labels.shape.rank is None:
        raise DataError(f"{name}: the shapes of its elements are unknown; use tf.ensure_shape.")
    if labels.shape.rank == 1 and images.shape.rank in (2, 4):
        dataset, images = dataset.unbatch(), tf.TensorSpec(images.shape[1:], images.dtype)
    elif labels.shape.rank:
        raise DataError(
            f"{name}: labels have the shape {labels.shape}; they must be class ids, one for each "
            "image. One-hot labels: map them by tf.argmax(label, -1)."
        )
    if not labels.dtype.is_integer:
        raise DataError(f"{name}: labels are {labels.dtype.name}; they must be integer class ids.")
    if images.dtype not in (tf.uint8, tf.float32):
        raise DataError(
            f"{name}: images are {images.dtype.name}; they must be uint8 in 0 .. 255 or float32 in "
            "[0, 1]."
        )
    if images.shape.rank not in (1, 3) or None in images.shape:
        raise DataError(
            f"{name}: images have the shape {images.shape}; they must all have one, (H, W, C) or "
            "(D,): resize them, or use tf.ensure_shape."
        )
    if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise DataError(f"{name} is endless; leave out repeat().")
    return dataset


def _is_tensor(spec: Any) -> bool:
    return isinstance(spec, tf.TensorSpec)
