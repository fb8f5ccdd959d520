"""XLA: the same step, the faster way kept and recorded, what cannot be compiled told."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from robust_tf import attacks, compat, files, methods, precision
from robust_tf.methods import Execution
from robust_tf.training import xla
from tests.tiny import SHAPE, labelled, tiny_network, weights_of
from tests.training.runs import moons, points_recipe, trainer

NO_STRATEGY = tf.distribute.get_strategy()
X, Y = labelled(11)
# From the clean image and without dropout: XLA draws other numbers from a seed.
FGSM = attacks.FGSM(1.0, norm="L2")


def compiled(network=None, attack=FGSM, **execution):
    network = network or tiny_network(batch_norm=True)
    model = methods.AdversarialTraining(network, attack) if attack else methods.Standard(network)
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    model.compile(optimizer, weight_decay=0.01, seed=3, execution=Execution(**execution))
    return model


def decided(asked, model, earlier=None):
    batch = (tf.constant(X), tf.constant(Y))
    return xla.decide(asked, earlier, model, NO_STRATEGY, lambda: batch)


def test_the_faster_is_kept_and_weights_are_as_before(monkeypatch):
    """Then the step that XLA compiles is that of the plain graph, whole and in parts."""
    seen = []

    def fastest(steps, *_):
        seen.append(list(steps))
        return {"plain": 2.0, "xla": 1.5}

    monkeypatch.setattr(precision, "fastest", fastest)
    model, plain = compiled(), compiled()
    choice = decided("auto", model)
    assert seen == [["plain", "xla"]]
    assert (choice.chosen, choice.factor) == ("on", 0.75)
    assert choice.reason.startswith("measured: a step by XLA takes 0.75 times as long")
    assert model.settings.execution.xla
    for one, other in zip(weights_of(model), weights_of(plain), strict=True):
        np.testing.assert_array_equal(one, other)
    assert int(model.optimizer.iterations) == 0 == int(model.batches)
    for slot in compat.optimizer_variables(model.optimizer)[2:]:
        assert not np.any(compat.raw(slot))
    for one in (model, plain):
        one.fit(X, Y, batch_size=11, shuffle=False, verbose=0)
    for one, other in zip(weights_of(model), weights_of(plain), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=2e-5)
    monkeypatch.setattr(precision, "fastest", lambda *_: {"plain": 1.0, "xla": 3.0})
    again = decided("auto", model, json.loads(json.dumps(choice.to_json())))
    assert again == choice  # of a run that is continued, whatever is faster here


def test_in_parts():
    model = compiled(tiny_network(), None, accumulate=4, xla=True)
    plain = compiled(tiny_network(), None)
    for one in (model, plain):
        one.fit(X, Y, batch_size=11, shuffle=False, verbose=0)
    for one, other in zip(weights_of(model), weights_of(plain), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=2e-5)


@keras.saving.register_keras_serializable("tests")
class Uncompilable(keras.layers.Layer):
    """What XLA has no kernel for."""

    def call(self, x):
        found = tf.strings.length(tf.strings.as_string(x[0, 0, 0, 0]))
        return x + 0.0 * tf.cast(found, x.dtype)


def test_what_cannot_be_compiled_runs_as_it_is():
    network = keras.Sequential(
        [keras.Input(SHAPE), Uncompilable(), keras.layers.Flatten(), keras.layers.Dense(3)]
    )
    model = compiled(network, None)
    with pytest.warns(UserWarning, match="train.xla='on': XLA cannot compile this step: "):
        choice = decided("on", model)
    assert (choice.asked, choice.chosen) == ("on", "off")
    assert "String" in choice.reason and not model.settings.execution.xla
    assert int(model.batches) == 0


def test_a_run_says_which(tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "fastest", lambda *_: {"plain": 1.0, "xla": 2.0})
    what = points_recipe(xla="auto", accumulate=2, epochs=1, evaluation_attacks={})
    run = trainer(tmp_path / "run", what, moons())
    record = files.read_json(tmp_path / "run/run.json")
    assert record["xla"] == run.xla.to_json()
    assert (record["xla"]["asked"], record["xla"]["chosen"]) == ("auto", "off")
    assert record["xla"]["factor"] == 2.0
    settings = record["training"]
    assert (settings["accumulate"], settings["xla"], settings["remat"]) == (2, "auto", False)
    assert run.model.settings.execution == Execution(accumulate=2)


def test_a_record_that_is_none_is_refused():
    sound = xla.Choice("auto", "on").to_json()
    assert xla.keep(sound) == xla.Choice("auto", "on")
    for wrong in ({}, {**sound, "chosen": "fast"}, {"asked": "auto"}):
        with pytest.raises(ValueError, match="is no record of a choice of XLA"):
            xla.keep(wrong)
