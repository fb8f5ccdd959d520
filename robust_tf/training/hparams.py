"""What a run was given and what came of it, for TensorBoard, whose HParams tab compares recipes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

Value = bool | float | str


def hparams_of(record: dict[str, Any]) -> dict[str, Value]:
    """The numbers, words and truth values that a run was given, by what they are bound to.

    What is None, a list, or longer than a word is left out. Of a run without gin the settings of
    its recipe are told, as 'train.NAME'.

    Args:
      record: of the run, see `runs.describe`.
    """
    given = record["bindings"] or {f"train.{key}": v for key, v in record["training"].items()}
    values: dict[str, Value] = {"method": record["method"]["name"]}
    for name, value in given.items():
        if isinstance(value, bool) or (isinstance(value, str) and value and " " not in value):
            values[name] = value
        elif isinstance(value, (int, float)):
            values[name] = float(value)
    return values


def write_start(run_dir: str, values: dict[str, Value]) -> None:
    """Tells TensorBoard what the run is given, in a log folder beside its curves.

    A run that is continued says so again; the last word counts.
    """
    from tensorboard.plugins.hparams import api

    with _logging(run_dir):
        api.hparams(values, trial_id=os.path.basename(run_dir.rstrip("/")) or "run")


def write_end(run_dir: str, summary: dict[str, Any]) -> None:
    """Tells what came of it, test accuracies as scalars, and that the run has ended."""
    from tensorboard.plugins.hparams import api_pb2
    from tensorboard.plugins.hparams import summary as sessions

    results = {name: summary.get(name) for name in ("natural_accuracy", "worst_case")}
    results |= summary.get("robust_accuracy", {})
    with _logging(run_dir):
        for name, value in results.items():
            if value is not None:
                tf.summary.scalar(f"test/{name}", value)
        ended = sessions.session_end_pb(api_pb2.STATUS_SUCCESS)
        tf.summary.experimental.write_raw_pb(ended.SerializeToString(), step=0)


@contextlib.contextmanager
def _logging(run_dir: str) -> Iterator[None]:
    """A writer, closed at the end."""
    writer = tf.summary.create_file_writer(os.path.join(run_dir, "tensorboard", "hparams"))
    with writer.as_default(step=0):
        yield
    writer.close()
