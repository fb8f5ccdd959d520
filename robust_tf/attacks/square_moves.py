"""The moves of Square Attack: where its random search starts, and what it tries next.

All take random numbers in [0, 1), a row for each example, and images (n, H, W, C). What has one
axis alone, points and signals, is an image of height 1, where a square is an interval.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from robust_tf.attacks import l1_ball
from robust_tf.attacks.threat import Bounds, flat

_TINY = 1e-12


class Moves:
    """What the search needs of a norm.

    Args:
      shape: H, W, C of the images.
      areas: pixels of the square of each query.

    Attributes:
      start_numbers: how many random numbers a start takes.
      numbers: how many a candidate takes.
    """

    start_numbers: int
    numbers: int

    def __init__(self, shape: tuple[int, int, int], areas: np.ndarray):
        self.shape, self.areas = shape, areas

    def start(self, numbers: tf.Tensor, bounds: Bounds) -> tf.Tensor:
        """Images of the ball, from numbers (n, start_numbers)."""
        raise NotImplementedError

    def candidate(
        self, numbers: tf.Tensor, query: tf.Tensor, images: tf.Tensor, bounds: Bounds
    ) -> tf.Tensor:
        """`images` after the move of this query (0, 1, ...), from numbers (n, self.numbers)."""
        raise NotImplementedError


class Stripes(Moves):
    """L-inf: vertical stripes of +-eps at the start, then squares of +-eps.

    A square of the program adds +-2 eps and is projected to the ball, which sets it to its border;
    here it is set.
    """

    def __init__(self, shape: tuple[int, int, int], areas: np.ndarray):
        super().__init__(shape, areas)
        _, width, channels = shape
        self.start_numbers = width * channels
        self.numbers = 2 + channels
        self.sides = window_sides(areas, shape, 1)

    def start(self, numbers: tf.Tensor, bounds: Bounds) -> tf.Tensor:
        up = tf.reshape(numbers < 0.5, [-1, 1, *self.shape[1:]])
        return tf.where(up, bounds.high, bounds.low)

    def candidate(
        self, numbers: tf.Tensor, query: tf.Tensor, images: tf.Tensor, bounds: Bounds
    ) -> tf.Tensor:
        sides = tf.unstack(tf.gather(self.sides, query))
        square = _inside(_places(numbers, sides, self.shape), sides)
        up = (numbers < 0.5)[:, tf.newaxis, tf.newaxis, 2:]
        return tf.where(square, tf.where(up, bounds.high, bounds.low), images)


class Bumps(Moves):
    """L2: a grid of bumps at the start, then the mass of one square moves into another.

    A bump has a positive and a negative half, each a mound, and norm 1. Of a square image, the grid
    is about five by five.
    """

    order = 2  # of the norm

    def __init__(self, shape: tuple[int, int, int], areas: np.ndarray):
        super().__init__(shape, areas)
        height, width, channels = shape
        tile = max((width if height == 1 else min(height, width)) // 5, 1)
        self.tile = min(tile, height), tile
        self.grid = height // self.tile[0], width // self.tile[1]
        self.start_numbers = self.grid[0] * self.grid[1] * (1 + channels)
        self.numbers = 5 + channels
        sides = window_sides(areas, shape, 3)
        self.sides, self.size_of_query = np.unique(sides, axis=0, return_inverse=True)
        self.size_of_query = self.size_of_query.reshape(-1)  # NumPy 2.0 gives it a second axis
        self.bumps = np.zeros((len(self.sides), 2, *self.sides.max(0)), "float32")
        for pair, (h, w) in zip(self.bumps, self.sides, strict=True):
            pair[:, :h, :w] = self._upright(h, w), self._lying(h, w)

    def start(self, numbers: tf.Tensor, bounds: Bounds) -> tf.Tensor:
        (height, width, channels), (rows, columns) = self.shape, self.grid
        numbers = tf.reshape(numbers, [-1, rows, columns, 1, 1, 1 + channels])
        upright, lying = (
            tf.constant(bump(*self.tile), tf.float32)[:, :, tf.newaxis]
            for bump in (self._upright, self._lying)
        )
        tiles = tf.where(numbers[..., :1] < 0.5, upright, lying) * _sign(numbers[..., 1:])
        tiles = tf.transpose(tiles, [0, 1, 3, 2, 4, 5])
        h, w = rows * self.tile[0], columns * self.tile[1]
        step = tf.reshape(tiles, [-1, h, w, channels])
        top, left = (height - h) // 2, (width - w) // 2
        return self._begun(tf.image.pad_to_bounding_box(step, top, left, height, width), bounds)

    def candidate(
        self, numbers: tf.Tensor, query: tf.Tensor, images: tf.Tensor, bounds: Bounds
    ) -> tf.Tensor:
        size = tf.gather(self.size_of_query, query)
        sides = tf.unstack(tf.gather(self.sides, size))
        places = _places(numbers[:, :2], sides, self.shape)
        first = _inside(places, sides)
        second = _inside(_places(numbers[:, 2:4], sides, self.shape), sides)
        step = images - bounds.center

        own = tf.where(first, step, 0.0)
        bumps = self._placed(size, numbers[:, 4] < 0.5, places)
        new = tf.where(first, bumps, 0.0) * _sign(numbers[:, tf.newaxis, tf.newaxis, 5:])
        new += own / (self._norm(own) + _TINY)
        mass = self._mass(step, first | second, bounds)
        # Where the bump cancels what was there, rounding errors are left, and would be blown up.
        length = self._norm(new)
        new = tf.where(length > 1e-3, new * (mass / length), 0.0)
        return self._finished(tf.where(first, new, tf.where(second, 0.0, step)), bounds)

    def _norm(self, step: tf.Tensor) -> tf.Tensor:
        """Of each channel, (n, 1, 1, C)."""
        return tf.sqrt(tf.reduce_sum(tf.square(step), axis=[1, 2], keepdims=True))

    def _mass(self, step: tf.Tensor, windows: tf.Tensor, bounds: Bounds) -> tf.Tensor:
        """The norm that a channel's new content is given: what both windows have, and more.

        What the box has cut off may be used again, shared out among the channels; as little as
        rounding leaves must not grow in a window that is empty.
        """
        energy, full = tf.square(step), tf.square(bounds.radius)
        unused = full - tf.reduce_sum(energy, axis=[1, 2, 3], keepdims=True)
        unused = tf.where(unused > 1e-5 * full, unused / self.shape[2], 0.0)
        return tf.sqrt(tf.square(self._norm(tf.where(windows, step, 0.0))) + unused)

    def _begun(self, step: tf.Tensor, bounds: Bounds) -> tf.Tensor:
        """The images of the start's step."""
        return self._finished(step, bounds)

    def _finished(self, step: tf.Tensor, bounds: Bounds) -> tf.Tensor:
        """The step stretched to the ball's radius, added to the center, cut to the box."""
        length = tf.sqrt(tf.reduce_sum(tf.square(step), axis=[1, 2, 3], keepdims=True))
        moved = bounds.center + step * (bounds.radius / (length + _TINY))
        return tf.clip_by_value(moved, bounds.low, bounds.high)

    def _upright(self, height: int, width: int) -> np.ndarray:
        return bump(height, width, self.order)

    def _lying(self, height: int, width: int) -> np.ndarray:
        return bump(width, height, self.order).T

    def _placed(self, size: tf.Tensor, upright: tf.Tensor, places: list[tf.Tensor]) -> tf.Tensor:
        """(n, H, W, 1): the bump of this size in its window; outside, anything."""
        height, width = self.bumps.shape[2:]
        rows = tf.clip_by_value(places[0], 0, height - 1)[:, :, tf.newaxis]
        columns = tf.clip_by_value(places[1], 0, width - 1)[:, tf.newaxis, :]
        kind = tf.cast(tf.logical_not(upright), tf.int32)[:, tf.newaxis, tf.newaxis]
        index = (kind * height + rows) * width + columns
        flat = tf.reshape(tf.gather(self.bumps, size), [-1])
        return tf.gather(flat, index)[..., tf.newaxis]


