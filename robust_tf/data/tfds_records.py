"""Records of prepared TensorFlow datasets by their number, from TFRecord or array_record files."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import numpy as np
import tensorflow as tf

FORMATS = ("tfrecord", "array_record")


def records_of(instructions: Any, file_format: str) -> TFRecords | ArrayRecords:
    """The records of a split.

    Args:
      instructions: of tfds: file, records to skip and to take.
      file_format: one of `FORMATS`.

    Raises:
      ValueError, OSError: a file that is not there, or is none of that format.
    """
    kind = ArrayRecords if file_format == "array_record" else TFRecords
    found = []
    for one in instructions:
        take = 2**62 if one.take in (-1, None) else one.take
        found.append((os.fspath(one.filename), int(one.skip), int(take)))
    return kind.of(found)


@dataclasses.dataclass(frozen=True, eq=False)
class TFRecords:
    """Records of TFRecord files, found by the lengths that stand before them.

    Attributes:
      instructions: path, records to skip and to take, of each file.
      file, start, length: of each record, the number of its file, its first byte there, its bytes.
    """

    instructions: list[tuple[str, int, int]]
    file: np.ndarray
    start: np.ndarray
    length: np.ndarray

    @classmethod
    def of(cls, instructions: list[tuple[str, int, int]]) -> TFRecords:
        """Those of a split; see `records_of`."""
        found: list[tuple[int, int, int]] = []
        for which, (path, skip, take) in enumerate(instructions):
            with tf.io.gfile.GFile(path, "rb") as file:
                size, place, number = file.size(), 0, 0
                while place < size and number < skip + take:
                    file.seek(place)
                    length = int.from_bytes(file.read(8), "little")
                    end = place + 16 + length  # checksums of both stand behind them, 4 bytes each
                    if end > size:
                        raise ValueError(f"{path} is no TFRecord file, or damaged")
                    if number >= skip:
                        found.append((which, place + 12, length))
                    place, number = end, number + 1
        return cls(instructions, *np.array(found, np.int64).reshape(-1, 3).T)

    def at(self, number: np.ndarray) -> bytes:
        """The record of this number, as it is stored."""
        path = self.instructions[self.file[number]][0]
        start, length = int(self.start[number]), int(self.length[number])
        if "://" in path:
            with tf.io.gfile.GFile(path, "rb") as file:
                file.seek(start)
                return file.read(length)
        with open(path, "rb", buffering=0) as local:
            local.seek(start)
            return local.read(length)

    def in_order(self) -> tf.data.Dataset:
        """All records, as they are stored."""
        if not self.instructions:
            return tf.data.Dataset.from_tensor_slices(tf.zeros([0], tf.string))
        paths, skips, takes = zip(*self.instructions, strict=True)
        found = tf.data.Dataset.from_tensor_slices(
            (list(paths), np.array(skips, np.int64), np.array(takes, np.int64))
        )
        return found.flat_map(
            lambda path, skip, take: tf.data.TFRecordDataset(path).skip(skip).take(take)
        )


@dataclasses.dataclass(frozen=True, eq=False)
class ArrayRecords:
    """Records of array_record files, which hold an index of their own.

    Attributes:
      readers: of each file.
      file, place: of each record, the number of its file, and its own there.
    """

    readers: list[Any]
    file: np.ndarray
    place: np.ndarray

    @classmethod
    def of(cls, instructions: list[tuple[str, int, int]]) -> ArrayRecords:
        """Those of a split; see `records_of`."""
        try:
            from array_record.python import array_record_module
        except ImportError as error:
            raise ValueError("array_record files need the package array_record") from error
        readers: list[Any] = []
        files, places = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for path, skip, take in instructions:
            # Without this it reads what follows a record, too.
            reader = array_record_module.ArrayRecordReader(path, "readahead_buffer_size:0")
            held = np.arange(skip, min(reader.num_records(), skip + take))
            files.append(np.full(len(held), len(readers)))
            places.append(held)
            readers.append(reader)
        return cls(readers, np.concatenate(files), np.concatenate(places))

    def at(self, number: np.ndarray) -> bytes:
        """The record of this number, as it is stored."""
        return self.readers[self.file[number]].read([int(self.place[number])])[0]

    def in_order(self) -> tf.data.Dataset:
        """All records, as they are stored."""

        def record(number: tf.Tensor) -> tf.Tensor:
            found = tf.numpy_function(self.at, [number], tf.string, stateful=False)
            return tf.ensure_shape(found, [])

        return tf.data.Dataset.range(len(self.place)).map(record, num_parallel_calls=4)
