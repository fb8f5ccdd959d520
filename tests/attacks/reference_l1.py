"""The L1 ball in [0, 1], and AutoPGD in it, for one image at a time, in loops and float64.

Written from Croce & Hein (2021) and AutoAttack's program.
"""

import dataclasses
import math

import numpy as np


def in_ball(step, x, eps):
    """The nearest step of L1 norm eps at most with x + step in the box, by bisection."""
    size, room = np.abs(step), np.where(step > 0, 1 - x, x)
    low, high = 0.0, size.max()
    if np.minimum(size, room).sum() <= eps:
        high = 0.0
    for _ in range(80):
        middle = (low + high) / 2
        longer = np.clip(size - middle, 0, room).sum() > eps
        low, high = (middle, high) if longer else (low, middle)
    return np.sign(step) * np.clip(size - high, 0, room)


@dataclasses.dataclass
class Trajectory:
    """Images at which a run looked, by stage, and of each step its share and size.

    `clear` is how many of the images float32 must reproduce: see `reference_apgd.Trajectory`.
    """

    images: list
    rules: list
    clear: int = 1


def autopgd(start, clean, value_and_gradient, eps, steps):
    """One run for one image, from the first image at which it looks."""
    clean = np.asarray(clean, "float64")
    early = math.ceil(0.3 * steps)
    record, clear, x = Trajectory([], []), True, np.asarray(start, "float64")
    for factor, count in ((3, early), (2, early), (1, steps - 2 * early)):
        radius = factor * eps
        x = clean + in_ball(x - clean, clean, radius)
        value, gradient = value_and_gradient(x)
        record.images.append(x)
        record.clear += clear
        best, best_value, best_gradient = x, value, gradient
        pixels = (np.abs(x - clean) > 1e-12).sum()
        share, size = pixels / 1.5 / x.size, radius
        for k in range(count):
            slopes = np.sort(np.abs(gradient).ravel())
            place = min(max(int((1 - share) * x.size), 0), x.size - 1)
            # Which pixels move must not be a matter of rounding.
            clear = clear and (place == 0 or slopes[place] - slopes[place - 1] > 1e-5 * slopes[-1])
            sign = np.where(np.abs(gradient) >= slopes[place], np.sign(gradient), 0)
            record.rules.append((share, size))
            moved = x + size * sign / np.abs(sign).sum()
            inside = np.abs(np.abs(in_ball(moved - clean, clean, radius)))
            clear = clear and not ((inside > 0) & (inside < 1e-6)).any()
            x = clean + in_ball(moved - clean, clean, radius)
            value, gradient = value_and_gradient(x)
            record.images.append(x)
            record.clear += clear
            clear = clear and not 0 < abs(value - best_value) < 2e-6 * max(1, abs(value))
            if value > best_value:
                best, best_value, best_gradient = x, value, gradient
            if (k + 1) % max(int(0.04 * count), 1) == 0:
                now = (np.abs(best - clean) > 1e-12).sum()
                if now < 0.95 * pixels:
                    size, x, gradient = radius, best, best_gradient
                else:
                    size = max(size / 1.5, radius / 10)
                pixels, share = now, now / 1.5 / x.size
        x = best
    return record
