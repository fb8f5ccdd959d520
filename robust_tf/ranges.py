"""Sets of indices as text, '3 17-20', as result files keep verdicts."""

from __future__ import annotations

import re

import numpy as np


def to_ranges(mask: np.ndarray) -> str:
    """Indices where `mask` is true, e.g. '3 17-20'."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    pairs = zip(edges[::2], edges[1::2] - 1, strict=True)
    return " ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in pairs)


def from_ranges(text: str, size: int) -> np.ndarray:
    """Inverse of `to_ranges`, bool (size,).

    Raises:
      ValueError: it is not of that form, or names an index that is not below `size`.
    """
    mask = np.zeros(size, bool)
    for part in text.split():
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, -1)
        if not first <= last < size:
            raise ValueError(f"{part!r} is not a range of indices below {size}.")
        mask[first : last + 1] = True
    return mask
