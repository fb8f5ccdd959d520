"""Reads run folders: whatever is there, and in words what is not."""

from __future__ import annotations

import dataclasses
import json
import os
from typing import Any

import tensorflow as tf

from robust_tf import files
from robust_tf.evaluation import bindings
from robust_tf.evaluation.reproduce_command import fingerprint_in, foreign
from robust_tf.figures.runs import method_of
from robust_tf.report.measured import Measured, read_measured, why_none, worst_cases
from robust_tf.version import __version__

MARKS = ("identity.json", "config.gin", "metrics.jsonl", "summary.json", "model.keras")
OTHER_JSON = ("identity.json", "summary.json")
# How notes begin that a later evaluation may put right, or make necessary.
NONE = "There is no evaluation"
NO_WORST_CASE = "No worst case can be told"


class RunError(ValueError):
    """A folder that is no run; the message says what it lacks and what to give instead."""


@dataclasses.dataclass
class Run:
    """What a run folder holds.

    Attributes:
      path: of the folder.
      name: to show; different for each run of a report.
      config: the operative configuration, '' where there is none.
      metrics: a row for each epoch.
      summary: content of summary.json, {} where there is none.
      measured: its evaluations, that of summary.json first.
      has_model: whether there is a `model.keras`.
      notes: what is missing or odd, each a sentence.
    """

    path: str
    name: str
    config: str = ""
    metrics: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    summary: dict[str, Any] = dataclasses.field(default_factory=dict)
    measured: list[Measured] = dataclasses.field(default_factory=list)
    has_model: bool = False
    notes: list[str] = dataclasses.field(default_factory=list)

    @property
    def method(self) -> str:
        """Class of the method, '' where nothing tells it."""
        bound = self.bound("train.method")
        return str(self.summary.get("method") or (bound or "").lstrip("@").split(".")[-1])

    @property
    def label(self) -> str:
        """The method as figures call it, e.g. 'ADR LC/GB/CA'."""
        return method_of(self.summary, self.config) or self.method or "unknown method"

    @property
    def data(self) -> dict[str, Any]:
        """What the run says of its data: 'name', 'fingerprint', sizes; {} where it says nothing."""
        own = self.summary.get("data")
        if isinstance(own, dict) and own.get("name"):
            return own
        name = (self.bound("data.name") or "").strip("'\"")
        return {"name": name} if name else {}

    @property
    def eps(self) -> float | None:
        """Radius of the ball that the run was trained in, where it tells one > 0."""
        radii = [one.eps for measured in self.measured[:1] for one in measured.attacks]
        own = bindings.eps_of(self.config)
        return own or max((eps for eps in radii if eps), default=None)

    def bound(self, name: str) -> str | None:
        """The value that the configuration gives to `name`, as it stands there."""
        return bindings.bound(self.config, name)

    @property
    def fingerprint(self) -> str | None:
        """Of the run's weights, as its own evaluation tells it."""
        return fingerprint_in(self.summary)


def read_run(path: str | os.PathLike[str], name: str | None = None) -> Run:
    """Reads a run folder; only a folder that is none is an error.

    Raises:
      RunError: there is no such folder, or nothing in it that a run writes.
    """
    path = os.fspath(path)
    if not files.is_folder(path):
        what = "is a file; give the folder of a run" if files.exists(path) else "is not there"
        raise RunError(f"run folder {path} {what}.")
    entries = sorted(entry.rstrip("/") for entry in tf.io.gfile.listdir(path))
    if not set(MARKS) & set(entries):
        runs = [e for e in entries if files.exists(os.path.join(path, e, "identity.json"))]
        hint = f" Did you mean {os.path.join(path, runs[0])}?" if runs else ""
        raise RunError(
            f"{path} is not the folder of a run: it has none of {', '.join(MARKS)}.{hint}"
        )
    run = Run(path, name or os.path.basename(os.path.normpath(path)))
    run.has_model = "model.keras" in entries
    _read_metrics(run, entries)
    _read_summary(run, entries)
    _read_config(run, entries)
    _read_evaluations(run, entries)
    note_evaluations(run)
    _note_state(run, entries)
    return run


