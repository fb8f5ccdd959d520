"""`ImageTable`: pictures that a table lists, with their labels and splits."""

from __future__ import annotations

import csv
import dataclasses
import io
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from robust_tf import files, registration
from robust_tf.data.errors import DataError, listed
from robust_tf.data.labels import checked_names, gaps, labels_of
from robust_tf.data.parts import Parts
from robust_tf.data.picture_files import Format, look_at
from robust_tf.data.streamed import StreamedSplit

_SPLITS = {
    "train": "train", "training": "train",
    "val": "validation", "valid": "validation", "validation": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip


@registration.configurable
@dataclasses.dataclass(frozen=True)
class ImageTable:
    """Pictures that a table lists: a column of files, one of labels, and perhaps one of splits.

    The table is CSV with a first line of names, or Parquet (which needs pyarrow). Labels that are
    all whole numbers >= 0 are class ids; others are names of classes, sorted. Splits are 'train',
    'val' (or 'valid', 'validation') and 'test'; without that column all are training images. The
    order is that of the table.

    Args:
      path: of the table.
      file, label, split: names of the columns.
      directory: to which the files are relative; None: the folder of the table.
      image_size, resize, channels, classes: as of `ImageFolder`.

    Raises:
      ValueError: a value outside its range.
    """

    path: str
    file: str = "file"
    label: str = "label"
    split: str = "split"
    directory: str | None = None
    image_size: int | tuple[int, int] | str | None = None
    resize: str = "pad"
    channels: int | None = None
    classes: Sequence[str] | None = None

    def __post_init__(self) -> None:
        """Checks the fields."""
        self._format()
        if self.classes is not None:
            object.__setattr__(self, "classes", checked_names("ImageTable", self.classes))

    def _format(self) -> Format:
        return Format("ImageTable", self.image_size, self.resize, self.channels)

    def read(self, data_dir: str | None = None) -> Parts:
        """Reads the table and looks at the beginning of each picture.

        Args:
          data_dir: not used.

        Raises:
          DataError: no such table, a column that is missing, a row without a file, a label or a
            split that is known; files that are no pictures: names each.
        """
        path = os.path.expanduser(os.fspath(self.path))
        rows = _rows(path)
        columns = list(rows[0]) if rows else []
        for column in (self.file, self.label):
            if column not in columns:
                raise DataError(
                    f"{path} has no column {column!r}; it has {', '.join(columns) or 'no row'}. "
                    "Name them: ImageTable.file = ..., ImageTable.label = ..."
                )
        faults = [
            f"row {number}: {fault}"
            for number, row in enumerate(rows, 1)
            if (fault := self._fault(row, self.split in columns))
        ]
        if faults:
            raise DataError(f"{path}: rows that cannot be used:\n{listed(faults)}")
        names = [str(row[self.file]) for row in rows]
        root = os.path.dirname(path) if self.directory is None else self.directory
        pictures = look_at(
            [os.path.join(os.path.expanduser(root), name) for name in names], names, self._format()
        )
        values = np.array([str(row[self.label]).strip() for row in rows])
        [labels], class_names = labels_of([_as_ids(values)], self.classes, path)
        kinds = np.array(
            [_SPLITS[str(row.get(self.split, "train")).strip().lower()] for row in rows]
        )
        splits = {}
        for which in ("train", "validation", "test"):
            numbers = np.flatnonzero(kinds == which)
            splits[which] = StreamedSplit(pictures.reader, labels[numbers], numbers)
        if not len(splits["train"]):
            raise DataError(f"{path} lists no training images: {self.split!r} is never 'train'.")
        count = len(class_names) if class_names else int(labels.max()) + 1
        return Parts(
            os.path.splitext(os.path.basename(path))[0],
            splits["train"],
            splits["validation"] if len(splits["validation"]) else None,
            splits["test"] if len(splits["test"]) else None,
            count,
            class_names,
            pictures.description,
            gaps(labels, count) + pictures.notes,
        )

    def _fault(self, row: dict[str, Any], has_split: bool) -> str:
        """What is wrong with a row."""
        for column in (self.file, self.label):
            if row.get(column) is None or not str(row[column]).strip():
                return f"it has no {column}"
        if has_split and str(row[self.split]).strip().lower() not in _SPLITS:
            return f"{self.split} is {row[self.split]!r}; must be 'train', 'val' or 'test'"
        return ""


def _rows(path: str) -> list[dict[str, Any]]:
    """The rows of a table."""
    if not files.exists(path) or files.is_folder(path):
        raise DataError(f"ImageTable(path={path!r}): there is no such file.")
    if path.lower().endswith((".parquet", ".pq")):
        try:
            from pyarrow import parquet
        except ImportError as error:
            raise DataError(
                f"{path} is Parquet, and pyarrow, which reads it, cannot be imported ({error}): "
                "install it, or save the table as CSV."
            ) from error
        try:
            with tf.io.gfile.GFile(path, "rb") as file:
                return parquet.read_table(io.BytesIO(file.read())).to_pylist()
        except Exception as error:  # pyarrow's own kinds
            raise DataError(f"{path} cannot be read as Parquet: {files.reason(error)}.") from error
    text = files.read_text(path).removeprefix("\ufeff")
    first = text.split("\n", 1)[0]
    divider = max(",;\t", key=first.count)
    return list(csv.DictReader(text.splitlines(), delimiter=divider))


def _as_ids(values: np.ndarray) -> np.ndarray:
    """Whole numbers as such, if all are."""
    if all(value.isdecimal() for value in values.tolist()):
        return values.astype(np.int64)
    return values
