"""Runs that differ in their seed only, which are one row of a table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from robust_tf.runs.run import Run

# What a run was given; the rest of the record is what it met: versions, timings, its folder.
_GIVEN = ("method", "network", "threat", "attacks", "disc_input", "training", "bindings")


def by_seed(runs: Sequence[Run]) -> list[list[int]]:
    """Positions of runs that differ in nothing but their seed, in order of the first of each.

    A run that does not tell its seed, or has that of another of the group, stands alone.
    """
    groups: dict[str, list[int]] = {}
    for position, run in enumerate(runs):
        key = _given(run)
        seeds = [runs[other].seed for other in groups.get(key, [])]
        if run.seed is None or run.seed in seeds:
            key = f"{position} alone"
        groups.setdefault(key, []).append(position)
    return list(groups.values())


def _given(run: Run) -> str:
    """All that a run was given but its seed, as text."""
    given: dict[str, Any] = {name: run.record[name] for name in _GIVEN}
    for name in ("training", "bindings"):
        given[name] = {
            key: value
            for key, value in given[name].items()
            if key not in ("seed", "train.seed", "train.compare_with")
        }
    return json.dumps([given, run.data.get("fingerprint")], sort_keys=True, default=str)
