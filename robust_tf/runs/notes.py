"""What the folder of a run lacks, in words."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from robust_tf.runs.record import RECORD
from robust_tf.runs.worst_case import why_none, worst_cases
from robust_tf.version import __version__

if TYPE_CHECKING:
    from robust_tf.runs.run import Run


def of_run(run: Run) -> list[str]:
    """What is missing, damaged, or of another version, each a sentence."""
    found = [*run.left_out]
    if run.metrics_fault:
        found.append(run.metrics_fault)
    if "summary.json" not in run.entries:
        found.append(
            "There is no summary.json: the training has not ended. The same command of bin/train "
            "continues it."
        )
    if not run.configuration and RECORD not in run.entries:
        found.append("There is no config.gin: how the run was trained is not known.")
    for entry in run.entries:
        if entry.endswith(".partial"):
            found.append(
                f"{entry} is an evaluation that was interrupted; the same command of bin/evaluate "
                "continues it."
            )
    return [*found, *_evaluations(run), *_state(run)]


def _evaluations(run: Run) -> list[str]:
    """On the evaluations as a whole."""
    if not run.results:
        place = os.path.join(run.path, "result.json")
        how = f" bin/evaluate --run_dir={run.path} --output={place} --battery=adr makes one."
        how = how if run.has_model else ""
        return [f"There is no evaluation: accuracies under attack are missing.{how}"]
    if not worst_cases(run.results, run.balls):
        return [f"No worst case can be told: {why_none(run.results, run.balls)}."]
    return []


def _state(run: Run) -> list[str]:
    """No model, or another version."""
    found = []
    if not run.has_model:
        more = " Its checkpoints are there." if "checkpoints" in run.entries else ""
        found.append(
            "There is no model.keras: image grids, loss surface, features and confusion are "
            f"missing. It is written when the training ends.{more}"
        )
    made_by = run.versions.get("robust_tf")
    if made_by and made_by != __version__:
        found.append(
            f"The run was made by robust_tf {made_by}, this report by {__version__}: fields that "
            "one of them does not know are left out."
        )
    return found
