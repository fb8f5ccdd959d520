"""The files in the folder of a run: read once, and named where they are damaged."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from robust_tf import files
from robust_tf.runs import earlier
from robust_tf.runs.record import RECORD, faults

# One of these is in every folder of a run.
MARKS = (RECORD, "identity.json", "config.gin", "metrics.jsonl", "summary.json", "model.keras")
# JSON files of a run that are not results of `bin/evaluate`.
OWN_JSON = (RECORD, "identity.json", "summary.json")


class RunError(ValueError):
    """A folder that is no run, or a file in it that is damaged; the message names it."""


class RunFolder:
    """The files of a run; see `Run`, which says what they mean."""

    def __init__(
        self, path: str | os.PathLike[str], name: str | None = None, tolerant: bool = False
    ):
        self.path = os.fspath(path)
        self.name = name or os.path.basename(os.path.normpath(self.path))
        self._tolerant = tolerant
        self._left_out: list[str] = []
        self.entries = _entries(self.path)
        self.summary = self._read_json("summary.json", summary_fault) or {}
        self.configuration = self._read_configuration()
        self.record = self._read_record()

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """A row for each epoch; lines that cannot be read are left out."""
        return self._metrics[0]

    @property
    def metrics_fault(self) -> str:
        """What is wrong with `metrics.jsonl`, '' if nothing is."""
        return self._metrics[1]

    @functools.cached_property
    def guard(self) -> list[dict[str, Any]]:
        """A row for each check for catastrophic overfitting that can be read.

        'check', 'epoch', 'step', 'training_attack', 'pgd' (accuracies in [0, 1]), 'images', and
        where something was found 'verdict' and 'action'.
        """
        if "guard.jsonl" not in self.entries:
            return []
        try:
            rows = files.read_lines(os.path.join(self.path, "guard.jsonl"))
        except files.FileError as error:
            self._left_out.append(f"guard.jsonl is left out: {error}")
            return []
        numbers = ("check", "epoch", "step", "training_attack", "pgd", "images")
        found = [row for row in rows if row and all(map(_is_number, map(row.get, numbers)))]
        if not rows:
            self._left_out.append("guard.jsonl is empty.")
        if len(found) < len(rows):
            self._left_out.append(
                f"guard.jsonl cannot be read in {len(rows) - len(found)} of {len(rows)} lines."
            )
        return found

    @functools.cached_property
    def reports(self) -> dict[str, Any]:
        """By name, `summary.json` first: contents of the files that hold an evaluation."""
        found: dict[str, Any] = {}
        if "evaluation" in self.summary:
            found["summary.json"] = {
                "data": self.record["data"],
                "evaluation": self.summary["evaluation"],
            }
        for entry in self.entries:
            if entry.endswith(".json") and entry not in OWN_JSON and not entry.startswith("."):
                try:
                    content = files.read_json(os.path.join(self.path, entry))
                except files.FileError as error:
                    self._left_out.append(f"{entry} is left out: {error}")
                    continue
                if isinstance(content, dict) and "evaluation" in content:
                    found[entry] = content
        return found

    def _read_configuration(self) -> str:
        if "config.gin" in self.entries:
            try:
                return files.read_text(os.path.join(self.path, "config.gin"))
            except files.FileError as error:
                self._damaged("config.gin", str(error))
        own = self.summary.get("configuration")
        return own if isinstance(own, str) else ""

    def _read_record(self) -> dict[str, Any]:
        record = self._read_json(RECORD, faults)
        if record is not None:
            return record
        if RECORD in self.entries:  # damaged: of this version, whose folders gin does not tell
            return {**earlier.record_of(self.summary, ""), "threat": {}}
        try:
            return earlier.record_of(self.summary, self.configuration)
        except ValueError as error:
            self._damaged("config.gin", str(error))
            return earlier.record_of(self.summary, "")

    def _read_json(
        self, name: str, faults: Callable[[dict[str, Any]], str]
    ) -> dict[str, Any] | None:
        """The content of a JSON file of the folder; None where it is not there, or is left out."""
        if name not in self.entries:
            return None
        try:
            return _read_object(os.path.join(self.path, name), faults)
        except files.FileError as error:
            self._damaged(name, str(error))
            return None

    def _damaged(self, name: str, fault: str) -> None:
        path = os.path.join(self.path, name)
        said = fault if path in fault else f"{path} is damaged: {fault}."
        if not self._tolerant:
            raise RunError(
                f"{said} Put back the file as it was, or train again in another --run_dir."
            )
        self._left_out.append(f"{name} is left out: {said}")

    @functools.cached_property
    def _metrics(self) -> tuple[list[dict[str, Any]], str]:
        if "metrics.jsonl" not in self.entries:
            return [], "There is no metrics.jsonl: the training curves are missing."
        try:
            lines = files.read_lines(os.path.join(self.path, "metrics.jsonl"))
        except files.FileError as error:
            return [], f"metrics.jsonl is left out: {error}"
        rows, bad = [], []
        for number, row in enumerate(lines, 1):
            if row and _is_number(row.get("epoch")) and not any(map(_holds_more, row.values())):
                rows.append(row)
            else:
                bad.append(number)
        shown = f"{len(rows)} epoch{'s' * (len(rows) != 1)}"
        fault = ""
        if bad == [len(lines)]:
            fault = f"The last line of metrics.jsonl is cut off: {shown} can be shown."
        elif bad:
            where = ", ".join(map(str, bad[:5])) + (", ..." if len(bad) > 5 else "")
            fault = f"metrics.jsonl cannot be read in line {where}: {shown} can be shown."
        elif not lines:
            fault = "metrics.jsonl is empty: no epoch has ended yet."
        return rows, fault


def read_record(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """What `run.json` in a folder says; None where there is none.

    Raises:
      RunError: it is damaged.
    """
    record = os.path.join(os.fspath(path), RECORD)
    try:
        return _read_object(record, faults) if files.exists(record) else None
    except files.FileError as error:
        raise RunError(
            f"{error} Put back the file as it was, or give --restart to delete that run, or "
            "another --run_dir."
        ) from error


def read_summary(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """What `summary.json` in a folder says of a run that has ended; None where there is none.

    Raises:
      FileError: it is damaged.
    """
    summary = os.path.join(os.fspath(path), "summary.json")
    return _read_object(summary, summary_fault) if files.exists(summary) else None


def is_finished(path: str | os.PathLike[str]) -> bool:
    """Whether the folder of a run has a summary that can be read: it is written last."""
    try:
        return bool(read_summary(path))
    except files.FileError:
        return False


def summary_fault(summary: dict[str, Any]) -> str:
    """What is wrong with the content of a `summary.json`, '' if nothing is."""
    for part in ("evaluation", "robust_accuracy"):
        if not isinstance(summary.get(part), (dict, type(None))):
            return f"its {part!r} is {summary[part]!r:.60}"
    for part in ("natural_accuracy", "worst_case"):
        value = summary.get(part)
        if value is not None and not (_is_number(value) and 0 <= value <= 1):
            return f"its {part!r} is {value!r:.60}, not in [0, 1]"
    return ""


def _read_object(path: str, faults: Callable[[dict[str, Any]], str]) -> dict[str, Any]:
    """A JSON object. FileError: it is missing or damaged."""
    value = files.read_json(path)
    fault = "it does not hold an object" if not isinstance(value, dict) else faults(value)
    if fault:
        raise files.FileError(f"{path} is damaged: {fault}.")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float))


def _holds_more(value: Any) -> bool:
    """Whether a value of a row is another than a number or nothing."""
    return value is not None and not _is_number(value)


def _entries(path: str) -> list[str]:
    """What is in the folder of a run.

    Raises:
      RunError: there is no such folder, or nothing in it that a run writes.
    """
    if not files.is_folder(path):
        if files.exists(path):
            raise RunError(f"{path} is a file; give the folder of a run.")
        raise RunError(f"there is no run folder {path}.")
    entries = sorted(entry.rstrip("/") for entry in tf.io.gfile.listdir(path))
    if not set(MARKS) & set(entries):
        runs = [e for e in entries if files.exists(os.path.join(path, e, "identity.json"))]
        hint = f" Did you mean {os.path.join(path, runs[0])}?" if runs else ""
        raise RunError(
            f"{path} is not the folder of a run: it has none of {', '.join(MARKS)}.{hint}"
        )
    return entries
