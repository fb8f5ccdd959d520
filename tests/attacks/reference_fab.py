"""FAB after its formulas: one example at a time, in float64, with loops and a sort."""

import numpy as np


def project(x, w, b, norm):
    """The least move of x to <w, v> = b inside [0, 1], by a walk along the sorted stops."""
    excess = w @ x - b
    direction = -np.sign(w) if excess >= 0 else np.sign(w)
    room = np.where(direction > 0, 1 - x, x)
    speed = np.abs(w) if norm == "L2" else np.ones_like(w)
    moving = [i for i in range(len(w)) if w[i] != 0]
    moving.sort(key=lambda i: room[i] / speed[i])
    amount, missing = 0.0, abs(excess)
    for position, i in enumerate(moving):
        free = moving[position:]
        slope = np.sum(np.abs(w[free]) * speed[free])
        stop = room[i] / speed[i]
        if slope * (stop - amount) >= missing:
            amount += missing / slope
            return direction * np.minimum(amount * speed, room)
        missing -= slope * (stop - amount)
        amount = stop
    return direction * room  # the box does not reach the hyperplane


def length(d, norm):
    return np.max(np.abs(d)) if norm == "Linf" else np.sqrt(np.sum(d**2))


class Smooth:
    """`tests.tiny.Smooth` and its gradients, in NumPy."""

    def __init__(self, model):
        self.first, self.second = model.first.astype("float64"), model.second.astype("float64")

    def logits(self, x):
        return np.tanh((x - 0.5) @ self.first) @ self.second

    def gradients(self, x):
        """Of each logit, (C, n)."""
        slope = 1 - np.tanh((x - 0.5) @ self.first) ** 2
        return (self.second * slope[:, None]).T @ self.first.T


def boundary(model, point, y, target, norm):
    """Gradient and value of z_t - z_y; without a target, of the class that seems nearest."""
    logits, gradients = model.logits(point), model.gradients(point)
    choices = []
    for j in range(len(logits)) if target is None else [target]:
        if j != y:
            w, gap = gradients[j] - gradients[y], logits[j] - logits[y]
            dual = np.sum(np.abs(w)) if norm == "Linf" else np.sqrt(np.sum(w**2))
            choices.append((abs(gap) / dual, j, w, gap))
    return min(choices, key=lambda choice: choice[0])[2:]


def run(model, x, start, y, target, norm, steps, eta=1.05, alpha_max=0.1, beta=0.9):
    """All new points, before they are drawn back, and the least distance of a wrong one."""
    point, best, trajectory = start, np.inf, []
    for _ in range(steps):
        w, gap = boundary(model, point, y, target, norm)
        b = w @ point - gap
        of_point, of_x = project(point, w, b, norm), project(x, w, b, norm)
        a1, a2 = max(length(of_point, norm), 1e-8), max(length(of_x, norm), 1e-8)
        alpha = min(a1 / (a1 + a2), alpha_max)
        mixed = (1 - alpha) * (point + eta * of_point) + alpha * (x + eta * of_x)
        point = np.clip(mixed, 0, 1)
        trajectory.append(point)
        if np.argmax(model.logits(point)) != y:
            best = min(best, length(point - x, norm))
            point = x + beta * (point - x)
    return trajectory, best
