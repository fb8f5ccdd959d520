"""DDN and FMN after their papers: one example at a time, in float64, written out in NumPy."""

import numpy as np

ORDERS = {"Linf": np.inf, "L2": 2, "L1": 1}
DUAL = {"Linf": 1, "L2": 2, "L1": np.inf}


def cosine(k, steps, first, last):
    return last + (first - last) * (1 + np.cos(np.pi * k / steps)) / 2


def farthest(x):
    return np.maximum(x, 1 - x)


def ddn(model, x, y, steps, gamma=0.05, init_eps=1.0):
    """All points from the clean image on, and the least distance of a misclassified one."""
    point, eps, points, best = x, init_eps, [x], np.inf
    for k in range(steps + 1):
        logits = model.logits(point)
        wrong = np.argmax(logits) != y
        if wrong:
            best = min(best, np.linalg.norm(point - x))
        if k == steps:
            break
        p = np.exp(logits - logits.max())
        p = p / p.sum() - (np.arange(len(p)) == y)  # of the cross-entropy
        gradient = p @ model.gradients(point)
        delta = point - x + cosine(k, steps, 1.0, 0.01) * gradient / np.linalg.norm(gradient)
        eps = min(eps * (1 - gamma if wrong else 1 + gamma), np.linalg.norm(farthest(x)))
        point = np.clip(x + eps * delta / np.linalg.norm(delta), 0, 1)
        points.append(point)
    return points, best


def fmn(model, x, y, steps, norm, gammas=(0.05, 0.001)):
    """As `ddn`; lengthened and projected as FMN's docstring says."""
    order, reach = ORDERS[norm], np.linalg.norm(farthest(x), ORDERS[norm])
    point, eps, points, best = x, 0.0, [x], np.inf
    for k in range(steps + 1):
        logits, gradients = model.logits(point), model.gradients(point)
        distance, wrong = np.linalg.norm(point - x, order), np.argmax(logits) != y
        if wrong:
            best = min(best, distance)
        if k == steps:
            break
        gamma = cosine(k, steps, *gammas)
        others = np.where(np.arange(len(logits)) == y, -np.inf, logits)
        gradient = gradients[others.argmax()] - gradients[y]
        if wrong:
            eps = min(eps * (1 - gamma), best)
        elif np.isfinite(best):
            eps = eps * (1 + gamma)
        else:
            away = (logits[y] - others.max()) / np.linalg.norm(gradient, DUAL[norm])
            close = norm == "L1" or away < gamma * distance
            eps = max(distance + away, eps * (1 + gamma) if close else 0)
        eps = min(eps, reach)
        first = 10.0 if norm == "Linf" else 1.0
        alpha = cosine(k, steps, first, first / 100)
        delta = point - x + alpha * gradient / np.linalg.norm(gradient)
        if norm == "L2":
            delta = np.clip(x + delta, 0, 1) - x
        if norm != "Linf" and not np.isfinite(best):
            delta = delta * max(1, eps / np.linalg.norm(delta, order))
        point = x + project(delta, x, eps, norm)
        points.append(point)
    return points, best


def project(delta, x, eps, norm):
    """To the ball, then to the box; in L1 to both, by bisection of the threshold."""
    if norm == "Linf":
        return np.clip(x + np.clip(delta, -eps, eps), 0, 1) - x
    if norm == "L2":
        return np.clip(x + delta * min(1, eps / np.linalg.norm(delta)), 0, 1) - x
    room = np.where(delta > 0, 1 - x, x)

    def at(threshold):
        return np.minimum(np.maximum(np.abs(delta) - threshold, 0), room)

    low, high = 0.0, np.abs(delta).max()
    if at(0.0).sum() <= eps:
        high = 0.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if at(middle).sum() > eps else (low, middle)
    return np.sign(delta) * at(high)