def _read_metrics(run: Run, entries: list[str]) -> None:
    if "metrics.jsonl" not in entries:
        run.notes.append("There is no metrics.jsonl: the training curves are missing.")
        return
    try:
        with tf.io.gfile.GFile(os.path.join(run.path, "metrics.jsonl"), "rb") as file:
            lines = file.read().decode(errors="replace").splitlines()
    except (OSError, tf.errors.OpError) as error:
        run.notes.append(f"metrics.jsonl cannot be read: {files.reason(error)}.")
        return
    lines = [line for line in lines if line.strip()]
    broken = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if isinstance(row, dict) and isinstance(row.get("epoch"), (int, float)):
            run.metrics.append(row)
        else:
            broken.append(number)
    shown = f"{len(run.metrics)} epoch{'s' * (len(run.metrics) != 1)}"
    if broken == [len(lines)]:
        run.notes.append(f"The last line of metrics.jsonl is cut off: {shown} can be shown.")
    elif broken:
        where = ", ".join(map(str, broken[:5])) + (", ..." if len(broken) > 5 else "")
        run.notes.append(f"metrics.jsonl cannot be read in line {where}: {shown} can be shown.")
    elif not lines:
        run.notes.append("metrics.jsonl is empty: no epoch has ended yet.")


def _read_summary(run: Run, entries: list[str]) -> None:
    if "summary.json" not in entries:
        run.notes.append(
            "There is no summary.json: the training has not ended. The same command of bin/train "
            "continues it."
        )
        return
    try:
        summary = files.read_json(os.path.join(run.path, "summary.json"))
    except files.FileError as error:
        run.notes.append(f"summary.json is left out: {error}")
        return
    if not isinstance(summary, dict):
        run.notes.append("summary.json is left out: it is not a run's summary.")
        return
    run.summary = summary


def _read_config(run: Run, entries: list[str]) -> None:
    own = run.summary.get("configuration")
    if "config.gin" in entries:
        try:
            run.config = files.read_text(os.path.join(run.path, "config.gin"))
        except files.FileError as error:
            run.notes.append(f"config.gin is left out: {error}")
    elif isinstance(own, str):
        run.config = own
    if not run.config:
        run.notes.append("There is no config.gin: how the run was trained is not known.")


def _read_evaluations(run: Run, entries: list[str]) -> None:
    """The evaluation of the summary, and every JSON file that is one by its content."""
    if "evaluation" in run.summary:
        source = {"data": run.data, "evaluation": run.summary["evaluation"]}
        try:
            run.measured.append(read_measured("summary.json", source))
        except ValueError as error:
            run.notes.append(f"The evaluation in summary.json is left out: {error}")
    for entry in entries:
        if not entry.endswith(".json") or entry in OTHER_JSON or entry.startswith("."):
            continue
        try:
            content = files.read_json(os.path.join(run.path, entry))
        except files.FileError as error:
            run.notes.append(f"{entry} is left out: {error}")
            continue
        if isinstance(content, dict) and "evaluation" in content:
            other = foreign(content, run.fingerprint)
            if other:
                run.notes.append(f"{entry} is left out: {other}.")
                continue
            try:
                run.measured.append(read_measured(entry, content))
            except ValueError as error:
                run.notes.append(f"{entry} is left out: {error}")
    for entry in entries:
        if entry.endswith(".partial"):
            run.notes.append(
                f"{entry} is an evaluation that was interrupted; the same command of bin/evaluate "
                "continues it."
            )


def note_evaluations(run: Run) -> None:
    """Notes on the evaluations as a whole, in place of earlier ones: more may join a run later."""
    run.notes = [note for note in run.notes if not note.startswith((NONE, NO_WORST_CASE))]
    if not run.measured:
        place = os.path.join(run.path, "result.json")
        how = f" bin/evaluate --run_dir={run.path} --output={place} --battery=adr makes one."
        run.notes.append(
            f"{NONE}: accuracies under attack are missing.{how if run.has_model else ''}"
        )
    elif not worst_cases(run.measured, run.eps):
        run.notes.append(f"{NO_WORST_CASE}: {why_none(run.measured, run.eps)}.")


def _note_state(run: Run, entries: list[str]) -> None:
    """What else a reader should know: no model, another version."""
    if not run.has_model:
        more = " Its checkpoints are there." if "checkpoints" in entries else ""
        run.notes.append(
            "There is no model.keras: image grids, loss surface, features and confusion are "
            f"missing. It is written when the training ends.{more}"
        )
    versions = run.summary.get("versions")
    made_by = versions.get("robust_tf") if isinstance(versions, dict) else None
    if made_by and made_by != __version__:
        run.notes.append(
            f"The run was made by robust_tf {made_by}, this report by {__version__}: fields that "
            "one of them does not know are left out."
        )
