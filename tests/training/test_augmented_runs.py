"""Runs whose images are augmented and mixed: stopped, streamed, shared, recorded, refused."""

import dataclasses
import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from robust_tf import data, files
from robust_tf.attacks import BIM
from robust_tf.methods import MART, AdversarialTraining
from robust_tf.training import make_strategy
from robust_tf.training.optimizers import SGD
from tests.training.runs import (
    Stopped,
    assert_same_run,
    digits,
    model_weights,
    recipe,
    rows,
    trainer,
)

LIST = [data.Augmentation(pad=1), data.Cutout(3), data.CutMix()]


def _images(augmentation):
    return dataclasses.replace(digits(), augmentation=augmentation)


def _streamed(dataset):
    """The same, its training images read one by one."""
    images = tf.constant(dataset.train.images)
    shape, dtype = dataset.image_shape, dataset.train.dtype
    pixels = data.StreamedSplit(
        data.Reader(lambda n: images[n], shape, dtype, str), dataset.train.labels
    )
    return dataclasses.replace(dataset, train=pixels)


def _recipe(**changes):
    method = functools.partial(AdversarialTraining, attack=BIM(0.1, 0.05, 2), clean_weight=0.5)
    return recipe(**{"method": method, "optimizer": SGD, **changes})


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    folder = tmp_path_factory.mktemp("straight")
    trainer(folder, _recipe(), _images(LIST)).train()
    return folder


def test_stopped_and_streamed_continues_to_the_bit(straight, stop_after, tmp_path):
    dataset = _images(LIST)
    stop_after("advance", 2)
    with pytest.raises(Stopped):
        trainer(tmp_path, _recipe(), _streamed(dataset)).train()
    again = trainer(tmp_path, _recipe(), _streamed(dataset))
    assert again.resumed
    again.train()
    assert_same_run(straight, tmp_path)


@pytest.mark.slow  # graphs for two replicas; their batches are compared in tests/data
def test_two_replicas_are_one(tmp_path):
    dataset = _images([data.Cutout(3), data.Mixup(0.5)])
    few = {"network": _linear, "epochs": 1, "validation_attack": None, "evaluation_attacks": ()}
    for name, strategy in (("one", "none"), ("two", "mirrored")):
        run = trainer(tmp_path / name, _recipe(**few), dataset, strategy=make_strategy(strategy))
        run.train()
    for a, b in zip(rows(tmp_path / "one"), rows(tmp_path / "two"), strict=True):
        assert a == pytest.approx(b, abs=1e-4)
    for a, b in zip(model_weights(tmp_path / "one"), model_weights(tmp_path / "two"), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


def _linear(input_shape, num_classes):
    inputs = keras.Input(input_shape)
    return keras.Model(inputs, keras.layers.Dense(num_classes)(keras.layers.Flatten()(inputs)))


def test_run_says_how_its_images_were_augmented(straight):
    told = files.read_json(straight / "run.json")["data"]["augmentation"]
    assert [one["name"] for one in told] == [type(one).__name__ for one in LIST]
    assert told[0]["arguments"] == {"pad": 1, "flip": False}
    assert told[1]["arguments"] == {"size": 3, "fill": 0.0}


def test_a_method_that_takes_ids_is_refused_before_there_is_a_folder(tmp_path):
    method = functools.partial(MART, attack=BIM(0.1, 0.05, 1))
    with pytest.raises(ValueError, match=r"Mixup\(alpha=1.0\) mixes labels, and MART takes"):
        trainer(tmp_path / "run", recipe(method=method), _images(data.Mixup()))
    with pytest.raises(ValueError, match=r"Cutout\(size=99\): must be 1 \.\. "):
        trainer(tmp_path / "run", recipe(), _images(data.Cutout(99)))
    assert not (tmp_path / "run").exists()
