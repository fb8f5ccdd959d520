"""Labels as sources have them, ids or names, and as class ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from robust_tf.data.errors import DataError, counted


def checked_names(owner: str, names: Any) -> tuple[str, ...]:
    """Names of classes, all texts and different.

    Raises:
      ValueError: they are not.
    """
    if isinstance(names, str) or not all(isinstance(name, str) and name for name in names):
        raise ValueError(f"{owner}(classes={names!r}): must be a list of names.")
    if len(set(names)) < len(names):
        raise ValueError(f"{owner}(classes={names!r}): a name stands there twice.")
    return tuple(names)


def labels_of(
    values: Sequence[np.ndarray], classes: Sequence[str] | None, name: str
) -> tuple[list[np.ndarray], tuple[str, ...] | None]:
    """Class ids of labels that are ids or names.

    Args:
      values: labels of each split, (N,).
      classes: names of the classes by id; None: ids stay as they are, names are sorted.
      name: how an error calls them.

    Returns:
      Ids, int32 (N,) of each split; names of the classes, None where they are not known.

    Raises:
      DataError: labels of another kind, negative, or of no known class.
    """
    together = np.concatenate(values)
    if together.dtype.kind in "iu":
        if len(together) and together.min() < 0:
            raise DataError(f"{name}: a label is {together.min()}; class ids are 0, 1, ...")
        if classes is not None and together.max() >= len(classes):
            raise DataError(
                f"{name}: a label is {together.max()}; {len(classes)} classes are given."
            )
        if len(together) and together.max() >= 10 * len(np.unique(together)) + 1000:
            raise DataError(
                f"{name}: labels go up to {together.max():,}, with {len(np.unique(together))} "
                "classes; number them 0, 1, ..."
            )
        return [one.astype(np.int32) for one in values], None if classes is None else tuple(classes)
    if together.dtype.kind not in "US":
        raise DataError(f"{name}: labels are {together.dtype}; must be whole numbers or names.")
    values = [one.astype(str) for one in values]
    names = tuple(classes or sorted(set(np.concatenate(values).tolist())))
    number = {one: label for label, one in enumerate(names)}
    unknown = sorted(set(np.concatenate(values).tolist()) - set(names))
    if unknown:
        raise DataError(f"{name}: labels that are no class: {some(unknown)}.")
    return [np.array([number[v] for v in one.tolist()], np.int32) for one in values], names


def gaps(labels: np.ndarray, count: int) -> list[str]:
    """A note on class ids of which there are no images."""
    missing = np.setdiff1d(np.arange(count), labels)
    if not len(missing):
        return []
    return [
        f"labels are 0 .. {count - 1}, but {counted(len(missing), 'class', 'classes')} "
        f"{'has' if len(missing) == 1 else 'have'} no image: {some([str(c) for c in missing])}."
    ]


def class_name(label: int, names: Sequence[str] | None) -> str:
    """The name of a class; its number where no name is known."""
    return str(names[label]) if names and 0 <= label < len(names) else str(label)


def shortened(text: str, most: int = 16) -> str:
    """`text` on one line, with so many characters at most."""
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[: most - 1].rstrip()}…"


def some(names: Sequence[str]) -> str:
    """The first few names."""
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