class SparseBumps(Bumps):
    """L1: as L2, with bumps of steeper sides, and projected to the ball cut to the box.

    As in the program, a channel's new content has what both windows have in all channels; the
    projection takes from all pixels what is too much.
    """

    order = 1

    def _norm(self, step: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(tf.abs(step), axis=[1, 2], keepdims=True)

    def _mass(self, step: tf.Tensor, windows: tf.Tensor, bounds: Bounds) -> tf.Tensor:
        def norm(step: tf.Tensor) -> tf.Tensor:
            return tf.reduce_sum(tf.abs(step), axis=[1, 2, 3], keepdims=True)

        unused = tf.maximum(bounds.radius - norm(step), 0.0)
        return norm(tf.where(windows, step, 0.0)) + unused / self.shape[2]

    def _begun(self, step: tf.Tensor, bounds: Bounds) -> tf.Tensor:
        """Stretched to the radius where a few bumps of norm 1 are shorter."""
        length = tf.reduce_sum(tf.abs(step), axis=[1, 2, 3], keepdims=True)
        return self._finished(step * tf.maximum(bounds.radius / (length + _TINY), 1.0), bounds)

    def _finished(self, step: tf.Tensor, bounds: Bounds) -> tf.Tensor:
        center = flat(bounds.center)
        moved = l1_ball.add(center, l1_ball.project(flat(step), center, bounds.radius))
        return tf.reshape(moved, tf.shape(step))


# By norm.
MOVES = {"Linf": Stripes, "L2": Bumps, "L1": SparseBumps}


def window_sides(areas: np.ndarray, shape: tuple[int, int, int], least: int) -> np.ndarray:
    """int32 (queries, 2): height and width of the windows of these areas, in pixels.

    Squares, as far as the image is high and wide enough; intervals of this length where its height
    is 1. Those of side 3 or more are odd, to have a middle.

    Args:
      areas: in pixels, (queries,).
      shape: H, W, C.
      least: side, 1 or 3.
    """
    height, width, _ = shape
    sides = np.maximum(np.rint(areas if height == 1 else np.sqrt(areas)), least).astype("int32")
    if least > 1:
        sides += sides % 2 == 0
    return np.minimum(sides[:, np.newaxis], np.array([height, width], "int32"))


def bump(height: int, width: int, order: int = 2) -> np.ndarray:
    """(height, width), norm 1: a mound above a sunken one.

    Source: Andriushchenko et al. (2020), equation 2; for the norm of order 1, AutoAttack's program.
    """
    upper = height // 2
    whole = np.concatenate([_mound(upper, width, order), -_mound(height - upper, width, order)])
    return whole / np.linalg.norm(whole.ravel(), order)


def _mound(height: int, width: int, order: int) -> np.ndarray:
    """Norm 1; at distance d from the middle (in steps of a king), the sum of 1 / k^p from d + 1.

    p is 2 in L2 and 4 in L1.
    """
    if not height:
        return np.zeros((0, width))
    rows, columns = np.abs(np.arange(height) - height // 2), np.abs(np.arange(width) - width // 2)
    frames = np.arange(max(height // 2, width // 2) + 1, 0, -1.0)
    tail = np.cumsum(1 / frames ** (4 if order == 1 else 2))[::-1]
    mound = tail[np.maximum(rows[:, np.newaxis], columns)]
    return mound / np.linalg.norm(mound.ravel(), order)


def _sign(numbers: tf.Tensor) -> tf.Tensor:
    return tf.where(numbers < 0.5, 1.0, -1.0)


def _places(
    numbers: tf.Tensor, sides: list[tf.Tensor], shape: tuple[int, int, int]
) -> list[tf.Tensor]:
    """int32 (n, H) and (n, W): each pixel's row and column in a window that numbers (n, 2) place.

    All places at which the window lies in the image are equally likely.
    """
    places = []
    for axis, (side, length) in enumerate(zip(sides, shape, strict=False)):
        choices = tf.cast(length - side + 1, tf.float32)
        first = tf.cast(numbers[:, axis] * choices, tf.int32)
        places.append(tf.range(length) - first[:, tf.newaxis])
    return places


def _inside(places: list[tf.Tensor], sides: list[tf.Tensor]) -> tf.Tensor:
    """The pixels of the window, bool (n, H, W, 1)."""
    rows, columns = ((at >= 0) & (at < side) for at, side in zip(places, sides, strict=True))
    return (rows[:, :, tf.newaxis] & columns[:, tf.newaxis, :])[..., tf.newaxis]
