"""Writes what a study has found: `study.json`, `study.md`, `study.html`."""

from __future__ import annotations

import os
from typing import Any

from robust_tf import files
from robust_tf.studies import page, tables
from robust_tf.studies.plan import Plan

NAMES = ("study.json", "study.md", "study.html")


def check_free(path: str) -> bool:
    """Whether the result of a study is at `path`, which may be replaced.

    Raises:
      FileError: something else is there, or the place cannot be written.
    """
    return files.check_replaceable(path, "the result of a study", _is_result)


def _is_result(path: str) -> bool:
    try:
        tables.read(path)
    except (files.FileError, ValueError):
        return False
    return True


def write(plan: Plan, content: dict[str, Any], output: str | None = None) -> list[str]:
    """Writes the files into the folder of the plan, and the JSON to `output`, too.

    Returns:
      Their paths; without the page where Jinja is not installed.

    Raises:
      FileError: see `files.write_text`.
    """
    places = [os.path.join(plan.folder, name) for name in NAMES]
    files.write_json(places[0], content)
    if output:  # for a repository: as short as it can be
        files.write_text(output, files.json_text(content, separators=(",", ":")))
    files.write_text(places[1], tables.document(content))
    try:
        files.write_text(places[2], page.build(content))
    except ValueError:  # Jinja belongs to an extra; the tables do without
        places.pop()
    return [*places, *([output] if output else [])]
