"""RayS, one image at a time, in loops and float64.

Written from Chen & Gu (2020), algorithms 1 to 3, and the settings of their program.
"""

import math

import numpy as np


def search(wrong, x, queries, tolerance=1e-3, eps=None):
    """(closest misclassified image or None, queries made).

    Args:
      wrong: image -> whether it is misclassified.
      x: (H, W, C), not misclassified.
      queries: most of them.
      tolerance: of the L2 radius.
      eps: ends the search after a block, if the L-inf distance is not above it.
    """
    size, used = x.size, 0
    sign, radius, best = np.ones(size), math.inf, None

    def image(sign, radius):
        """Blocks run through one channel after the other."""
        ray = np.reshape(sign, (x.shape[2], *x.shape[:2])).transpose(1, 2, 0)
        return np.clip(x + radius * (ray / math.sqrt(size)), 0, 1)

    level = 0
    while True:
        length = math.ceil(size / 2**level)
        for block in range(2**level):
            first, end = block * length, min((block + 1) * length, size)
            if used >= queries or (eps and best is not None and np.abs(best - x).max() <= eps):
                return best, used
            tried = sign.copy()
            tried[first:end] *= -1
            used += 1
            if wrong(image(tried, radius)):
                low, high = 0.0, min(radius, math.sqrt(size))
                while used < queries:
                    used += 1
                    middle = (low + high) / 2
                    low, high = (low, middle) if wrong(image(tried, middle)) else (middle, high)
                    if high - low <= tolerance:
                        break
                if high < radius:
                    sign, radius, best = tried, high, image(tried, high)
            if end == size:
                break
        level += 1
