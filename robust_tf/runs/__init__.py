"""Run folders: what training writes of a run, and the one class that reads it.

    run = robust_tf.runs.read_run("runs/adr_mnist")
    run.label, run.eps, run.data["name"], run.model

Figures, reports, exports and evaluations all read a run through `Run`, so they cannot disagree.
"""

from robust_tf.runs.folder import RunError, is_finished, read_record, read_summary
from robust_tf.runs.loading import behind, load_inference, load_run, read_run, read_runs
from robust_tf.runs.record import RECORD, describe, describe_data, versions
from robust_tf.runs.results import AttackResult, Result
from robust_tf.runs.run import Run
from robust_tf.runs.seeds import by_seed

__all__ = [
    "RECORD",
    "AttackResult",
    "Result",
    "Run",
    "RunError",
    "behind",
    "by_seed",
    "describe",
    "describe_data",
    "is_finished",
    "load_inference",
    "load_run",
    "read_record",
    "read_run",
    "read_runs",
    "read_summary",
    "versions",
]
