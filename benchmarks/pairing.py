"""Times functions in turn, so that a ratio holds on a machine whose speed drifts."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence


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
