"""Distances to the nearest adversarial image: of images, as text, and what they say together.

A distance is float32, an upper bound of the least one: 0 where the clean image is misclassified,
inf where no adversarial image was found. The accuracy at a radius eps is the share of the images
whose distance is above it.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

# At most so many points of a curve: each is lower than the one before by about 1 / 40.
POINTS = 40
_ORDERS = {"Linf": np.inf, "L1": 1}


def length_of(step: np.ndarray, norm: str) -> np.ndarray:
    """The norm of what was added to each image: float64 (n, m) -> (n,)."""
    return np.linalg.norm(step, _ORDERS.get(norm, 2), axis=1) if step.size else np.zeros(len(step))


def rounded_up(length: np.ndarray) -> np.ndarray:
    """As float32, never below what it was."""
    near = length.astype(np.float32)
    return np.where(near < length, np.nextafter(near, np.float32(np.inf)), near)


def to_text(distance: np.ndarray) -> str:
    """'0 0.3712 inf': the same float32 numbers again by `from_text`."""
    return " ".join("0" if value == 0 else str(value) for value in distance.astype(np.float32))


def from_text(text: str) -> np.ndarray:
    """Inverse of `to_text`, float32 (N,)."""
    return np.array([np.float32(part) for part in text.split()], np.float32)


def radii_of(distance: np.ndarray) -> list[float]:
    """Where the accuracy falls: all distances > 0, or of many those at equal shares of them."""
    found = np.unique(distance[np.isfinite(distance) & (distance > 0)])
    if len(found) > POINTS:
        found = found[np.linspace(0, len(found) - 1, POINTS).round().astype(int)]
    return [float(value) for value in found]


@dataclasses.dataclass(frozen=True)
class Summary:
    """What distances say together.

    Attributes:
      median: over all images, those misclassified (0) and those without an adversarial image (inf)
        among them: at this eps half of the images are classified correctly.
      low, high: the lower and the upper quartile.
      found: share of the images that have an adversarial image, or are misclassified themselves.
    """

    median: float
    low: float
    high: float
    found: float

    def to_json(self) -> dict[str, Any]:
        """By name; None for inf."""
        values = dataclasses.asdict(self)
        return {name: value if np.isfinite(value) else None for name, value in values.items()}

    @property
    def text(self) -> str:
        """'median 0.371 (0.22 to 0.64)'."""
        return f"median {self.median:.4g} ({self.low:.3g} to {self.high:.3g})"


def summary(distance: np.ndarray) -> Summary:
    """Median, quartiles and the share of those found, of N >= 1 distances."""
    # Quantiles between two images would be infinite, or not a number, beside an infinite one.
    low, median, high = np.quantile(distance, (0.25, 0.5, 0.75), method="inverted_cdf")
    return Summary(float(median), float(low), float(high), float(np.isfinite(distance).mean()))
