"""Transfer in an evaluation: what its source is, and what it costs there."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from robust_tf import attacks
from robust_tf.evaluation import EvaluationState, evaluate
from tests.tiny import SHAPE, Smooth, tiny_network

PGD = attacks.PGD(eps=0.1, step_size=0.05, steps=3)


@pytest.fixture
def examples(rng):
    images = rng.random((11, *SHAPE)).astype("float32")
    return images, np.argmax(tiny_network()(images), axis=1)


@pytest.mark.parametrize("search", [None, "bfloat16"])
def test_passes_on_the_source_are_counted(examples, search):
    attack = attacks.Transfer(PGD, Smooth())
    settings = {"checks": False, "search_dtype": search, "search_sample": 0, "batch_size": 4}
    (outcome,) = evaluate(tiny_network(), examples, [attack], **settings).outcomes.values()
    assert outcome.forwards == outcome.gradients == 3 * 11


def test_a_record_of_another_source_is_refused(examples, tmp_path):
    path = str(tmp_path / "partial")

    def with_source(source):
        attack = {"transfer": attacks.Transfer(PGD, source)}
        return evaluate(tiny_network(), examples, attack, state=EvaluationState(path), checks=False)

    tiny_network(seed=1).save(tmp_path / "source.keras")
    source, again = (keras.models.load_model(tmp_path / "source.keras") for _ in range(2))
    assert with_source(source).settings["sources"] == with_source(again).settings["sources"]
    source.set_weights([2 * weight for weight in source.get_weights()])
    with pytest.raises(ValueError, match="differs in sources; delete it"):
        with_source(source)


def test_the_source_behind_a_function_is_told_apart(examples):
    def settings(scale):
        attack = {"transfer": attacks.Transfer(PGD, lambda x: scale * Smooth()(x))}
        return evaluate(tiny_network(), examples, attack, checks=False).settings

    assert settings(1)["attacks"] == settings(2)["attacks"]
    assert settings(1)["sources"] == settings(1)["sources"] != settings(2)["sources"]


def test_a_source_that_does_not_take_the_images_is_named(examples):
    kernel = tf.ones([3, 3, 5, 2])
    attack = {"transfer": attacks.Transfer(PGD, lambda x: tf.nn.conv2d(x, kernel, 1, "SAME"))}
    with pytest.raises(ValueError, match="transfer, whose source is meant: the model fails on"):
        evaluate(tiny_network(), examples, attack)
