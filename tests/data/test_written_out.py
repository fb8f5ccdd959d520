"""MNIST and CIFAR-10 as folders of PNG files: the arrays and the runs of tfds' own."""

import dataclasses
import functools

import numpy as np
import pytest

from robust_tf import data
from robust_tf.models import CNN
from tests.data import pictures
from tests.data.places import real_folder
from tests.training.runs import model_weights, recipe, trainer

SIZES = {"train": 80, "validation": 20, "test": 30}


@pytest.fixture(params=["mnist", "cifar10"])
def both(request, tmp_path):
    """The first images of each split as tfds gives them, and the same written out."""
    whole = data.load(request.param, data_dir=real_folder(request.param))
    parts = {name: getattr(whole, name).take(count) for name, count in SIZES.items()}
    for name, split in parts.items():
        folder = {"validation": "val"}.get(name, name)
        for number, (image, label) in enumerate(zip(split.images, split.labels, strict=True)):
            path = tmp_path / "written" / folder / str(label) / f"{number:05d}.png"
            pictures.write(path, pictures.png(image))
    augmentation = data.Augmentation(pad=2, flip=True)
    own = dataclasses.replace(whole, **parts, augmentation=augmentation)
    source = data.ImageFolder(str(tmp_path / "written"))
    found = [
        data.load(source=source, in_memory=in_memory, augmentation=augmentation)
        for in_memory in (True, False)
    ]
    return own, *found


def test_same_arrays(both):
    own, held, read = both
    for found in (held, read):
        assert found.image_shape == own.image_shape and found.num_classes == 10
        for name in SIZES:
            mine, theirs = getattr(own, name), getattr(found, name)
            np.testing.assert_array_equal(mine.images, theirs.images)
            np.testing.assert_array_equal(mine.labels, theirs.labels)
    assert held.fingerprint() == read.fingerprint()


def test_same_runs(both, tmp_path):
    weights = {}
    small = functools.partial(CNN, filters=2, hidden=8)
    for name, dataset in {"own": both[0], "read": both[2]}.items():
        settings = recipe(network=small, epochs=1, batch_size=40)
        trainer(tmp_path / name, settings, dataset).train()
        weights[name] = model_weights(tmp_path / name)
    for mine, theirs in zip(weights["own"], weights["read"], strict=True):
        np.testing.assert_array_equal(mine, theirs)
