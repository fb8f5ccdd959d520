"""What of a study is done, running, stopped or missing, read from its files alone."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Sequence

import tensorflow as tf

from robust_tf import files, runs
from robust_tf.locks import holder_of
from robust_tf.studies import verdicts
from robust_tf.studies.plan import Plan
from robust_tf.studies.runner import lock_path
from robust_tf.studies.study import Row


@dataclasses.dataclass(frozen=True)
class State:
    """Of one row and seed.

    Attributes:
      row, seed: which.
      state: 'done', 'to evaluate', 'running', 'stopped' or 'missing'.
      about: epochs, age of the last checkpoint, attacks that are missing.
    """

    row: str
    seed: int
    state: str
    about: str = ""


def states(plan: Plan, seeds: Sequence[int], rows: Sequence[str] | None = None) -> list[State]:
    """Of all rows and seeds, or of these rows and what they need."""
    return [
        _state(plan, row, seed)
        for row in plan.study.in_order(rows)
        for seed in plan.seeds(row, seeds)
    ]


def _state(plan: Plan, row: Row, seed: int) -> State:
    folder = plan.run_dir(row, seed)
    holder = holder_of(lock_path(plan, row, seed))
    if not files.exists(os.path.join(folder, "identity.json")):
        return State(row.name, seed, "running" if holder else "missing", holder)
    run = runs.read_run(folder, tolerant=True)
    if run.finished:
        left = verdicts.missing(plan, row, seed)
        if not left:
            return State(row.name, seed, "done")
        about = f"not attacked by {', '.join(left)}"
        return State(row.name, seed, "running" if holder else "to evaluate", holder or about)
    of = run.record["training"].get("epochs")
    about = f"{len(run.metrics)} of {of} epochs" if of else f"{len(run.metrics)} epochs"
    last = os.path.join(folder, "checkpoints", "last", "checkpoint")
    if files.exists(last):
        age = time.time() - tf.io.gfile.stat(last).mtime_nsec / 1e9
        about += f", last checkpoint {_age(age)} ago"
    if holder:
        return State(row.name, seed, "running", f"{about}, {holder}")
    return State(row.name, seed, "stopped", about)


def _age(seconds: float) -> str:
    """'40 s', '12 min', '3 h', '2 days'."""
    for limit, size, unit in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.0f} days"


def table(found: Sequence[State]) -> str:
    """A line for each row and seed, and how many of each state."""
    width = max(len(one.row) for one in found)
    lines = [
        f"{one.row:{width}}  seed {one.seed}  {one.state:11}  {one.about}".rstrip() for one in found
    ]
    kinds = [one.state for one in found]
    counts = [f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds)]
    return "\n".join([*lines, ", ".join(counts) + "."])
