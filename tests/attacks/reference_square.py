"""Square Attack, one image at a time, in loops and float64; random numbers are given.

Written from Andriushchenko et al. (2020), algorithms 1 to 3 and equation 2.
"""

import math

import numpy as np


def margin(logits, y):
    return logits[y] - max(z for k, z in enumerate(logits) if k != y)


def share(p_init, iteration):
    """Of the image, in an iteration 0, 1, ... of the schedule for 10,000."""
    for k, last in enumerate([10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000]):
        if iteration <= last:
            return p_init / 2**k
    return p_init / 512


def sign(number):
    return 1.0 if number < 0.5 else -1.0


def corner(numbers, sides, shape):
    """Of a window; in float32, so that a product just below a whole number is cut alike."""
    pairs = zip(numbers, sides, shape, strict=False)
    return [int(np.float32(n) * np.float32(length - side + 1)) for n, side, length in pairs]


def search(start, candidate, score, y, queries):
    """Best image, the margin after each query, and how many queries were made."""
    image = start
    best, trail = margin(score(image), y), []
    trail.append(best)
    for query in range(1, queries):
        if best < 0:
            break
        tried = candidate(image, query)
        value = margin(score(tried), y)
        trail.append(value)
        if value < best or value < 0:
            image, best = tried, value
    return image, trail


def linf(score, x, y, eps, numbers, start_numbers, p_init=0.8, stretch=1.0):
    height, width, channels = x.shape
    low, high = np.maximum(x - eps, 0), np.minimum(x + eps, 1)
    stripes = np.reshape(start_numbers, (width, channels))
    start = x.copy()
    for column in range(width):
        for channel in range(channels):
            start[:, column, channel] += eps * sign(stripes[column, channel])

    def candidate(image, query):
        p, own = share(p_init, int((query - 1) * stretch)), numbers[query]
        side = max(int(round(math.sqrt(p * height * width))), 1)
        sides = min(side, height), min(side, width)
        top, left = corner(own, sides, x.shape)
        image = image.copy()
        for channel in range(channels):
            square = image[top : top + sides[0], left : left + sides[1], channel]
            square += 2 * eps * sign(own[2 + channel])
        return np.clip(image, low, high)

    return search(np.clip(start, low, high), candidate, score, y, len(numbers))


def mound(height, width):
    """Equation 2: layers that grow around the middle, each with less weight."""
    delta = np.zeros((height, width))
    for k in range(max(height, width) // 2 + 1):
        for row in range(height):
            for column in range(width):
                if abs(row - height // 2) <= k and abs(column - width // 2) <= k:
                    delta[row, column] += 1 / (k + 1) ** 2
    return delta / np.sqrt((delta**2).sum())


def bump(height, width):
    delta = np.zeros((height, width))
    if height > 1:
        delta[: height // 2] = mound(height // 2, width)
    delta[height // 2 :] = -mound(height - height // 2, width)
    return delta / np.sqrt((delta**2).sum())


def l2(score, x, y, eps, numbers, start_numbers, p_init=0.8, stretch=1.0):
    height, width, channels = x.shape

    def stretched(step):
        return np.clip(x + eps * step / np.sqrt((step**2).sum()), 0, 1)

    tile = max(min(height, width) // 5, 1)
    rows, columns = height // tile, width // tile
    top, left = (height - rows * tile) // 2, (width - columns * tile) // 2
    own = np.reshape(start_numbers, (rows, columns, 1 + channels))
    step = np.zeros_like(x)
    for row in range(rows):
        for column in range(columns):
            at = top + row * tile, left + column * tile
            delta = bump(tile, tile)
            delta = delta if own[row, column, 0] < 0.5 else delta.T
            for channel in range(channels):
                window = step[at[0] : at[0] + tile, at[1] : at[1] + tile, channel]
                window[:] = sign(own[row, column, 1 + channel]) * delta

    def candidate(image, query):
        p, own = share(p_init, int((query - 1) * stretch)), numbers[query]
        side = max(int(round(math.sqrt(p * height * width))), 3)
        side += side % 2 == 0
        h, w = min(side, height), min(side, width)
        r1, c1 = corner(own[:2], (h, w), x.shape)
        r2, c2 = corner(own[2:4], (h, w), x.shape)
        step = image - x
        unused = eps**2 - (step**2).sum()
        unused = unused if unused > 1e-5 * eps**2 else 0  # the paper: > 0
        moved = step.copy()
        for channel in range(channels):
            nu, new = step[..., channel], moved[..., channel]
            union = np.zeros((height, width), bool)
            union[r1 : r1 + h, c1 : c1 + w] = True
            union[r2 : r2 + h, c2 : c2 + w] = True
            mass = np.sqrt((nu[union] ** 2).sum() + unused / channels)
            old = nu[r1 : r1 + h, c1 : c1 + w]
            delta = bump(h, w) if own[4] < 0.5 else bump(w, h).T
            mixed = sign(own[5 + channel]) * delta + old / (np.sqrt((old**2).sum()) + 1e-12)
            new[r2 : r2 + h, c2 : c2 + w] = 0
            length = np.sqrt((mixed**2).sum())
            cancelled = length <= 1e-3  # not in the paper
            new[r1 : r1 + h, c1 : c1 + w] = 0 if cancelled else mass * mixed / length
        return stretched(moved)

    return search(stretched(step), candidate, score, y, len(numbers))
