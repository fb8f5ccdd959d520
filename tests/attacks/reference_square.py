"""Square Attack, one image at a time, in loops and float64; random numbers are given.

Written from Andriushchenko et al. (2020), algorithms 1 to 3 and equation 2; L1 after AutoAttack's
program. An image of height 1 has intervals for squares.
"""

import math

import numpy as np

from tests.attacks import reference_l1


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
        sides = window(p, height, width, 1)
        top, left = corner(own, sides, x.shape)
        image = image.copy()
        for channel in range(channels):
            square = image[top : top + sides[0], left : left + sides[1], channel]
            square += 2 * eps * sign(own[2 + channel])
        return np.clip(image, low, high)

    return search(np.clip(start, low, high), candidate, score, y, len(numbers))


def window(p, height, width, least):
    """Height and width of what covers a share p."""
    if height == 1:
        side = max(int(round(p * width)), least)
    else:
        side = max(int(round(math.sqrt(p * height * width))), least)
    side += least == 3 and side % 2 == 0
    return min(side, height), min(side, width)


def norm(values, order):
    return (np.abs(values) ** order).sum() ** (1 / order)


def mound(height, width, order):
    """Equation 2: layers that grow around the middle, each with less weight."""
    delta = np.zeros((height, width))
    for k in range(max(height, width) // 2 + 1):
        for row in range(height):
            for column in range(width):
                if abs(row - height // 2) <= k and abs(column - width // 2) <= k:
                    delta[row, column] += 1 / (k + 1) ** (2 if order == 2 else 4)
    return delta / norm(delta, order)


def bump(height, width, order=2):
    delta = np.zeros((height, width))
    if height > 1:
        delta[: height // 2] = mound(height // 2, width, order)
    delta[height // 2 :] = -mound(height - height // 2, width, order)
    return delta / norm(delta, order)


def bumps(score, x, y, eps, numbers, start_numbers, order, p_init=0.8, stretch=1.0):
    """L2 and L1."""
    height, width, channels = x.shape

    def inside(step):
        if order == 1:
            return x + reference_l1.in_ball(step, x, eps)
        return np.clip(x + eps * step / norm(step, 2), 0, 1)

    tile = max((width if height == 1 else min(height, width)) // 5, 1)
    tile_h, tile_w = min(tile, height), tile
    rows, columns = height // tile_h, width // tile_w
    top, left = (height - rows * tile_h) // 2, (width - columns * tile_w) // 2
    own = np.reshape(start_numbers, (rows, columns, 1 + channels))
    step = np.zeros_like(x)
    for row in range(rows):
        for column in range(columns):
            at = top + row * tile_h, left + column * tile_w
            upright = own[row, column, 0] < 0.5
            delta = bump(tile_h, tile_w, order) if upright else bump(tile_w, tile_h, order).T
            for channel in range(channels):
                square = step[at[0] : at[0] + tile_h, at[1] : at[1] + tile_w, channel]
                square[:] = sign(own[row, column, 1 + channel]) * delta
    if order == 1:
        step *= max(eps / norm(step, 1), 1)

    def candidate(image, query):
        p, own = share(p_init, int((query - 1) * stretch)), numbers[query]
        h, w = window(p, height, width, 3)
        r1, c1 = corner(own[:2], (h, w), x.shape)
        r2, c2 = corner(own[2:4], (h, w), x.shape)
        step = image - x
        union = np.zeros((height, width), bool)
        union[r1 : r1 + h, c1 : c1 + w] = True
        union[r2 : r2 + h, c2 : c2 + w] = True
        unused = eps**order - norm(step, order) ** order
        if order == 2:
            unused = unused if unused > 1e-5 * eps**2 else 0  # the paper: > 0
        moved = step.copy()
        for channel in range(channels):
            nu, new = step[..., channel], moved[..., channel]
            content = nu[union] if order == 2 else step[union]  # the program adds the channels
            energy = norm(content, order) ** order + max(unused, 0) / channels
            mass = energy ** (1 / order)
            old = nu[r1 : r1 + h, c1 : c1 + w]
            delta = bump(h, w, order) if own[4] < 0.5 else bump(w, h, order).T
            mixed = sign(own[5 + channel]) * delta + old / (norm(old, order) + 1e-12)
            new[r2 : r2 + h, c2 : c2 + w] = 0
            length = norm(mixed, order)
            cancelled = length <= 1e-3  # not in the paper
            new[r1 : r1 + h, c1 : c1 + w] = 0 if cancelled else mass * mixed / length
        return inside(moved)

    return search(inside(step), candidate, score, y, len(numbers))
