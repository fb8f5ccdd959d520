"""Times functions in turn, so that a ratio holds on a machine whose speed drifts."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np


def in_turn(functions: Sequence[Callable[[], object]], rounds: int) -> list[list[float]]:
    """Seconds of each function in each round, A B A B, after one round uncounted."""
    times: list[list[float]] = [[] for _ in functions]
    for turn in range(rounds + 1):
        for function, seconds in zip(functions, times, strict=True):
            began = time.perf_counter()
            function()
            if turn:
                seconds.append(time.perf_counter() - began)
    return times


def row(name: str, ratios: Sequence[float], limit: float) -> str:
    """One line: median, range and limit of a ratio."""
    median, low, high = statistics.median(ratios), min(ratios), max(ratios)
    return f"{name:44} {median:6.3f}  ({low:.3f} to {high:.3f})  limit {limit:.2f}"


# Beside other work the processor's seconds of this process drift less than the clock on the wall.
CLOCKS: dict[str, Callable[[], float]] = {
    "wall": time.perf_counter,
    "processor": time.process_time,
}


def pairs(
    functions: Sequence[Callable[[], object]],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> list[list[float]]:
    """As `in_turn`, and the order is reversed from round to round: A B, B A, A B."""
    times: list[list[float]] = [[] for _ in functions]
    for turn in range(rounds + 1):
        order = list(zip(functions, times, strict=True))
        for function, seconds in order[:: -1 if turn % 2 else 1]:
            began = clock()
            function()
            if turn:
                seconds.append(clock() - began)
    return times


class Ratio(NamedTuple):
    """The ratio of two medians, and the ends of its 95 % interval."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, times: Sequence[float], others: Sequence[float], draws: int = 2000) -> Ratio:
        """Of times over others, measured in pairs, which are drawn with replacement."""
        both = np.asarray([times, others])
        drawn = np.random.default_rng(0).integers(0, both.shape[1], (draws, both.shape[1]))
        medians = np.median(both[:, drawn], axis=2)
        low, high = np.quantile(medians[0] / medians[1], (0.025, 0.975))
        median = np.median(both[0]) / np.median(both[1])
        return cls(float(median), float(low), float(high))

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"
