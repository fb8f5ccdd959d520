"""The result files of `bin/evaluate`: written, put together from shards, and told from others."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from robust_tf import evaluation, files
from robust_tf.cli import UserError
from robust_tf.evaluation.shards import merge_within

# What a file may hold, of this version or 0.1.
KEYS = {
    "run_dir",
    "model",
    "weights_source",
    "modules",
    "inference",
    "data",
    "evaluation",
    "columns",
}


def write(result: evaluation.Evaluation, about: dict[str, Any], output: str | None) -> None:
    """Prints the table of a result, and of a defence at inference its columns; writes the file.

    Args:
      result: what was found.
      about: what else the file is to hold, of the model, the data and the defence.
      output: the file; None: none.
    """
    report = {**about, "evaluation": result.to_json()}
    print(result.table())
    if "inference" in report:
        report["columns"] = evaluation.adaptive_summary(result)
        print(f"\n{evaluation.adaptive_table(result)}")
    if output:
        files.write_json(output, report)
        print(f"written to {output}", file=sys.stderr)


def merged(
    paths: Sequence[str], within: tuple[int, int] | None = None
) -> tuple[evaluation.Evaluation, dict[str, Any]]:
    """The result of shards put together, and what else their files hold.

    Args:
      paths: of all shards.
      within: they are those of this shard i/n alone, in order; None: of the whole.

    Raises:
      UserError, FileError: one cannot be read, or is of other data or another inference.
      ValueError: they do not belong together.
    """
    reports = [files.read_json(path) for path in paths]
    for path, report in zip(paths, reports, strict=True):
        if not isinstance(report, dict) or "evaluation" not in report:
            raise UserError(f"{path} is not a result of evaluate.")
        for what, where in (("data", "of other data"), ("inference", "of another inference")):
            if report.get(what) != reports[0].get(what):
                raise UserError(f"{path} is {where} than {paths[0]}.")
    parts = [_part(path, report) for path, report in zip(paths, reports, strict=True)]
    return merge_within(parts, within), reports[0]


def _part(path: str, report: dict[str, Any]) -> evaluation.Evaluation:
    try:
        return evaluation.Evaluation.from_json(report["evaluation"])
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error


def is_result(path: str) -> bool:
    """Whether a file is what evaluate writes, of this version or 0.1, by its content."""
    try:
        content = files.read_json(path)
    except files.FileError:
        return False
    needed = {"data", "evaluation", "model" if "model" in content else "run_dir"}
    return isinstance(content, dict) and needed <= set(content) <= KEYS


def check_images(folder: str) -> None:
    """Raises UserError for a folder that holds anything but adversarial images of evaluate."""
    if not files.exists(folder):
        return
    names = sorted(tf.io.gfile.listdir(folder)) if files.is_folder(folder) else [""]
    for name in names:
        path = os.path.join(folder, name.rstrip("/"))
        inside = tf.io.gfile.listdir(path) if files.is_folder(path) else [""]
        if not all(entry.endswith(".npz") for entry in inside):
            raise UserError(
                f"{path.rstrip('/')} is there and holds no adversarial images of evaluate; give "
                "--save_adversarial a new or empty folder."
            )
