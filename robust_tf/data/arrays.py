"""`Arrays`: images and labels in NumPy files."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import zipfile
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from robust_tf import files, registration
from robust_tf.data.errors import DataError
from robust_tf.data.labels import checked_names, gaps, labels_of
from robust_tf.data.parts import Parts
from robust_tf.data.streamed import Reader, StreamedSplit

_SPLITS = {
    "train": ("train",),
    "validation": ("val", "valid", "validation"),
    "test": ("test",),
}
_BATCH = 256


@registration.configurable
@dataclasses.dataclass(frozen=True)
class Arrays:
    """Images and labels in one `.npz` file, or in `.npy` files of one folder.

    They are called `x_train`, `y_train`, and where there are such `x_val`, `y_val`, `x_test` and
    `y_test`. Images are uint8 in 0 .. 255, or floating point in [0, 1], (N, H, W, C), (N, H, W) or
    (N, D); labels are class ids, (N,) or (N, 1), or names of classes. `.npy` files are memory-
    mapped: they may be larger than the memory. Nothing is unpickled.

    Args:
      path: of the `.npz` file, or of the folder.
      classes: names of the classes in the order of their labels; None: names as labels, sorted.

    Raises:
      ValueError: names of classes that are no such.
    """

    path: str
    classes: Sequence[str] | None = None

    def __post_init__(self) -> None:
        """Checks the fields."""
        if self.classes is not None:
            object.__setattr__(self, "classes", checked_names("Arrays", self.classes))

    def read(self, data_dir: str | None = None) -> Parts:
        """Opens the arrays and looks at all of their values.

        Args:
          data_dir: not used.

        Raises:
          DataError: an array is missing, or is none of images or labels.
        """
        path = os.path.expanduser(os.fspath(self.path))
        arrays = _open(path)
        found = {}
        for which, ends in _SPLITS.items():
            for end in ends:
                if f"x_{end}" in arrays:
                    if f"y_{end}" not in arrays:
                        raise DataError(f"{path} holds x_{end}, but no y_{end}.")
                    found[which] = (arrays[f"x_{end}"], arrays[f"y_{end}"])
        if "train" not in found:
            raise DataError(
                f"{path} holds {', '.join(sorted(arrays)) or 'no array'}; must be x_train and "
                "y_train, and where there are such x_val, y_val, x_test and y_test."
            )
        values = [_column(labels, path) for _, labels in found.values()]
        ids, names = labels_of(values, self.classes, path)
        splits = {}
        for (which, (images, _)), labels in zip(found.items(), ids, strict=True):
            reader = array_reader(images, f"{path}, {which}")
            if len(images) != len(labels):
                raise DataError(f"{path}: {len(images)} images of {which}, {len(labels)} labels.")
            splits[which] = StreamedSplit(reader, labels)
        shapes = {split.image_shape for split in splits.values()}
        if len(shapes) > 1:
            raise DataError(f"{path}: images of {', '.join(splits)} have the shapes {shapes}.")
        together = np.concatenate(ids)
        count = len(names) if names else int(together.max()) + 1
        name = os.path.splitext(os.path.basename(os.path.abspath(path)))[0]
        return Parts(
            name,
            splits["train"],
            splits.get("validation"),
            splits.get("test"),
            count,
            names,
            notes=gaps(together, count),
        )


def _open(path: str) -> dict[str, np.ndarray]:
    """The arrays of a file or folder by name; those of a folder memory-mapped."""
    try:
        if files.is_folder(path):
            names = [name for name in tf.io.gfile.listdir(path) if name.endswith(".npy")]
            return {
                name.removesuffix(".npy"): np.load(
                    os.path.join(path, name), mmap_mode="r", allow_pickle=False
                )
                for name in names
            }
        if not files.exists(path):
            raise DataError(f"Arrays(path={path!r}): there is no such file or folder.")
        with tf.io.gfile.GFile(path, "rb") as file:
            held = np.load(io.BytesIO(file.read()), allow_pickle=False)
        if isinstance(held, np.ndarray):
            raise DataError(
                f"Arrays(path={path!r}) is one array; give the folder that holds x_train.npy and "
                "y_train.npy, or an .npz file."
            )
        return {name: held[name] for name in held.files}
    except (ValueError, OSError, EOFError, tf.errors.OpError, zipfile.BadZipFile) as error:
        raise DataError(
            f"Arrays(path={path!r}) cannot be read: {files.reason(error)}. It must be an .npz file "
            "or a folder of .npy files, of numbers (nothing is unpickled)."
        ) from error


def _column(labels: np.ndarray, path: str) -> np.ndarray:
    """Labels (N,), of (N,) or (N, 1)."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise DataError(
            f"{path}: labels have the shape {labels.shape}; must be (N,). One-hot labels: save "
            "labels.argmax(-1)."
        )
    return np.asarray(labels)


def array_reader(images: np.ndarray, name: str) -> Reader:
    """Reads the images of an array by position, after one look at all of them.

    Raises:
      DataError: they are no images.
    """
    if images.ndim == 3:
        images = images[..., None]
    is_float = images.dtype.kind == "f"
    if images.ndim not in (2, 4) or not (images.dtype == np.uint8 or is_float):
        raise DataError(
            f"{name}: images are {images.dtype} {images.shape}; must be uint8 in 0 .. 255 or "
            "floating point in [0, 1], (N, H, W, C), (N, H, W) or (N, D)."
        )
    dtype = np.dtype(np.float32) if is_float else images.dtype
    digest = hashlib.sha256(f"{dtype.str}{images.shape}".encode())
    keys = np.zeros(len(images), np.uint64)
    for first in range(0, len(images), _BATCH):
        piece = np.ascontiguousarray(images[first : first + _BATCH].astype(dtype, copy=False))
        if is_float and not (piece.min() >= 0 and piece.max() <= 1):
            bad = next(n for n, one in enumerate(piece) if not (one.min() >= 0 and one.max() <= 1))
            raise DataError(
                f"{name}: image {first + bad} spans {piece[bad].min()} .. {piece[bad].max()}; "
                "floating point images must be finite and in [0, 1]. Pixels 0 .. 255: save uint8."
            )
        digest.update(piece.data)
        for number, image in enumerate(piece, first):
            key = hashlib.blake2b(image.tobytes(), digest_size=8).digest()
            keys[number] = int.from_bytes(key, "little")
    shape = images.shape[1:]

    def take(number: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(images[int(number)].astype(dtype, copy=False))

    def read(number: tf.Tensor) -> tf.Tensor:
        image = tf.numpy_function(take, [number], tf.as_dtype(dtype), stateful=False)
        return tf.ensure_shape(image, shape)

    fingerprint = digest.hexdigest()[:16]
    return Reader(read, shape, dtype, lambda number: f"{name}, image {number}", fingerprint, keys)
