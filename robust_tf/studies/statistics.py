"""How far two classifiers differ on the same images, and how sure that is."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

RESAMPLES = 10_000


@dataclasses.dataclass(frozen=True)
class Paired:
    """The difference of two accuracies on the same n images.

    Attributes:
      difference: of the first minus the second, in [-1, 1].
      standard_error: of it, over the choice of images; 0 where they agree on all.
      low, high: 95 % interval, bootstrap over images.
      only_first, only_second: images that one alone classifies correctly.
      examples: n.
      p: exact McNemar test, two-sided, of both being equally accurate.
    """

    difference: float
    standard_error: float
    low: float
    high: float
    only_first: int
    only_second: int
    examples: int
    p: float


def paired(first: np.ndarray, second: np.ndarray, seed: int = 0) -> Paired:
    """Compares verdicts bool (n,), (m,) on the first min(n, m) >= 1 images, which are the same.

    The standard error is that of the mean of the differences, sqrt(var / n) with n - 1 in the
    variance.
    """
    n = min(len(first), len(second))
    ones, others = np.asarray(first[:n], bool), np.asarray(second[:n], bool)
    difference = ones.astype(float) - others
    only_first, only_second = int(np.sum(ones & ~others)), int(np.sum(~ones & others))
    error = float(difference.std(ddof=1) / math.sqrt(n)) if n > 1 else 0.0
    low, high = bootstrap(difference, seed)
    p = mcnemar(only_first, only_second)
    mean = float(difference.mean())
    return Paired(mean, error, low, high, only_first, only_second, n, p)


def bootstrap(values: np.ndarray, seed: int = 0, resamples: int = RESAMPLES) -> tuple[float, float]:
    """The 95 % percentile interval of the mean of values (n,), images drawn with replacement.

    Values are few and repeat, so what is drawn is how often each of them occurs (multinomial),
    which is the same.
    """
    kinds, counts = np.unique(values, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(
        len(values), counts / len(values), size=resamples
    )
    low, high = np.percentile(drawn @ kinds / len(values), [2.5, 97.5])
    return float(low), float(high)


def mcnemar(only_first: int, only_second: int) -> float:
    """The exact two-sided p of McNemar's test: binomial, one half, on the images that differ.

    Source: McNemar (1947).
    """
    n, k = only_first + only_second, min(only_first, only_second)
    term = total = 1  # exact integers: of 10,000 images a float would not do
    for i in range(k):
        term = term * (n - i) // (i + 1)
        total += term
    return min(1.0, 2 * total / 2**n) if n else 1.0


def mean_and_std(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean, and standard deviation with n - 1, None of a single value."""
    array = np.asarray(values, float)
    return float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else None
