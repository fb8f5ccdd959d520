"""Runs of a second or two: a few digits or points, few steps, and ways to look at what came out."""

from __future__ import annotations

import dataclasses
import functools
import glob
import os
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from robust_tf import data, files
from robust_tf.attacks import PGD
from robust_tf.data import Augmentation
from robust_tf.methods import ADR
from robust_tf.models import CNN, MLP
from robust_tf.training import Adam, Recipe, Trainer, piecewise
from tests.tiny import CLASSES, labelled


class Stopped(Exception):
    """Stands for the end of the process."""


NO_STRATEGY = tf.distribute.get_strategy()


def digits(train: int = 60, validation: int = 13, test: int = 16, pad: int = 2) -> data.Data:
    """A few digits, shifted at random in training."""
    whole = data.load("digits")
    return dataclasses.replace(
        whole,
        train=whole.train.take(train),
        validation=whole.validation.take(validation),
        test=whole.test.take(test),
        augmentation=Augmentation(pad=pad),
    )


def moons(train: int = 96, validation: int = 25, test: int = 16) -> data.Data:
    """A few points of two classes."""
    whole = data.load("moons")
    parts = {"train": train, "validation": validation, "test": test}
    return dataclasses.replace(whole, **{k: getattr(whole, k).take(n) for k, n in parts.items()})


def thirds(train: int = 60, validation: int = 13, test: int = 16) -> data.Data:
    """Images for `tiny_network`: three classes, 8x8."""
    splits = [data.Split(*labelled(n, seed)) for seed, n in enumerate((train, validation, test))]
    return data.Data("thirds", *splits, num_classes=CLASSES)


def recipe(**changes: Any) -> Recipe:
    """ADR on a very small CNN: dropout, random starts, Adam's slots, eps warm-up."""
    settings = {
        "network": functools.partial(CNN, filters=2, hidden=8),
        "method": functools.partial(ADR, attack=PGD(0.2, 0.1, 2), preset="code"),
        "optimizer": Adam,
        "schedule": functools.partial(piecewise, boundaries=(1.5,)),
        "learning_rate": 0.01,
        "epochs": 2,
        "batch_size": 10,
        "eps_warmup_epochs": 1.5,
        "validation_attack": PGD(0.2, 0.1, 2),
        "evaluation_attacks": {"PGD": PGD(0.2, 0.1, 2)},
        "steps_per_call": 2,
        "checkpoint_minutes": 0.0,
        "seed": 3,
    }
    return Recipe(**{**settings, **changes})


def points_recipe(**changes: Any) -> Recipe:
    """The same on points, which is faster yet."""
    network = functools.partial(MLP, hidden=(8, 8))
    method = functools.partial(ADR, attack=PGD(0.02, 0.01, 2), preset="code")
    attack = PGD(0.02, 0.01, 2)
    settings = {"network": network, "method": method, "batch_size": 16, "validation_attack": attack}
    settings |= {"evaluation_attacks": {"PGD": attack}, "eps_warmup_epochs": 0.0}
    return recipe(**{**settings, **changes})


def trainer(folder: Any, what: Recipe, dataset: data.Data, **arguments: Any) -> Trainer:
    """A trainer without a strategy unless one is given."""
    arguments = {"strategy": NO_STRATEGY, "configuration": "test", **arguments}
    return Trainer(what, dataset, str(folder), **arguments)


def rows(folder: Any) -> list[dict[str, float]]:
    """metrics.jsonl without the only column that depends on the clock.

    An epoch of which a process took no step has no speed.
    """
    lines = files.read_lines(os.path.join(folder, "metrics.jsonl"))
    for line in lines:
        assert line.pop("images_per_second", 1) > 0
    return lines


def model_weights(folder: Any) -> list[np.ndarray]:
    """Of model.keras."""
    model = keras.models.load_model(os.path.join(folder, "model.keras"), compile=False)
    return model.get_weights()


def checkpoint(folder: Any, which: str) -> dict[str, np.ndarray]:
    """All values of the newest checkpoint, seconds aside."""
    path = tf.train.latest_checkpoint(os.path.join(folder, "checkpoints", which))
    reader = tf.train.load_checkpoint(path)
    names = sorted(n for n in reader.get_variable_to_shape_map() if "OBJECT_GRAPH" not in n)
    # The save counter counts checkpoints written, which a stop may add to.
    return {
        n: reader.get_tensor(n) for n in names if "seconds" not in n and "save_counter" not in n
    }


def events(folder: Any) -> list[tf.compat.v1.Event]:
    """TensorBoard's events, read record by record."""
    files = sorted(glob.glob(os.path.join(folder, "tensorboard", "events*")))
    parse = tf.compat.v1.Event.FromString
    return [parse(record.numpy()) for f in files for record in tf.data.TFRecordDataset(f)]


def assert_same_values(ones: dict[str, np.ndarray], others: dict[str, np.ndarray]) -> None:
    """What two checkpoints hold, to the bit."""
    assert ones.keys() == others.keys()
    for name, value in ones.items():
        np.testing.assert_array_equal(value, others[name], err_msg=name)


def assert_same_run(one: Any, other: Any) -> None:
    """Same metrics, final weights, and best and last checkpoint, to the bit."""
    assert rows(one) == rows(other)
    for a, b in zip(model_weights(one), model_weights(other), strict=True):
        np.testing.assert_array_equal(a, b)
    for which in ("last", "best"):
        assert_same_values(checkpoint(one, which), checkpoint(other, which))
