"""The rows of a study as tasks of an engine: several at once, on one machine or many."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from typing import Any

from robust_tf.engines import Ending, Engine, Task
from robust_tf.studies.plan import Plan
from robust_tf.studies.study import RUN, Row

MODULE = "robust_tf.studies.row_task"


@dataclasses.dataclass(frozen=True)
class Source:
    """What a process needs beside the plan to have the same study.

    Attributes:
      gin_file: the study's file or name.
      params: bindings over it.
      strategy: name of that under which rows are trained, see `training.make_strategy`.
    """

    gin_file: str
    params: Sequence[str] = ()
    strategy: str = "auto"


def run(
    plan: Plan,
    seeds: Sequence[int],
    rows: Sequence[str] | None,
    source: Source,
    engine: Engine,
    say: Callable[[str], None] = print,
    done: Callable[[], Any] = lambda: None,
) -> dict[tuple[str, int], str]:
    """As `runner.run`, each row and seed a task; one begins when those that it needs have ended.

    Args:
      plan: of the study; on several machines its `study_dir` is a folder that all of them see.
      seeds: of the runs.
      rows: names; None: all.
      source: of the study.
      engine: which runs the tasks.
      say: told what is done, when a task has ended.
      done: called after each row and seed.

    Returns:
      By row and seed, why it could not be done; the others are.
    """
    faults: dict[tuple[str, int], str] = {}
    for level in levels(plan, rows):
        keys = {
            f"{row.name}, seed {seed}": (row, seed)
            for seed in seeds
            for row in level
            if seed in plan.seeds(row, seeds)
        }
        tasks = [_task(name, plan, row, seed, source) for name, (row, seed) in keys.items()]

        def ended(task: Task, ending: Ending, keys: dict[str, Any] = keys) -> None:
            row, seed = keys[task.name]
            for line in ending.text.splitlines():
                if not line.startswith("error: "):
                    say(line)
            if ending.status:
                faults[row.name, seed] = ending.reason.rstrip(". ")
                if ending.status < 0:
                    say(f"{task.name}: not done: {ending.reason}; the same command continues.")
            done()

        engine.run(tasks, ended=ended)
    return faults


def levels(plan: Plan, rows: Sequence[str] | None = None) -> list[list[Row]]:
    """Rows, and those that they need, in levels: each needs rows of earlier levels alone.

    A row that is attacked at the runs of others comes after those that stand before it.
    """
    sources = set(RUN.findall("\n".join(plan.study.attacks.values())))
    depth: dict[str, int] = {}
    for row in plan.study.in_order(rows):
        before = {*row.needs, *(name for name in sources if name in depth)}
        depth[row.name] = 1 + max((depth[name] for name in before), default=-1)
    found = [plan.study.row(name) for name in depth]
    return [[r for r in found if depth[r.name] == k] for k in range(max(depth.values()) + 1)]


def _task(name: str, plan: Plan, row: Row, seed: int, source: Source) -> Task:
    job = {
        **dataclasses.asdict(source),
        "budget": plan.budget,
        "study_dir": plan.study_dir,
        "data_dir": plan.data_dir,
        "imports": list(plan.imports),
        "row": row.name,
        "seed": seed,
    }
    return Task(name, MODULE, (json.dumps(job),))
