"""What can be learnt from: the datasets by name, and their splits in memory."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import hashlib
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from robust_tf import registration
from robust_tf.data import prepared
from robust_tf.data.augment import Augmentation
from robust_tf.data.prepared import Arrays
from robust_tf.validation import check_whole


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Examples in memory, read-only, in a fixed order.

    Attributes:
      images: uint8 (N, H, W, C), 0 .. 255; or float32 (N, ...) in [0, 1].
      labels: Class ids, int32 (N,).

    Raises:
      ValueError: If shapes, dtypes or ranges are not these.
    """

    images: np.ndarray
    labels: np.ndarray

    def __post_init__(self) -> None:
        """Checks the fields."""
        images, labels = np.asarray(self.images), np.asarray(self.labels)
        if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
            raise ValueError(
                f"labels are {labels.dtype} {labels.shape}; they must be integer class ids of "
                "shape (N,). One-hot labels: pass labels.argmax(-1)."
            )
        if images.ndim < 2 or len(images) != len(labels):
            raise ValueError(
                f"images {images.shape} and labels {labels.shape} do not fit; they must be "
                "(N, H, W, C) or (N, D), and (N,)."
            )
        if images.dtype == np.float32:
            if images.size and not (images.min() >= 0 and images.max() <= 1):
                raise ValueError(
                    f"float32 images span {images.min()} .. {images.max()}; they must be finite "
                    "and in [0, 1]. For pixels 0 .. 255 pass uint8."
                )
        elif images.dtype != np.uint8:
            raise ValueError(
                f"images are {images.dtype}; they must be uint8 in 0 .. 255 or float32 in [0, 1]."
            )
        for name, array in (("images", images), ("labels", labels.astype(np.int32, copy=False))):
            array = array.view()  # so that the caller's own array stays writeable
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    def __len__(self) -> int:
        """Number of examples N."""
        return len(self.labels)

    @property
    def epoch_size(self) -> int:
        """Examples in one epoch of training."""
        return len(self)

    def order(self, seed: int, epoch: int, batch_size: int) -> np.ndarray:
        """Positions of the examples in the order of a training epoch, int32, batch after batch."""
        return np.random.default_rng([seed, epoch, 0]).permutation(len(self)).astype(np.int32)

    @functools.cached_property
    def fingerprint(self) -> str:
        """16 hex digits of SHA-256 over all pixels and labels."""
        return _digest(self.images, self.labels)

    def take(self, n: int) -> Split:
        """The first `n` examples (all of them if there are fewer)."""
        return Split(self.images[:n], self.labels[:n])

    @functools.cached_property
    def tensors(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Images and labels as host tensors, copied once and shared by every epoch's pipeline."""
        with tf.init_scope(), tf.device("CPU:0"):
            return tf.constant(self.images), tf.constant(self.labels)


@dataclasses.dataclass(frozen=True, eq=False)
class Data:
    """A dataset: what to train on, what to choose by, what to report on.

    Attributes:
      name: Its name in the catalogue.
      train: Training split, without the validation examples.
      validation: Held out from the training set; may be empty.
      test: Test split, whole and in its original order.
      num_classes: Number of classes C; labels are 0 .. C - 1.
      augmentation: What training does to the images of this dataset.
      seed: By which the validation examples were chosen.
      held_out: How many were, if not all of them are in `validation`.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    num_classes: int
    augmentation: Augmentation = Augmentation()
    seed: int = 0
    held_out: int | None = None

    def __post_init__(self) -> None:
        """Checks the fields."""
        for which in ("train", "validation", "test"):
            labels = getattr(self, which).labels
            if len(labels) and not 0 <= labels.min() <= labels.max() < self.num_classes:
                raise ValueError(
                    f"{self.name}: labels of {which} span {labels.min()} .. {labels.max()}; with "
                    f"{self.num_classes} classes they must be 0 .. {self.num_classes - 1}."
                )

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of one example, (H, W, C), or (D,) for points."""
        return tuple(self.train.images.shape[1:])

    def fingerprint(self) -> str:
        """16 hex digits of SHA-256 over all pixels and labels, split by split."""
        return self._fingerprint

    @functools.cached_property
    def _fingerprint(self) -> str:
        splits = (self.train, self.validation, self.test)
        return _digest(*[array for split in splits for array in (split.images, split.labels)])


def _digest(*arrays: np.ndarray) -> str:
    """16 hex digits of SHA-256."""
    digest = hashlib.sha256()
    for array in arrays:
        # Shape and type too: else examples could move between splits unnoticed.
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]


