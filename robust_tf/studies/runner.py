"""Trains the rows of a study and attacks them, in one process; what is there is not repeated."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from robust_tf import data, evaluation, files, locks
from robust_tf.engines.tasks import TASK
from robust_tf.evaluation import EvaluationState
from robust_tf.evaluation.adaptive import EFFORTS
from robust_tf.inference import ManifoldTransformation
from robust_tf.recipes import LoadedRecipe
from robust_tf.runs import Run, is_finished, load_inference, read_run
from robust_tf.studies import verdicts
from robust_tf.studies.plan import Plan
from robust_tf.studies.study import Row, is_adaptive
from robust_tf.training import run_folder

BATCH = 500  # images attacked at once
# What ends one row and not the study: its data are not there, its loss is not a number, ...
FAULTS = (ValueError, OSError, ArithmeticError, MemoryError, tf.errors.ResourceExhaustedError)


class BusyError(RuntimeError):
    """Another process trains this run."""


def run(
    plan: Plan,
    seeds: Sequence[int],
    rows: Sequence[str] | None = None,
    strategy: tf.distribute.Strategy | None = None,
    say: Callable[[str], None] = print,
    done: Callable[[], Any] = lambda: None,
) -> dict[tuple[str, int], str]:
    """Trains what is missing, continues what was stopped, and evaluates what was not evaluated.

    Args:
      plan: of the study.
      seeds: of the runs; all rows with one seed before the next.
      rows: names; None: all. What they need is trained, too.
      strategy: under which; None: that in force.
      say: told what is done.
      done: called after each row and seed.

    Returns:
      By row and seed, why it could not be done; the others are.
    """
    faults: dict[tuple[str, int], str] = {}
    for seed in seeds:
        for row in plan.study.in_order(rows):
            if seed not in plan.seeds(row, seeds):
                continue
            if fault := run_row(plan, row, seed, strategy, say):
                faults[row.name, seed] = fault
            gc.collect()  # models refer to themselves
            done()
    return faults


def run_row(
    plan: Plan,
    row: Row,
    seed: int,
    strategy: tf.distribute.Strategy | None = None,
    say: Callable[[str], None] = print,
) -> str:
    """As `run`, one row with one seed; why it could not be done, '' if it was.

    What another process works on is left to it.
    """
    try:
        with _claimed(plan, row, seed):
            recipe = plan.recipe(row, seed)
            train(plan, recipe, row, seed, strategy, say)
            evaluate(plan, recipe, row, seed, say)
    except BusyError as error:
        say(f"{row.name}, seed {seed}: {error}")
    except FAULTS as error:
        say(f"{row.name}, seed {seed}: not done: {files.reason(error)}.")
        return files.reason(error)
    return ""


def train(
    plan: Plan,
    recipe: LoadedRecipe,
    row: Row,
    seed: int,
    strategy: tf.distribute.Strategy | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Trains the run of a row to its end, or continues it; nothing where it is finished.

    Raises:
      NonFiniteLossError, RunFolderError, CheckpointError, ConfigurationError: see `Trainer`.
      ValueError: the row that this one is of has no finished run.
    """
    folder = plan.run_dir(row, seed)
    finished = is_finished(folder)
    if row.of:
        if not finished:
            raise ValueError(f"the row {row.of}, whose runs it shows, is not trained")
        return
    if finished:  # its data need not be read to know whose it is
        line, _ = plan.identity(row, seed)
        run_folder.check(folder, f"{line}\n{recipe.text}")
        return
    # Read by the recipe itself, so that the run's files say what data it asked for.
    trainer = recipe.trainer(folder, recipe.data(plan.data_dir), strategy)
    state = "training"
    if trainer.resumed:
        epoch = int(trainer.progress.epoch.numpy())
        state = f"continuing after {epoch} of {recipe.settings.epochs} epochs"
    say(f"{row.name}, seed {seed}: {state} in {folder}")
    trainer.train()


def evaluate(
    plan: Plan,
    recipe: LoadedRecipe,
    row: Row,
    seed: int,
    say: Callable[[str], None] = print,
) -> None:
    """Runs the attacks of the study that a finished run has not seen, and keeps the verdicts there.

    Raises:
      ValueError, FileError: the test images are not those of the run; see `evaluation.evaluate`
        and `runs.load_inference`.
    """
    left = verdicts.missing(plan, row, seed)
    groups: dict[int | None, dict[str, str]] = {}
    for column, text in left.items():
        size = plan.study.examples_of(column, plan.budget)
        groups.setdefault(size, {})[column] = text
    if not groups:
        return
    dataset, network = recipe.data(plan.data_dir), read_run(plan.run_dir(row, seed))
    seen = (network.data.get("splits") or {}).get("test", dataset.test.fingerprint)
    if seen != dataset.test.fingerprint:
        raise ValueError(
            f"the test images of {dataset.name} here are not those of {network.path} (fingerprints "
            f"{dataset.test.fingerprint} and {seen}); give the --data_dir of the run"
        )
    for size, columns in groups.items():
        images = min(size or len(dataset.test), len(dataset.test))
        say(f"{row.name}, seed {seed}: {', '.join(columns)} on {images} test images")
        _evaluate(plan, row, seed, network, dataset, columns, size)


