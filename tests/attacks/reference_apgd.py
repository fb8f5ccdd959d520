"""AutoPGD written out for one example at a time, in float64, after Croce & Hein (2020)."""

import dataclasses

import numpy as np


@dataclasses.dataclass
class Trajectory:
    """All images at which a run looked, and the step size after each checkpoint.

    `clear` is how many of the images float32 must reproduce: up to there, no two objective values
    to be compared and no gradient whose sign counts were equal but for rounding.
    """

    images: list
    step_sizes: list
    clear: int = 1


def autopgd(start, clean, value_and_gradient, eps, steps, norm, rho=0.75):
    """One run for one image; value_and_gradient: image -> (float, gradient of its shape)."""

    def projected(z):
        if norm == "Linf":
            return np.clip(np.clip(z, clean - eps, clean + eps), 0, 1)
        delta = z - clean
        return np.clip(clean + delta * min(1.0, eps / max(length(delta), 1e-12)), 0, 1)

    def close(value, other):
        return 0 < abs(value - other) < 2e-6 * max(1, abs(value))

    def direction(gradient):
        return np.sign(gradient) if norm == "Linf" else gradient / max(length(gradient), 1e-12)

    previous = x = np.asarray(start, "float64")
    clean = np.asarray(clean, "float64")
    value, gradient = value_and_gradient(x)
    values, best_values, best, best_gradient = [value], [value], x, gradient
    eta, halved_last_time, last_checkpoint = 2 * eps, True, 0
    period, next_checkpoint = int(0.22 * steps), int(0.22 * steps)
    record, clear = Trajectory([x], []), True
    for k in range(steps):
        slopes = np.abs(gradient)
        clear = clear and (norm != "Linf" or slopes.min() > 1e-5 * slopes.max())
        z = projected(x + eta * direction(gradient))
        share = 1.0 if k == 0 else 0.75
        z = projected(x + share * (z - x) + (1 - share) * (x - previous))
        previous, x = x, z
        value, gradient = value_and_gradient(x)
        record.images.append(x)
        record.clear += clear
        clear = clear and not close(value, values[-1]) and not close(value, best_values[-1])
        values.append(value)
        if value > best_values[-1]:
            best, best_gradient = x, gradient
        best_values.append(max(value, best_values[-1]))
        if k + 1 == next_checkpoint:
            window = range(last_checkpoint, k + 1)
            rises = sum(values[i + 1] > values[i] for i in window)
            seldom = rises <= rho * len(window)
            same = not halved_last_time and best_values[k + 1] == best_values[last_checkpoint]
            halved_last_time = seldom or same
            if halved_last_time:
                eta, x, gradient = eta / 2, best, best_gradient
            record.step_sizes.append(eta)
            last_checkpoint = next_checkpoint
            period = max(period - int(0.03 * steps), int(0.06 * steps))
            next_checkpoint += period
    return record


def length(x):
    return np.sqrt((x**2).sum())


class TanhNetwork:
    """The logits of `tests.tiny.Smooth`, and gradients of objectives of them, by hand."""

    def __init__(self, first, second):
        self.first, self.second = np.float64(first), np.float64(second)

    def logits(self, x):
        return np.tanh((x - 0.5).ravel() @ self.first) @ self.second

    def along(self, objective):
        """image -> (value, gradient), from logits -> (value, gradient)."""

        def value_and_gradient(x):
            hidden = np.tanh((x - 0.5).ravel() @ self.first)
            value, gradient = objective(hidden @ self.second)
            back = self.first @ ((self.second @ gradient) * (1 - hidden**2))
            return value, back.reshape(x.shape)

        return value_and_gradient


def cross_entropy(y):
    def objective(z):
        e = np.exp(z - z.max())
        gradient = e / e.sum()
        value = -np.log(gradient[y])
        gradient[y] -= 1
        return value, gradient

    return objective


def _quotient(numerator, denominator):
    """The ratio of two linear forms at logits, where which forms they are is settled."""

    def objective(z):
        over, under = numerator @ z, denominator @ z + 1e-12
        return over / under, numerator / under - over * denominator / under**2

    return objective


def difference_of_logits_ratio(y):
    def objective(z):
        unit, order = np.eye(len(z)), np.argsort(-z)
        other = order[0] if order[0] != y else order[1]
        return _quotient(unit[other] - unit[y], unit[order[0]] - unit[order[2]])(z)

    return objective


def targeted_difference_of_logits_ratio(y, target):
    def objective(z):
        unit, order = np.eye(len(z)), np.argsort(-z)
        under = unit[order[0]] - 0.5 * (unit[order[2]] + unit[order[3]])
        return _quotient(unit[target] - unit[y], under)(z)

    return objective
