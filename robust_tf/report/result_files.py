"""Finds in a folder what a leaderboard is made of: run folders and results of `bin/evaluate`."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from robust_tf import files, modules
from robust_tf.evaluation.reproduce_command import foreign
from robust_tf.runs import Result, Run, read_run
from robust_tf.runs.results import read_result

# Every run that a training began has one of them.
RUN_MARKS = ("run.json", "identity.json", "summary.json")
# Folders without results, some of many files.
SKIPPED = ("checkpoints", "tensorboard", "variables", "assets")


@dataclasses.dataclass
class Found:
    """What a folder holds.

    Attributes:
      runs: named by their folders, relative to it.
      results: of models that are none of these runs': each with the content of its file.
      documents: JSON files that are neither, with their contents.
      left_out: a sentence for each file that cannot be read.
    """

    runs: list[Run] = dataclasses.field(default_factory=list)
    results: list[tuple[Result, dict[str, Any]]] = dataclasses.field(default_factory=list)
    documents: list[tuple[str, Any]] = dataclasses.field(default_factory=list)
    left_out: list[str] = dataclasses.field(default_factory=list)


def search(folder: str) -> Found:
    """Reads the folder and those in it.

    Raises:
      FileError: there is no such folder.
    """
    if not files.is_folder(folder):
        raise files.FileError(f"there is no folder {folder}; name one with runs or results.")
    found = Found()
    for path, names in _folders(folder):
        if any(name in RUN_MARKS for name in names):
            name = _below(folder, path) if path != folder else os.path.basename(path.rstrip("/"))
            try:
                run = read_run(path, name, tolerant=True)
                run.results  # noqa: B018 (reads them)
            except (AttributeError, LookupError, OSError, TypeError, ValueError) as error:
                found.left_out.append(f"{name}: {files.reason(error)}")
                continue
            found.runs.append(run)
            found.left_out += [f"{name}: {note}" for note in run.left_out]
            continue
        for name in names:
            if name.endswith(".json") and not name.startswith("."):
                _read(os.path.join(path, name), _below(folder, os.path.join(path, name)), found)
    results, found.documents = _split(found.documents)
    for name, content in results:
        _add(name, content, found)
    return found


def _folders(folder: str) -> Iterator[tuple[str, list[str]]]:
    """Each folder with the names of its files, the folder itself first."""
    stack, seen = [folder], set()
    while stack:
        path = stack.pop()
        real = path if "://" in path else os.path.realpath(path)
        if real in seen:  # a link to a folder above
            continue
        seen.add(real)
        names = sorted(name.rstrip("/") for name in tf.io.gfile.listdir(path))
        inner = [name for name in names if files.is_folder(os.path.join(path, name))]
        yield path, [name for name in names if name not in inner]
        stack += [
            os.path.join(path, name)
            for name in reversed(inner)
            if name not in SKIPPED and not name.startswith(".")
        ]


def _below(folder: str, path: str) -> str:
    """A path relative to the folder."""
    return path.removeprefix(folder.rstrip("/") + "/")


def _read(path: str, name: str, found: Found) -> None:
    try:
        found.documents.append((name, files.read_json(path)))
    except files.FileError as error:
        found.left_out.append(str(error).replace(path, name))


def _split(documents: list[tuple[str, Any]]) -> tuple[list[tuple[str, Any]], list[tuple[str, Any]]]:
    """Results of `bin/evaluate`, and the others."""
    is_result = [isinstance(one, dict) and "evaluation" in one for _, one in documents]
    pairs = list(zip(documents, is_result, strict=True))
    return [one for one, yes in pairs if yes], [one for one, yes in pairs if not yes]


def _add(name: str, content: dict[str, Any], found: Found) -> None:
    """A result to the run whose weights it is of, or to those without a run."""
    modules.import_recorded(content.get("modules"), name)
    try:
        result = read_result(name, content)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        found.left_out.append(f"{name}: {files.reason(error)}")
        return
    named = os.path.abspath(str(content.get("run_dir") or os.devnull))
    for run in found.runs:
        known = result.evaluation.settings.get("model")
        same = known == run.fingerprint if known and not result.inference else False
        if same or (os.path.abspath(run.path) == named and not foreign(content, run.fingerprint)):
            run.results.append(result)
            return
    found.results.append((result, content))
