"""What a source gives, and how validation and test images are taken from it where it has none."""

from __future__ import annotations

import dataclasses
import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from robust_tf.data.drawing import draw_order
from robust_tf.data.errors import DataError, DataNote, counted
from robust_tf.data.labels import gaps, some
from robust_tf.data.sequential import SequentialSplit
from robust_tf.data.splits import Split
from robust_tf.data.streamed import StreamedSplit

# Parts of the training images, where a source has no images of its own for that.
TEST_SHARE, VALIDATION_SHARE = 0.2, 0.1

_INSIDE = {"robust_tf", "gin"}


@dataclasses.dataclass(frozen=True, eq=False)
class Parts:
    """The splits of a source, as they lie there.

    Attributes:
      name: of the dataset.
      train, validation, test: the last two None where the source has none.
      num_classes: labels are 0 .. num_classes - 1.
      class_names: by label, where the source tells them.
      description: what became of the images, JSON-ready.
      notes: what the user should know, each a sentence.
    """

    name: str
    train: Split
    validation: Split | None
    test: Split | None
    num_classes: int
    class_names: tuple[str, ...] | None = None
    description: dict[str, Any] = dataclasses.field(default_factory=dict)
    notes: Sequence[str] = ()


def from_mapping(given: Mapping[str, Any], name: str) -> Parts:
    """What a user's function gives as a dict.

    Args:
      given: 'train' and, where there are any, 'validation' and 'test', each a `tf.data.Dataset` of
        (image, label), a `Split`, or (images, labels); and 'class_names'.
      name: of the function.

    Raises:
      DataError: it holds something else.
    """
    known = ("train", "validation", "test", "class_names")
    if "train" not in given or set(given) - set(known):
        raise DataError(f"{name} gave a dict of {sorted(given)}; known are {', '.join(known)}.")
    splits = {
        which: _split(given[which], f"'{which}' of {name}")
        for which in known[:3]
        if given.get(which) is not None
    }
    labels = np.concatenate([split.labels for split in splits.values()])
    names = given.get("class_names")
    count = int(labels.max()) + 1 if names is None else len(names)
    return Parts(
        name,
        splits["train"],
        splits.get("validation"),
        splits.get("test"),
        count,
        None if names is None else tuple(map(str, names)),
        notes=gaps(labels, count),
    )


def _split(given: Any, name: str) -> Split:
    if isinstance(given, Split):
        return given
    if isinstance(given, tf.data.Dataset):
        return SequentialSplit(given, name)
    if not isinstance(given, (tuple, list)) or len(given) != 2:
        raise DataError(
            f"{name} is {type(given).__name__}; must be a tf.data.Dataset of (image, label), a "
            "Split, or (images, labels)."
        )
    return Split(*given)


def hold_out(
    split: Split, size: int | float, seed: int, stream: int, what: str, parameter: str
) -> tuple[Split, Split]:
    """Examples of a training split for something else, each class by its share.

    Args:
      split: the training examples.
      size: how many, >= 0, or what part of them, in (0, 1).
      seed: of the draw.
      stream: which of the draws by this seed.
      what: what they are for, 'test'.
      parameter: by which the user sets the size, 'data.test_size'.

    Returns:
      (the rest, those held out).

    Raises:
      DataError: a class would be without training images.
    """
    count = round(size * len(split)) if isinstance(size, float) else size
    chosen = np.sort(draw_order(split.labels, seed, stream)[:count])
    rest = np.setdiff1d(np.arange(len(split)), chosen)
    lost = np.setdiff1d(split.labels, split.labels[rest])
    if len(lost):
        raise DataError(
            f"{parameter} takes {count} of {len(split)} training images for {what}, and with them "
            f"all images of {counted(len(lost), 'class', 'classes')}: give {what} images of their "
            f"own, more training images, or a smaller {parameter}."
        )
    return split.select(rest), split.select(chosen)


def say(notes: Sequence[str], name: str) -> None:
    """Says them aloud, as of the line that asked for the data."""
    for note in notes:
        warnings.warn(f"{name}: {note}", DataNote, stacklevel=_levels_to_user())


def _levels_to_user() -> int:
    """`stacklevel`, in the function that calls this, of the first line outside library and gin."""
    frame, levels = sys._getframe(1), 1
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in _INSIDE:
        frame, levels = frame.f_back, levels + 1
    return levels


def findings(parts: dict[str, Split], names: Sequence[str]) -> list[str]:
    """What is odd about the examples of splits by name, each a sentence with a count."""
    notes = []
    train = parts["train"]
    counts = np.bincount(train.labels, minlength=len(names))
    if len(single := np.flatnonzero(counts == 1)):
        notes.append(f"one training image alone: {some([names[int(c)] for c in single])}.")
    if len(counts) and counts.max() >= 10 * max(counts.min(), 1):
        most, least = names[int(counts.argmax())], names[int(counts.argmin())]
        notes.append(
            f"classes differ much: {counts.max():,} training images of {most}, {counts.min():,} of "
            f"{least}."
        )
    for which in ("validation", "test"):
        if len(parts[which]):
            missing = np.setdiff1d(train.labels, parts[which].labels)
            if len(missing):
                kinds = counted(len(missing), "class", "classes")
                notes.append(
                    f"no {which} images of {kinds}: {some([names[int(c)] for c in missing])}."
                )
    return notes + _doubles(parts, names)


def _doubles(parts: dict[str, Split], names: Sequence[str]) -> list[str]:
    """Images that are in several splits, or in several classes."""
    known = {
        which: split
        for which, split in parts.items()
        if isinstance(split, StreamedSplit) and split.reader.keys is not None and len(split)
    }
    notes = []
    for first, second in (("train", "test"), ("train", "validation"), ("validation", "test")):
        if first not in known or second not in known:
            continue
        one, other = known[first], known[second]
        mine, theirs = _keys(one), _keys(other)
        shared = np.isin(theirs, mine)
        if shared.any():
            here = int(np.flatnonzero(shared)[0])
            there = int(np.flatnonzero(mine == theirs[here])[0])
            notes.append(
                f"{counted(int(shared.sum()), 'image')} of {second} {_verb(shared)} in {first}, "
                f"too: {_name(other, here)} is {_name(one, there)}."
            )
    if known:
        keys = np.concatenate([_keys(split) for split in known.values()])
        labels = np.concatenate([split.labels for split in known.values()])
        pairs = np.unique(np.stack([keys, labels.astype(np.uint64)], 1), axis=0)
        several, counts = np.unique(pairs[:, 0], return_counts=True)
        if (counts > 1).any():
            key = several[counts > 1][0]
            classes = [names[int(c)] for c in np.unique(labels[keys == key])]
            where = next(
                _name(split, int(np.flatnonzero(_keys(split) == key)[0]))
                for split in known.values()
                if (_keys(split) == key).any()
            )
            notes.append(
                f"{counted(int((counts > 1).sum()), 'image')} in several classes: {where} is in "
                f"{' and '.join(classes)}."
            )
    return notes


def _keys(split: StreamedSplit) -> np.ndarray:
    assert split.reader.keys is not None
    return split.reader.keys[split.numbers]


def _name(split: StreamedSplit, position: int) -> str:
    return split.reader.name(int(split.numbers[position]))


def _verb(flags: np.ndarray) -> str:
    return "is" if flags.sum() == 1 else "are"
