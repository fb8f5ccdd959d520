"""Training curves from metrics.jsonl: losses and their terms, accuracies, validation."""

from __future__ import annotations

import json
import os

import numpy as np

from robust_tf import files

Metrics = dict[str, np.ndarray]


def read_metrics(run_dir: str | os.PathLike[str]) -> Metrics:
    """Columns of a run's metrics.jsonl, each float (epochs,), nan where an epoch has no value.

    A last line that is cut off, of a run that still writes, is left out.

    Raises:
      FileError: no such file. ValueError: no whole line in it, or one that is not a row.
    """
    path = os.path.join(os.fspath(run_dir), "metrics.jsonl")
    lines = files.read_text(path).splitlines()
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            if number == len(lines):
                break
            raise ValueError(f"{path}, line {number} is not JSON: {error}.") from error
        if not isinstance(row, dict) or "epoch" not in row:
            raise ValueError(f"{path}, line {number} is not a row of metrics; it has no 'epoch'.")
        rows.append(row)
    if not rows:
        raise ValueError(f"{path} has no finished epoch; wait for the first, or train again.")
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: np.array([row.get(name, np.nan) for row in rows], float) for name in names}
