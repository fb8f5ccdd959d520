"""What is disturbed: a training, an evaluation, an export and a report, each of seconds."""

from __future__ import annotations

import contextlib
import functools
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from robust_tf.attacks import PGD
from robust_tf.cli import evaluate as evaluate_command
from robust_tf.cli import export as export_command
from robust_tf.cli import report as report_command
from robust_tf.evaluation import EvaluationState
from robust_tf.evaluation.loading import load_model
from robust_tf.methods import AdversarialTraining
from robust_tf.models import MLP
from robust_tf.training import Trainer
from tests.training import runs

ATTACKS = "PGD(eps=0.05, step_size=0.02, steps=3); FGSM(eps=0.02)"


def recipe(**changes: Any) -> Any:
    """Adversarial training of a few neurons, with a checkpoint after every second step."""
    attack = PGD(0.02, 0.01, 1)
    method = functools.partial(AdversarialTraining, attack=attack)
    network = functools.partial(MLP, hidden=(4,))
    settings = {"method": method, "network": network, "validation_attack": attack, "epochs": 2}
    settings |= {"evaluation_attacks": {"PGD": attack}, "guard_every": 3, "guard_images": 25}
    return runs.points_recipe(**{**settings, **changes})


def trainer(folder: str, dataset: Any = None, **changes: Any) -> Trainer:
    """Of that recipe."""
    return runs.trainer(folder, recipe(**changes), dataset or runs.moons())


def train(folder: str) -> None:
    """Trains in a folder, or goes on there."""
    with quiet():
        trainer(folder).train()


def evaluated(run: str, output: str) -> None:
    """`bin/evaluate`, with a record that is written after each piece."""
    put = EvaluationState.put

    def put_and_save(self: EvaluationState, key: str, piece: Any) -> None:
        put(self, key, piece)
        self.save()

    EvaluationState.put = put_and_save  # type: ignore[method-assign]
    try:
        arguments = [f"--run_dir={run}", f"--attacks={ATTACKS}", f"--output={output}"]
        with quiet():
            status = evaluate_command.main([*arguments, "--batch_size=16", "--max_examples=64"])
    finally:
        EvaluationState.put = put  # type: ignore[method-assign]
    assert status == 0


def exported(run: str, folder: str) -> None:
    """`bin/export` of a `.keras` file and a SavedModel."""
    with quiet():
        arguments = [f"--run_dir={run}", f"--export_dir={folder}", "--overwrite"]
        assert export_command.main([*arguments, "--formats=keras,saved_model"]) == 0


def reported(run: str, output: str) -> None:
    """`bin/report` on the files of a run."""
    with quiet():
        assert report_command.main([f"--run_dir={run}", f"--output={output}", "--no_model"]) == 0


@contextlib.contextmanager
def quiet() -> Any:
    """What is printed goes nowhere."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            yield


def result_of(path: Path) -> Any:
    """All of a result of `bin/evaluate` but what the clock says."""
    text = re.sub(r'"(seconds|checksum)": [^\n]*', "", path.read_text())
    return re.sub(r'"output": [^\n]*', "", text)


def logits_of(folder: Path) -> tuple[bytes, bytes]:
    """What both files of an export give for one batch of points, to the bit."""
    x = tf.constant(np.linspace(0, 1, 40, dtype=np.float32).reshape(20, 2))
    paths = (folder / "model.keras", folder)
    return tuple(np.asarray(load_model(path)(x)).tobytes() for path in paths)  # type: ignore[return-value]


def page_of(path: Path) -> str:
    """A report but for the time at which, and the place where, it was made."""
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "", path.read_text())
    return text.replace(path.name, "")
