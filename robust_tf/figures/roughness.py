"""How uneven the loss is around images: of one model, and of several side by side."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from robust_tf.figures.loss_surface import Surfaces


class Roughness(NamedTuple):
    """How uneven each surface is, all (n,).

    bend: mean absolute second difference between neighbours on the grid, over both axes, in nats.
    height: highest minus lowest loss, in nats. relative: bend / height, 0 on a surface that is flat
      up to the rounding of float32 logits, one part in 1e5 of its loss.
    correct: share of the plane in which the true class is predicted.
    """

    bend: np.ndarray
    height: np.ndarray
    relative: np.ndarray
    correct: np.ndarray


def roughness(surfaces: np.ndarray | Surfaces, in_ball: bool = False) -> Roughness:
    """How uneven surfaces are, of losses (n, k, k) alone or with what was predicted there.

    Losses that form a plane have 0. A quadratic a s^2 with s in grid steps, along one axis, has
    bend a: its second difference is 2 a on that axis and 0 on the other.

    Args:
      surfaces: of losses.
      in_ball: only |a| + |b| <= eps, where the image stays in the ball: the two directions agree
        in half of the pixels, which in the corners move by 2 eps.

    Raises:
      ValueError: not of the shape (n, k, k) with k >= 3, or k >= 5 in the ball.
    """
    values = surfaces.losses if isinstance(surfaces, Surfaces) else np.asarray(surfaces)
    least = 5 if in_ball else 3
    if values.ndim != 3 or values.shape[1] != values.shape[2] or values.shape[1] < least:
        raise ValueError(f"losses of shape {values.shape}: must be (n, k, k) with k >= {least}.")
    values = values.astype(np.float64)
    inside = ball(values.shape[1]) if in_ball else np.ones(values.shape[1:], bool)
    bend = np.zeros(len(values))
    for axis in (0, 1):
        parts = (slice(0, -2), slice(1, -1), slice(2, None))
        whole = np.logical_and.reduce([inside[p] if axis == 0 else inside[:, p] for p in parts])
        bend += np.abs(np.diff(values, 2, axis=axis + 1))[:, whole].mean(1) / 2
    height = np.ptp(values[:, inside], axis=1)
    noise = 1e-5 * np.abs(values[:, inside]).max(1)
    relative = np.divide(bend, height, out=np.zeros_like(bend), where=height > noise)
    correct = np.full(len(values), np.nan)
    if isinstance(surfaces, Surfaces):
        right = surfaces.classes == surfaces.labels[:, None, None]
        correct = right[:, inside].mean(1)
    return Roughness(bend, height, relative, correct)


def ball(points: int) -> np.ndarray:
    """Which points of the grid lie in the L-inf ball, |a| + |b| <= eps; bool (k, k)."""
    place = np.abs(np.linspace(-1, 1, points))
    return place[:, None] + place[None] <= 1 + 1e-6


def compared(made: dict[str, Surfaces]) -> dict[str, dict[str, Any]]:
    """Means over the images, and the median of bend; and how it compares to the first model's.

    In the same images: its 'excess', with an interval of 95 %, and 'smoother', the share of images
    that bends less.
    """
    rows: dict[str, dict[str, Any]] = {name: {} for name in made}
    first = next(iter(made.values()))
    for where in ("plane", "ball") if first.space == "images" else ("plane",):
        base = roughness(first, where == "ball")
        for name, surfaces in made.items():
            rough = roughness(surfaces, where == "ball")
            rows[name] |= {f"{k}, {where}": float(v.mean()) for k, v in rough._asdict().items()}
            rows[name][f"median bend, {where}"] = float(np.median(rough.bend))
            excess, count = rough.bend - base.bend, len(rough.bend)
            interval = ""
            if count > 1:
                interval = f" ± {1.96 * excess.std(ddof=1) / np.sqrt(count):.2g}"
            itself = surfaces is first
            rows[name][f"excess, {where}"] = "-" if itself else f"{excess.mean():.2g}{interval}"
            rows[name][f"smoother, {where}"] = "-" if itself else float((excess < 0).mean())
            rows[name]["surfaces"] = len(surfaces.labels)
    return rows
