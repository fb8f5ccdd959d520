"""Two-dimensional data: decision boundaries, moved points, vector fields (ATLD Fig. 1, 4, 6, 7)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from robust_tf.figures.forward import Model, check_points, logits_at, softmax

Box = tuple[float, float, float, float]


class Plane(NamedTuple):
    """A model over a grid: x (k,), y (k,); probabilities (k, k, C), axis 0 along y."""

    x: np.ndarray
    y: np.ndarray
    probabilities: np.ndarray

    @property
    def classes(self) -> np.ndarray:
        """What is predicted at each point of the grid, int (k, k)."""
        return self.probabilities.argmax(-1)


class Moved(NamedTuple):
    """Points float32 (n, 2) before and after; labels int (n,)."""

    before: np.ndarray
    after: np.ndarray
    labels: np.ndarray


def compute_plane(model: Model, box: Box = (0.0, 1.0, 0.0, 1.0), points: int = 200) -> Plane:
    """Class probabilities over the box (x low, x high, y low, y high) on points x points."""
    x = np.linspace(box[0], box[1], points, dtype=np.float32)
    y = np.linspace(box[2], box[3], points, dtype=np.float32)
    grid = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
    logits = logits_at(model, grid, 4096)
    return Plane(x, y, softmax(logits).reshape(points, points, -1))


def box_of(points: np.ndarray, margin: float = 0.05) -> Box:
    """The box around points (n, 2), with a margin on every side."""
    check_points(points, "box_of")
    (left, low), (right, high) = points.min(0) - margin, points.max(0) + margin
    return float(left), float(right), float(low), float(high)
