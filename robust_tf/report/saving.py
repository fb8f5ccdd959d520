"""Writes a report, and never over something else."""

from __future__ import annotations

import hashlib
import html
import os
import re
from collections.abc import Sequence

import tensorflow as tf

from robust_tf import files

GENERATOR = "robust_tf report"


def check_free(path: str | os.PathLike[str], runs: Sequence[str], overwrite: bool) -> bool:
    """Whether a report on the same runs is there, which may be replaced.

    Args:
      path: where a report is to be written.
      runs: folders of its runs, as the user gives them.
      overwrite: also takes a report on other runs; never a file that is no report.

    Raises:
      FileError: the place cannot be written to, or holds something that is to be kept.
    """
    path = os.fspath(path)
    is_report = lambda path: runs_of(path) is not None  # noqa: E731
    if not files.check_replaceable(path, "a report of this command", is_report):
        return False
    there = runs_of(path) or []
    if set(there) != set(names_of(runs)) and not overwrite:
        names = ", ".join(name.rpartition(" ")[0] for name in there)
        raise files.FileError(
            f"{path} is a report on other runs ({names or 'none'}). Give --overwrite to replace "
            "it, or another --output."
        )
    return True


def write(path: str | os.PathLike[str], page: str) -> None:
    """Writes the page, all of it or nothing.

    Raises:
      FileError: full disk, read-only folder, or whatever else the file system says.
    """
    files.write_text(path, page)


def names_of(runs: Sequence[str]) -> list[str]:
    """Run folders as a report remembers them: their last two parts, and a digest of the whole.

    A report may be given to others, whom the rest of the path does not concern.
    """
    paths = [run.rstrip("/") if "://" in run else os.path.abspath(run) for run in runs]
    digests = [hashlib.sha256(path.encode()).hexdigest()[:16] for path in paths]
    return [f"{'/'.join(p.split('/')[-2:])} {d}" for p, d in zip(paths, digests, strict=True)]


def runs_of(path: str) -> list[str] | None:
    """The runs of the report in a file, as `names_of` gives them; None if it is no report."""
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            head = file.read(4000).decode(errors="replace")
    except (OSError, tf.errors.OpError) as error:
        raise files.FileError(f"cannot read {path}: {files.reason(error)}.") from error
    if f'<meta name="generator" content="{GENERATOR}' not in head:
        return None
    match = re.search(r'<meta name="robust_tf-runs" content="([^"]*)"', head)
    return html.unescape(match[1]).split("\n") if match else []