def _read_digits() -> tuple[Arrays, Arrays]:
    """scikit-learn's 1,797 real handwritten digits, from 8x8 in 0 .. 16 to uint8 28x28x1."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    small, labels = load_digits(return_X_y=True)
    # Bilinear with aligned pixel centres, as one small matrix: the same bits on every stack.
    position = np.clip((np.arange(28) + 0.5) * 8 / 28 - 0.5, 0, 7)
    weights = np.maximum(0.0, 1.0 - np.abs(position[:, None] - np.arange(8)))
    large = weights @ (small.reshape(-1, 8, 8) * (255 / 16)) @ weights.T
    images = np.rint(large).astype(np.uint8)[..., None]
    train, test = train_test_split(
        np.arange(len(labels)), test_size=360, random_state=0, stratify=labels
    )
    train, test = np.sort(train), np.sort(test)
    return (images[train], labels[train]), (images[test], labels[test])


def _read_moons() -> tuple[Arrays, Arrays]:
    """scikit-learn's two moons with noise 0.1: 1,000 points to train and 1,000 to test on."""
    from sklearn.datasets import make_moons

    def make(state: int) -> Arrays:
        points, labels = make_moons(1000, noise=0.1, random_state=state)
        # One scale for both axes keeps a ball a ball: the square [-1.5, 2.5] x [-1.75, 2.25].
        points = (points - (0.5, 0.25)) / 4 + 0.5
        return np.clip(points, 0, 1).astype(np.float32), labels

    return make(0), make(1)


@dataclasses.dataclass(frozen=True)
class _Entry:
    """num_classes, default validation size, and how to read: embedded, or a host tfds asks."""

    num_classes: int
    validation_size: int
    read: Callable[[], tuple[Arrays, Arrays]] | None = None
    source: str = ""


_CATALOG = {
    "digits": _Entry(10, 150, read=_read_digits),
    "moons": _Entry(2, 200, read=_read_moons),
    "mnist": _Entry(10, 5000, source="https://storage.googleapis.com"),
    "cifar10": _Entry(10, 5000, source="https://www.cs.toronto.edu"),
    "cifar100": _Entry(100, 5000, source="https://www.cs.toronto.edu"),
    "svhn_cropped": _Entry(10, 5000, source="http://ufldl.stanford.edu"),
}
NAMES = tuple(_CATALOG)


@registration.configurable_as("data")
def load(
    name: str = "digits",
    data_dir: str | None = None,
    validation_size: int | None = None,
    train_size: int | None = None,
    seed: int = 0,
    augmentation: Augmentation | None = None,
) -> Data:
    """Reads a dataset into memory.

    Args:
      name: One of `NAMES`. `digits` and `moons` come with scikit-learn; the others are read by
        `tfds.load`.
      data_dir: Folder of prepared TensorFlow datasets. None: `TFDS_DATA_DIR`, else
        `~/tensorflow_datasets`. A dataset that is not there is downloaded to it. It is only
        written to for a download.
      validation_size: Examples held out from the training set, 0 .. len(train) - 1. None: the
        dataset's own default (5000 for those of tfds, 150 for digits, 200 for moons).
      train_size: Examples to train on, the first of those that are not held out, 1 or more; None:
        all.
      seed: Chooses the validation examples, 0 or more; the rest keep their order.
      augmentation: For the training pipeline. None: `Augmentation()` as bound by gin.

    Returns:
      The dataset.

    Raises:
      ValueError: If the name is unknown, or a size or `seed` out of range.
      DataError: If the dataset is neither there nor to be had, or cannot be read.
    """
    if name not in _CATALOG:
        near = difflib.get_close_matches(str(name).lower(), NAMES, n=1, cutoff=0.4)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"There is no dataset {name!r}.{hint} Known: {', '.join(NAMES)}.")
    entry = _CATALOG[name]
    check_whole("data", "seed", seed, 0)
    size = entry.validation_size if validation_size is None else validation_size
    check_whole("data", "validation_size", size, 0)
    train, test = entry.read() if entry.read else prepared.read(name, data_dir, entry.source)
    images, labels = train
    if size >= len(labels):
        raise ValueError(
            f"data.validation_size is {size}, but {name} has {len(labels)} training examples; it "
            f"must be 0 .. {len(labels) - 1}."
        )
    chosen = np.zeros(len(labels), bool)
    chosen[np.random.default_rng([seed, 3]).permutation(len(labels))[:size]] = True
    own = Split(images[~chosen], labels[~chosen])
    if train_size is not None:
        check_whole("data", "train_size", train_size, 0)
        if not 1 <= train_size <= len(own):
            raise ValueError(
                f"data.train_size is {train_size}; it must be 1 .. {len(own)}, the examples of "
                f"{name} that are not held out."
            )
        own = own.take(train_size)
    return Data(
        name=name,
        train=own,
        validation=Split(images[chosen], labels[chosen]),
        test=Split(*test),
        num_classes=entry.num_classes,
        augmentation=Augmentation() if augmentation is None else augmentation,
        seed=seed,
    )
