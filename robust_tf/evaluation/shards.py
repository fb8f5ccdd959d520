"""An evaluation in shards, each a task of an engine: on all devices, or on a cluster."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
from tqdm import tqdm

from robust_tf import evaluation_progress, files
from robust_tf.engines import Ending, Engine, Task
from robust_tf.evaluation.results import Evaluation
from robust_tf.evaluation.state import merge
from robust_tf.evaluation_progress import PARTIAL, PLAN, shard_path

MODULE = "robust_tf.evaluation.shard_task"
_SECONDS = 1.0  # between two looks at the records


class ShardError(RuntimeError):
    """Shards are not done; the message says which, why, and what to do.

    Attributes:
      endings: of those shards, by name.
    """

    def __init__(self, endings: Mapping[str, Ending], folder: str | None):
        self.endings = dict(endings)
        several: dict[str, list[str]] = {}
        for name, ending in endings.items():
            several.setdefault(ending.reason.rstrip("."), []).append(name)
        parts = [f"{', '.join(names)}: {reason}." for reason, names in several.items()]
        killed = any(ending.status < 0 for ending in endings.values())
        if folder is not None:
            parts.append(f"What is done lies in {folder}; the same call continues.")
        if killed:
            parts.append("Fewer devices, or a smaller batch_size, take less memory.")
        super().__init__(" ".join(parts))


class Shards:
    """The shards of one evaluation in a folder: a plan, a record or result of each.

    Args:
      folder: which is made; one of the same evaluation is continued.
      about: all that the evaluation depends on, JSON-ready.
      count: of the shards.
      fixed: the user has named that number; else that of an evaluation that is continued is taken.
      kept: the folder outlives a failure, so that the same call continues.

    Attributes:
      count: of the shards.
      outputs: the file of each one's result.

    Raises:
      ValueError: the folder holds another evaluation, or another number of shards.
      FileError: it cannot be written.
    """

    def __init__(
        self, folder: str, about: Mapping[str, Any], count: int, fixed: bool, kept: bool = True
    ):
        self.folder, self._kept = folder, kept
        path = os.path.join(folder, PLAN)
        self._plan: dict[str, Any] = {"count": count, "about": json.loads(json.dumps(about))}
        if files.exists(path) and _anything_in(folder):
            found = files.read_json(path)
            if not isinstance(found, dict) or not isinstance(found.get("count"), int):
                raise ValueError(f"{path} is not the plan of an evaluation in shards; delete it.")
            if found.get("about") != self._plan["about"]:
                raise ValueError(
                    f"{folder} holds an unfinished evaluation that was asked for otherwise; repeat "
                    "that call, delete the folder, or choose another output."
                )
            if fixed and found["count"] != count:
                raise ValueError(
                    f"{folder} holds an unfinished evaluation in {found['count']} shards, not "
                    f"{count}; continue it with {found['count']} devices, or delete the folder."
                )
            self._plan = found
        else:
            if files.exists(folder) and not files.exists(path):
                raise ValueError(
                    f"{folder} is there and holds no evaluation in shards; move it, or choose "
                    "another output."
                )
            files.remove(folder)
            files.write_json(path, self._plan)
        self.count: int = self._plan["count"]
        self.outputs = [shard_path(folder, k + 1, self.count) for k in range(self.count)]

    def search_dtype(self, engine: Engine) -> str:
        """What 'auto' is for all shards, measured by one task of the engine."""
        known = self._plan.get("search_dtype")
        if known is None:
            output = os.path.join(self.folder, "precision.json")
            task = Task("precision", MODULE, ("precision", output), output)
            ending = engine.run([task])[task.name]
            if ending.status:
                raise ShardError({task.name: ending}, None)
            known = self._plan["search_dtype"] = files.read_json(output)["dtype"]
            files.write_json(os.path.join(self.folder, PLAN), self._plan)
        return str(known)

    def run(self, tasks: Sequence[Task], engine: Engine, progress: bool | None = None) -> None:
        """Runs the tasks whose shards have no result yet, with one bar over all.

        Args:
          tasks: one for each shard, in order.
          engine: which runs them.
          progress: see `evaluate`; a line for each shard where there is no bar.

        Raises:
          ShardError: some are not done; all others are.
        """
        left = [task for task in tasks if not files.exists(task.output)]
        remarks: dict[str, None] = {}
        with _Bar(self.outputs, progress) as bar:

            def ended(task: Task, ending: Ending) -> None:
                remarks.update(dict.fromkeys(ending.remarks))
                bar.say(f"{task.name}: {'not done' if ending.status else 'done'}")

            endings = engine.run(left, bar.update, ended)
        for remark in remarks:
            print(remark, file=sys.stderr)
        failed = {name: ending for name, ending in endings.items() if ending.status}
        if failed:
            there = self._kept and _anything_in(self.folder)
            raise ShardError(failed, self.folder if there else None)

    def close(self) -> None:
        """Deletes the folder: the evaluation has a result."""
        files.remove(self.folder)


def _anything_in(folder: str) -> bool:
    """Whether a folder of shards has a result or a record, which would be lost with it."""
    return bool(tf.io.gfile.glob(os.path.join(folder, "*-of-*.json*")))


def shard_within(within: tuple[int, int] | None, index: int, count: int) -> tuple[int, int]:
    """The i/n of the whole that shard `index` of `count` is, of a shard `within` the whole."""
    part, parts = within or (1, 1)
    return part + parts * (index - 1), parts * count


def merge_within(parts: Sequence[Evaluation], within: tuple[int, int] | None) -> Evaluation:
    """As `merge`, of shards that together are a shard of the whole; None: that are the whole."""
    if within is None:
        return merge(parts)
    own = [
        dataclasses.replace(part, settings={**part.settings, "shard": [k + 1, len(parts)]})
        for k, part in enumerate(parts)
    ]
    merged = merge(own)
    return dataclasses.replace(merged, settings={**merged.settings, "shard": list(within)})


class _Bar:
    """One bar over all shards, by their records; or a line when one has ended."""

    def __init__(self, outputs: Sequence[str], show: bool | None):
        self._outputs, self._looked = outputs, -_SECONDS
        self._lines = show is None and not sys.stderr.isatty()
        self._bar: Any = None
        if show or (show is None and not self._lines):
            self._bar = tqdm(desc=f"{len(outputs)} shards", unit="image", file=sys.stderr)

    def update(self) -> None:
        if self._bar is None or time.monotonic() - self._looked < _SECONDS:
            return
        self._looked = time.monotonic()
        found = [evaluation_progress.part(path) for path in self._outputs]
        parts = [one for one in found if one is not None]
        attacks = [one for part in parts for one in part.attacks.values()]
        if attacks and len(parts) == len(self._outputs):
            passes = sum(one.passes for one in attacks)
            self._bar.total = passes + sum(one.passes_left for one in attacks)
            cases = [evaluation_progress.worst_case(part) for part in parts]
            bounds = [one[1] for one in cases if one is not None]
            if len(bounds) == len(parts):
                most = sum(int(one.sum()) for one in bounds)
                size = sum(part.size for part in parts)
                self._bar.set_postfix_str(f"robust at most {100 * most / size:.2f} %", False)
            self._bar.update(passes - self._bar.n)
        else:
            self._bar.refresh()

    def say(self, line: str) -> None:
        if self._lines:
            print(line, file=sys.stderr)

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._looked = -_SECONDS
            if error[0] is None:
                self.update()
            self._bar.close()


def check_single(output: str) -> None:
    """Raises ValueError where the record of the evaluation is that of one process."""
    if files.exists(output + PARTIAL):
        raise ValueError(
            f"{output}{PARTIAL} holds an unfinished evaluation by one process; continue it without "
            "devices, or delete it."
        )
