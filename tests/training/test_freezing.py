"""Layers that are not trained: their weights and statistics stay, until an epoch or for ever."""

import functools

import keras
import numpy as np
import pytest

from robust_tf.attacks import PGD
from robust_tf.methods import AdversarialTraining
from robust_tf.models import SplitClassifier, split
from robust_tf.training.freezing import Frozen
from robust_tf.training.optimizers import Adam
from robust_tf.training.weight_average import EMA
from tests.training.runs import (
    Stopped,
    assert_same_run,
    recipe,
    thirds,
    trainer,
)


def network(input_shape, num_classes):
    """Keras' own layers, with moving averages before and behind the cut."""
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input(input_shape),
            layers.Conv2D(3, 3, name="first"),
            layers.BatchNormalization(momentum=0.5, name="first_bn"),
            layers.ReLU(),
            layers.Conv2D(4, 3, name="second"),
            layers.BatchNormalization(momentum=0.5, name="second_bn"),
            layers.Flatten(name="flat"),
            layers.Dense(num_classes, name="logits"),
        ]
    )
    return split(model)


def settings(**changes):
    return recipe(
        network=network,
        method=functools.partial(AdversarialTraining, attack=PGD(0.1, 0.05, 1)),
        optimizer=Adam,
        **changes,
    )


def weights(run, name):
    layers = [*run.model.network.generator.layers, *run.model.network.classifier.layers]
    return next(layer for layer in layers if layer.name == name).get_weights()


def moved(run, before):
    """Names of the layers some weight of which is another than before."""
    return [
        name
        for name, values in before.items()
        if any((a != b).any() for a, b in zip(values, weights(run, name), strict=True))
    ]


NAMES = ("first", "first_bn", "second", "second_bn", "logits")


@pytest.mark.parametrize(
    "until, trained",
    {
        "first": ["first_bn", "second", "second_bn", "logits"],
        "first_bn": ["second", "second_bn", "logits"],
        "generator": ["logits"],
    }.items(),
)
def test_what_is_frozen_stays(until, trained, tmp_path):
    """Moving averages as well; the averaged network is of the same layers."""
    run = trainer(tmp_path, settings(frozen=until, epochs=1, weight_average=EMA), thirds())
    before = {name: weights(run, name) for name in NAMES}
    run.train()
    assert moved(run, before) == trained
    saved = keras.models.load_model(tmp_path / "model.keras", compile=False)
    kept = [name for name in NAMES if name not in trained]
    layers = {layer.name: layer for layer in saved.generator.layers}
    for name in kept:
        for a, b in zip(layers[name].get_weights(), before[name], strict=True):
            np.testing.assert_array_equal(a, b)


def test_unfrozen_at_an_epoch_and_continued_to_the_bit(stop_after, tmp_path):
    what = settings(frozen="generator", unfreeze_epoch=1)
    run = trainer(tmp_path / "straight", what, thirds())
    before = {name: weights(run, name) for name in NAMES}
    run._epoch(0, iter(run.batches.of(0, 0, 1)), _Silent())
    assert moved(run, before) == ["logits"]

    whole = trainer(tmp_path / "whole", what, thirds())
    whole.train()
    assert moved(whole, before) == list(NAMES)
    stop_after("advance", 4)  # in the second epoch, of three calls each
    with pytest.raises(Stopped):
        trainer(tmp_path / "again", what, thirds()).train()
    trainer(tmp_path / "again", what, thirds()).train()
    assert_same_run(tmp_path / "whole", tmp_path / "again")


class _Silent:
    def __getattr__(self, name):
        return lambda *args, **kwargs: None


def test_a_layer_that_was_frozen_before_stays_so():
    """Also inside a model inside, whose own flag sets that of its layers."""
    layers = keras.layers
    block = keras.Sequential(
        [keras.Input((8, 8, 3)), layers.Conv2D(3, 3, name="kept"), layers.Conv2D(3, 3, name="on")],
        name="block",
    )
    images = keras.Input((8, 8, 3))
    generator = keras.Model(images, layers.Flatten()(block(images)))
    classifier = keras.Sequential([keras.Input(generator.output_shape[1:]), layers.Dense(3)])
    net = SplitClassifier(generator, classifier)
    block.get_layer("kept").trainable = False
    frozen = Frozen([net], "block")
    assert not generator.trainable_variables and len(net.trainable_variables) == 2
    frozen.turn(on=False)
    assert not block.get_layer("kept").trainable
    assert block.trainable and len(generator.trainable_variables) == 2


@pytest.mark.parametrize(
    "changes, say",
    [
        ({"frozen": "frist"}, "train.frozen='frist': the network has no such layer; did you mean"),
        ({"frozen": "logits"}, "train.frozen='logits': no weight would be left to train"),
        ({"unfreeze_epoch": 1}, "train.unfreeze_epoch=1: nothing is frozen; set train.frozen"),
        ({"frozen": "first", "unfreeze_epoch": 0}, "train\\(unfreeze_epoch=0\\)|unfreeze_epoch"),
    ],
)
def test_refuses(changes, say, tmp_path):
    with pytest.raises(ValueError, match=say):
        trainer(tmp_path, settings(**changes), thirds())
