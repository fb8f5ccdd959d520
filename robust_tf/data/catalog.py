"""The six datasets that have a name of their own."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable

import numpy as np

from robust_tf.data import prepared
from robust_tf.data.parts import Parts
from robust_tf.data.prepared import Arrays
from robust_tf.data.splits import Split
from robust_tf.data.streamed import StreamedSplit
from robust_tf.data.tfds_source import TFDS


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


def read(name: str, data_dir: str | None, stream: bool = False) -> tuple[Parts, int]:
    """A dataset by its name, whole, and how many of its training images validate by default.

    Args:
      name: One of `NAMES`.
      data_dir: See `load`.
      stream: Images that tfds has prepared stay on disk; `digits` and `moons` are made in memory.

    Raises:
      ValueError: If there is no such name; the nearest is suggested.
      DataError: If it is neither there nor to be had, or cannot be read.
    """
    if name not in _CATALOG:
        near = difflib.get_close_matches(str(name).lower(), NAMES, n=1, cutoff=0.4)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"There is no dataset {name!r}.{hint} Known: {', '.join(NAMES)}.")
    entry = _CATALOG[name]
    if stream and entry.read is None:
        prepared.prepare(name, data_dir, entry.source)
        found = TFDS(name).read(data_dir)
        # By its pixels, as in memory: a run may be continued either way.
        splits = [
            StreamedSplit(dataclasses.replace(split.reader, fingerprint=None), split.labels)
            for split in (found.train, found.test)
            if isinstance(split, StreamedSplit)
        ]
        parts = Parts(name, splits[0], None, splits[1], entry.num_classes, found.class_names)
        return parts, entry.validation_size
    train, test = entry.read() if entry.read else prepared.read(name, data_dir, entry.source)
    names = None if entry.read else prepared.label_names(name, data_dir)
    parts = Parts(name, Split(*train), None, Split(*test), entry.num_classes, names)
    return parts, entry.validation_size
