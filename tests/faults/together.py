"""One of two workers that train together: what it does, and what it notes of its images."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from robust_tf.cli import train
from robust_tf.training import trainer
from robust_tf.training.reporting import Reporter

EPOCHS, STEPS = 5, 4  # steps of an epoch, each a call of the loop
# Steps that do not depend on the device that an image is on; a checkpoint after each.
BINDINGS = [
    "CNN.filters=2",
    "CNN.hidden=8",
    "CNN.dropout=0.0",
    "train.optimizer=@SGD",
    "train.learning_rate=0.05",
    f"train.epochs={EPOCHS}",
    "train.batch_size=320",
    "train.steps_per_call=1",
    "train.checkpoint_minutes=0.0",
    "train.validation_attack=None",
    "train.evaluation_attacks=[]",
    "train.evaluation_examples=20",
    "train.compare_with=None",
]


def command(folder: str, strategy: str) -> list[str]:
    """Arguments of `bin/train`."""
    words = ["--gin_file=gin/standard_digits.gin", f"--run_dir={folder}", f"--strategy={strategy}"]
    return [*words, *(f"--gin_param={binding}" for binding in BINDINGS)]


def work(
    folder: str, notes: str, hosts: Sequence[str], index: int, strikes: Iterable[tuple[int, int]]
) -> None:
    """`bin/train` as one worker of `hosts`, or alone where there are none.

    Args:
      folder: of the run.
      notes: beginning of the names of files: what it writes, and what it has trained on.
      hosts: 'host:port' of all workers, as this one is to see them.
      index: of this one.
      strikes: (call, number): after so many calls of the loop this process gets a signal; number 0:
        no signal, but a file `NOTES.moment`.
    """
    flags = os.O_CREAT | os.O_APPEND | os.O_WRONLY
    for descriptor in (1, 2):
        os.dup2(os.open(f"{notes}.said{index}", flags, 0o600), descriptor)
    tempfile.tempdir = os.path.dirname(notes)  # such a process leaves what is temporary
    if hosts:
        jobs = {"worker": list(hosts)}
        task = {"type": "worker", "index": index}
        os.environ["TF_CONFIG"] = json.dumps({"cluster": jobs, "task": task})
    _note_images(f"{notes}.images{index}")
    _strike(dict(strikes), f"{notes}.moment")
    sys.exit(train.main(command(folder, "multi_worker" if hosts else "none")))


def _strike(at: dict[int, int], moment: str) -> None:
    original, calls = Reporter.advance, [0]

    def advance(self: Reporter, *arguments: Any) -> None:
        original(self, *arguments)
        calls[0] += 1
        number = at.get(calls[0])
        if number:
            os.kill(os.getpid(), number)
        elif number is not None:
            Path(moment).touch()

    Reporter.advance = advance  # type: ignore[method-assign]


def _note_images(path: str) -> None:
    """Has each batch of training images noted as it is made: its step, and a sum of each image."""
    epochs = trainer.data.epochs

    def noting(split: Any, batch_size: int, count: int, **options: Any) -> tf.data.Dataset:
        start = options.get("first", 0) * STEPS + options.get("skip", 0)

        def note(step: np.ndarray, x: np.ndarray) -> np.ndarray:
            sums = [zlib.crc32(image.tobytes()) for image in x]
            with open(path, "a", encoding="utf-8") as file:
                file.write(json.dumps([int(step), sums]) + "\n")
            return x

        def through(step: tf.Tensor, batch: Any) -> Any:
            x, y = batch
            return tf.ensure_shape(tf.numpy_function(note, [step, x], x.dtype), x.shape), y

        return epochs(split, batch_size, count, **options).enumerate(start).map(through)

    trainer.data.epochs = noting


def images(notes: str, count: int) -> dict[int, set[int]]:
    """The images of each step of which all `count` workers have noted theirs."""
    found: list[dict[int, set[int]]] = []
    for index in range(count):
        own: dict[int, set[int]] = {}
        path = Path(f"{notes}.images{index}")
        for line in path.read_text().splitlines() if path.exists() else ():
            if line.endswith("]]"):  # whole: a killed process may have left a piece
                step, sums = json.loads(line)
                own[step] = set(sums)
        found.append(own)
    steps = set.intersection(*(set(own) for own in found))
    return {step: set.union(*(own[step] for own in found)) for step in steps}
