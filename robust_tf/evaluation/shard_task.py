"""What `evaluate_shards` runs in other processes: one shard, or the measurement of 'auto'."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from robust_tf import files, modules, precision
from robust_tf.data import Split
from robust_tf.evaluation.attack_parser import attacks_from_json
from robust_tf.evaluation.evaluator import evaluate
from robust_tf.evaluation.sources import SourceModel
from robust_tf.evaluation.state import EvaluationState
from robust_tf.evaluation_progress import PARTIAL

JOB, IMAGES, MODEL = "job.json", "images.npz", "model.keras"


def main(argv: Sequence[str]) -> int:
    """The exit status, 2 for an error of the user.

    Args:
      argv: 'precision' and OUTPUT; or 'shard' and JOB, IMAGES, MODEL, OUTPUT, INDEX, COUNT.
    """
    warnings.showwarning = _show  # of this process, which does nothing else
    try:
        if argv[0] == "precision":
            files.write_json(argv[1], {"dtype": precision.choose("auto").dtype})
        else:
            job, images, model, output, *shard = argv[1:]
            _evaluate(job, images, model, output, (int(shard[0]), int(shard[1])))
    except KeyboardInterrupt:
        return 130
    except (ValueError, TypeError, OSError, ImportError, MemoryError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _show(message: Warning | str, category: type[Warning], *where: object, **more: object) -> None:
    """One line, as `engines.Ending.remarks` finds it."""
    print(f"{getattr(category, 'kind', 'warning')}: {message}", file=sys.stderr)


def _evaluate(path: str, images: str, model: str, output: str, shard: tuple[int, int]) -> None:
    """One shard of the evaluation that a job describes."""
    job = files.read_json(path)
    for name in job["imports"]:
        modules.load(name)
    state = EvaluationState(output + PARTIAL)
    result = evaluate(
        SourceModel(model).model,
        load_split(images),
        attacks_from_json(job),
        shard=shard,
        state=state,
        progress=False,
        **job["settings"],
    )
    files.write_json(output, {"evaluation": result.to_json()})
    state.close()


def save_split(path: str, split: Split) -> None:
    """Writes all of a split; `load_split` gives it again, with the same fingerprint."""
    content: dict[str, Any] = {"images": split.images, "labels": split.labels}
    if split.origin is not None:
        content |= {"origin": np.array(split.origin[0]), "numbers": split.origin[1]}
    with files.atomic(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **content)


def load_split(path: str) -> Split:
    """Inverse of `save_split`."""
    with np.load(path, allow_pickle=False) as found:
        origin = (str(found["origin"]), found["numbers"]) if "origin" in found else None
        return Split(found["images"], found["labels"], origin)
