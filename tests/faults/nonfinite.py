"""Values that are not numbers, in weights and data, and labels that are of no class."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import tensorflow as tf

from robust_tf import compat, data
from robust_tf.attacks import PGD
from robust_tf.data import DataError
from robust_tf.evaluation import evaluate
from robust_tf.training import NonFiniteLossError, Trainer
from robust_tf.training.reporting import Reporter
from tests.faults import jobs
from tests.faults.harness import Count, case
from tests.training import runs as small


@case("not a number", "in a weight, or a slot of the optimizer, at a random step", 2, 20)
def in_weights(place: Path, tries: int, rng: random.Random) -> Count:
    """The training ends, naming the step; all that was saved is finite."""
    count = Count()
    for number in range(tries):
        folder, step = place / f"run{number}", 2 * rng.randrange(0, 6)
        of_optimizer = bool(number % 2)
        with jobs.quiet():
            trainer = jobs.trainer(str(folder))
        advance, calls = Reporter.advance, [0]

        def spoil(
            self: Reporter,
            *about: Any,
            trainer: Trainer = trainer,
            calls: list[int] = calls,
            of_optimizer: bool = of_optimizer,
            advance: Any = advance,
            step: int = step,
        ) -> None:
            advance(self, *about)
            if calls[0] * 2 == step:
                _spoil(trainer, of_optimizer)
            calls[0] += 1

        with mock.patch.object(Reporter, "advance", spoil), jobs.quiet():
            error = _raised(trainer.train)
        what = f"{'slot' if of_optimizer else 'weight'}, call {step // 2}"
        if not isinstance(error, NonFiniteLossError) or "step" not in str(error):
            count.lost.append(f"{what}: {error}")
            continue
        finite = all(
            np.isfinite(value).all()
            for which in ("last", "best", "good")
            if tf.train.latest_checkpoint(str(folder / "checkpoints" / which))
            for value in small.checkpoint(folder, which).values()
            if value.dtype.kind == "f"
        )
        saved = (folder / "model.keras").exists()
        count.check(finite and not saved, "ended, the step named, nothing saved", f"{what}: saved")
    return count


def _spoil(trainer: Trainer, of_optimizer: bool) -> None:
    """Puts what is not a number into the first floating point variable with several values."""
    model = trainer.model
    owners = compat.optimizer_variables(model.optimizer) if of_optimizer else model.network.weights
    variables = [compat.raw(variable) for variable in owners]
    first = next(v for v in variables if v.dtype.is_floating and v.shape.rank)
    first.assign(tf.fill(first.shape, float("nan")))


@case("not a number", "in an image, at any place: arrays and streams", short=4, long=40)
def in_images(place: Path, tries: int, rng: random.Random) -> Count:
    """Refused before any work, the image named by its number."""
    count = Count()
    for number in range(tries):
        images = np.random.default_rng(number).random((300, 4), dtype=np.float32)
        labels = np.arange(300, dtype=np.int32) % 3
        bad = rng.randrange(300)
        images[bad, rng.randrange(4)] = rng.choice([np.nan, np.inf, -0.5, 1.5])
        work: Callable[[], Any]
        if number % 2:
            stream = tf.data.Dataset.from_tensor_slices((images, labels))
            work = lambda stream=stream: evaluate(lambda x: x[:, :3], stream, PGD(0.1, 0.1, 1))  # noqa: E731
        else:
            work = lambda i=images, y=labels: data.Split(i, y)  # noqa: E731
        error = _raised(work)
        right = isinstance(error, (ValueError, DataError)) and f"number {bad}" in str(error)
        count.check(right, "refused, the image named", f"image {bad}: {error}")
    return count


@case("labels", "out of range in the middle of a stream", short=2, long=20)
def labels(place: Path, tries: int, rng: random.Random) -> Count:
    count = Count()
    for number in range(tries):
        images = np.random.default_rng(number).random((300, 4), dtype=np.float32)
        own = np.arange(300, dtype=np.int32) % 3
        bad = rng.randrange(1, 300)
        own[bad] = rng.choice([-1, 3, 7])
        stream = tf.data.Dataset.from_tensor_slices((images, own))
        error = _raised(lambda s=stream: evaluate(lambda x: x[:, :3], s, PGD(0.1, 0.1, 1)))
        right = isinstance(error, (ValueError, DataError)) and f"number {bad}" in str(error)
        count.check(right, "refused, label and image named", f"image {bad}: {error}")
    return count


@case("labels", "that change when a stream is read again", short=1, long=10)
def changing_labels(place: Path, tries: int, rng: random.Random) -> Count:
    count = Count()
    for number in range(tries):
        passes = [0]

        def examples(passes: list[int] = passes, number: int = number) -> Any:
            passes[0] += 1
            draw = np.random.default_rng([number, passes[0]])
            for _ in range(40):
                yield draw.random(4, dtype=np.float32), int(draw.integers(3))

        spec = (tf.TensorSpec((4,), tf.float32), tf.TensorSpec((), tf.int32))
        stream = tf.data.Dataset.from_generator(examples, output_signature=spec)
        error = _raised(lambda s=stream: evaluate(lambda x: x[:, :3], s, PGD(0.1, 0.1, 1)))
        right = isinstance(error, DataError) and "each time" in str(error)
        count.check(right, "refused, and said why", f"{error}")
    return count


def _raised(work: Callable[[], Any]) -> BaseException | None:
    try:
        work()
    except Exception as error:
        return error
    return None