def _evaluate(
    plan: Plan,
    row: Row,
    seed: int,
    run: Run,
    dataset: data.Data,
    columns: dict[str, str],
    size: int | None,
) -> None:
    """One evaluation, written into the folder of the run as `bin/evaluate --output` would."""
    said: dict[str, Any] = {"run_dir": run.path}
    delta = {"delta": run.eps} if run.eps else {}
    defended: Any = load_inference(run, row.inference, **delta) if row.inference else None
    attacks: dict[str, Any] = {}
    marks = {}
    for column, text in columns.items():
        text = plan.runs_of(text, seed)
        own = _adaptive(run, defended, text) if is_adaptive(text) else _attacks(defended, text)
        named = _named(column, own)
        attacks |= named
        marks[column] = verdicts.mark(plan, column, row, seed, list(named))
    if defended is not None:
        said["inference"] = _described(defended, row.inference)
    splits = {"test": dataset.test.fingerprint}
    said["data"] = {"name": dataset.name, "split": "test", "splits": splits}
    path = os.path.join(run.path, f"study_{_digest([row.inference, size, marks])}.json")
    state = EvaluationState(f"{path}.partial", source=run.path)
    result = evaluation.evaluate(
        evaluation.bpda(defended) if defended is not None else run.model,
        dataset.test,
        attacks,
        batch_size=BATCH,
        max_examples=size,
        draw="first",
        seed=verdicts.SEED,
        search_dtype=None if defended is not None else "auto",
        state=state,
    )
    if defended is not None:
        said["columns"] = evaluation.adaptive_summary(result)
    files.write_json(path, {**said, "evaluation": result.to_json(), verdicts.MARK: marks})
    state.close()


def _attacks(defended: ManifoldTransformation | None, text: str) -> dict[str, Any]:
    """The attacks of a text; behind a defense such as do not know of it, as the papers have it."""
    attacks = evaluation.parse_attacks(text)
    return attacks if defended is None else evaluation.oblivious_attacks(defended, attacks)


def _adaptive(run: Run, defended: ManifoldTransformation, text: str) -> dict[str, Any]:
    """Those that know the defense, in the ball of the run's training."""
    if run.eps is None:
        raise ValueError(f"{run.path} names no eps, which the adaptive attacks need")
    effort = EFFORTS[is_adaptive(text)]
    return evaluation.adaptive_attacks(
        defended, run.eps, run.evaluation_step_size, norm=run.threat, **effort
    )


def _named(column: str, attacks: dict[str, Any]) -> dict[str, Any]:
    """Attacks of a column by names that tell it; what they know of a defense comes first."""
    found = {}
    for name, attack in attacks.items():
        known = next((p for p in (evaluation.OBLIVIOUS, evaluation.ADAPTIVE) if p in name), "")
        own = f": {name.removeprefix(known)}" if len(attacks) > 1 else ""
        found[f"{known}{column}{own}"] = attack
    return found


def _described(model: ManifoldTransformation, kind: str) -> dict[str, Any]:
    """The defense as a result file names it."""
    gate = model.gate and list(model.gate)
    gated = model.gate and model.gated_delta
    return {"kind": kind, "delta": model.delta, "gate": gate, "gated_delta": gated}


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]


@contextlib.contextmanager
def _claimed(plan: Plan, row: Row, seed: int) -> Iterator[None]:
    """Keeps other processes from the same run; a process that is gone keeps nobody away.

    Raises:
      BusyError: one that lives has it, or one on another machine.
    """
    path = lock_path(plan, row, seed)
    try:
        tf.io.gfile.makedirs(os.path.dirname(path))
        lock = locks.Lock(path, task=os.environ.get(TASK))
    except locks.LockedError as error:
        raise BusyError(f"left to {error}; delete {path} if that is gone.") from error
    with lock:
        yield


def lock_path(plan: Plan, row: Row, seed: int) -> str:
    """The file that says which process works on a run."""
    return f"{plan.run_dir(row, seed)}.lock"
