"""Ablations and comparisons as bars with intervals: natural, PGD, AutoAttack."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from robust_tf.evaluation import Evaluation


class Bar(NamedTuple):
    """An accuracy in [0, 1], its 95 % interval, and of how many images."""

    accuracy: float
    low: float
    high: float
    examples: int


def wilson(
    successes: np.ndarray | int, trials: np.ndarray | int, z: float = 1.959964
) -> tuple[np.ndarray, np.ndarray]:
    """The Wilson score interval of a proportion, at 95 % by default.

    Args:
      successes: counts, any shape.
      trials: counts >= 1, broadcast against them.
      z: normal quantile.

    Returns:
      Lower and upper ends in [0, 1].

    Raises:
      ValueError: no trials, or more successes than trials.

    Source: Wilson (1927).
    """
    k, n = np.asarray(successes, float), np.asarray(trials, float)
    if np.any(n < 1) or np.any(k < 0) or np.any(k > n):
        raise ValueError(f"{successes} of {trials}: must be counts with 0 <= successes <= trials.")
    share, weight = k / n, z * z / n
    centre = (share + weight / 2) / (1 + weight)
    half = z * np.sqrt(share * (1 - share) / n + weight / (4 * n)) / (1 + weight)
    return np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)


def bar_of(verdicts: np.ndarray) -> Bar:
    """The bar of per-example verdicts bool (n,), n >= 1."""
    count, total = int(np.sum(verdicts)), len(verdicts)
    low, high = wilson(count, total)
    return Bar(count / total, float(low), float(high), total)


def bars_of(evaluation: Evaluation) -> dict[str, Bar]:
    """'natural', each attack by name, and 'worst case' where there are several attacks."""
    bars = {"natural": bar_of(evaluation.natural)}
    bars |= {name: bar_of(robust) for name, robust in evaluation.robust.items()}
    if len(evaluation.robust) > 1:
        bars["worst case"] = bar_of(evaluation.worst_case)
    return bars
