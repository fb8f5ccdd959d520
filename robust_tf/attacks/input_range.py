"""Whether a model seems to take images of another range than [0, 1]."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import numpy as np

IMAGES, LEAST = 256, 16  # that are looked at, at most and at least
GAIN = 0.2  # of accuracy: on 16 images or more no accident

# The argument of `models.with_input_range` -> images of [0, 1] in that range.
RANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "255.0": lambda x: 255 * x,
    "(-1, 1)": lambda x: 2 * x - 1,
}


def at_chance(right: np.ndarray, classes: int) -> bool:
    """Whether so few of the images, bool (n,), are classified correctly as by guessing.

    Not of fewer than 16.
    """
    chance = 1 / classes
    spread = math.sqrt(chance * (1 - chance) / max(len(right), 1))
    return len(right) >= LEAST and bool(right.mean() <= chance + 2 * spread)


def accuracies(
    predict: Callable[[np.ndarray], np.ndarray], x: np.ndarray, y: np.ndarray
) -> dict[str, float]:
    """Accuracy on images with their pixels in each of the `RANGES`; images float32 in [0, 1]."""
    x = np.asarray(x, np.float32)
    return {name: float((predict(to(x)) == y).mean()) for name, to in RANGES.items()}


def better_range(here: float, there: dict[str, float], y: np.ndarray) -> str | None:
    """The range in which far more images are classified correctly than in [0, 1], or None.

    Also more than one class alone could make, as which a network with such pixels may answer.
    """
    name = max(there, key=lambda name: there[name])
    most = max(here, np.bincount(y).max() / len(y))
    return name if len(y) >= LEAST and there[name] > most + GAIN else None


def warn_of_range(
    predict: Callable[[np.ndarray], np.ndarray], x: np.ndarray, y: np.ndarray, classes: int
) -> None:
    """Warns if the model, at chance on these images, classifies them correctly in another range.

    Args:
      predict: images to classes (n,).
      x: float32 images in [0, 1], of which the first 256 are looked at.
      y: integer labels (n,).
      classes: number of them.
    """
    x, y = x[:IMAGES], np.asarray(y[:IMAGES])
    if len(y) < LEAST:
        return
    right = predict(x) == y
    if not at_chance(right, classes):
        return
    there = accuracies(predict, x, y)
    name = better_range(right.mean(), there, y)
    if name:
        warnings.warn(
            f"the model classifies {100 * right.mean():.1f} % of the images correctly with pixels "
            f"in [0, 1], and {100 * there[name]:.1f} % in "
            f"{'[0, 255]' if name == '255.0' else '[-1, 1]'}; attack and evaluate "
            f"models.with_input_range(model, {name}).",
            stacklevel=4,
        )
