"""Before a run is trained its model is saved and loaded once; what cannot be read back is named."""

import dataclasses
import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from robust_tf import attacks, methods
from robust_tf.training import readback
from tests.tiny import SHAPE
from tests.training.runs import recipe, thirds, trainer

registered = keras.saving.register_keras_serializable("tests_readback")


class Twice(keras.layers.Layer):
    def call(self, x):
        return 2 * x


class WithFactor(keras.layers.Layer):
    """Keeps a factor, and does not say so in its configuration."""

    def __init__(self, factor, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, x):
        return self.factor * x

    def get_config(self):
        return super().get_config()


@registered
class Required(WithFactor):
    pass


@registered
class ByDefault(WithFactor):
    def __init__(self, factor=1.0, **kwargs):
        super().__init__(factor, **kwargs)


@registered
class Wrong(WithFactor):
    def get_config(self):
        return {**super().get_config(), "factor": 1.0}


@registered
class Right(WithFactor):
    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


@registered
class Unsaid(keras.layers.Layer):
    """Takes what Keras cannot write by itself, and has no get_config."""

    def __init__(self, function, **kwargs):
        super().__init__(**kwargs)
        self.function = function

    def call(self, x):
        return self.function(x)


def network(layer):
    images = keras.Input(SHAPE)
    x = keras.layers.Flatten()(layer(images))
    return keras.Model(images, keras.layers.Dense(3)(x))


def double(x):
    return 2 * x


LAYERS = {
    "is not registered with Keras; write @keras.saving.register": lambda: Twice(name="own"),
    "get_config of .* leaves out factor; it must hold every": lambda: Required(2.0, name="own"),
    r"gives other logits.* \(the layer 'own' .*ByDefault\) leaves out factor\)": lambda: ByDefault(
        2.0, name="own"
    ),
    "gives other logits .* get_config of .*Wrong": lambda: Wrong(2.0, name="own"),
    "get_config of .*Unsaid.* (is not written|fails)": lambda: Unsaid(tf.abs, name="own"),
    r"keras.layers.Lambda\) holds a Python function.* write a layer class": lambda: (
        keras.layers.Lambda(lambda x: 2 * x, name="own")
    ),
    "Activation.* has a part that is not registered": lambda: keras.layers.Activation(
        double, name="own"
    ),
}


@pytest.mark.parametrize("message", LAYERS)
def test_the_layer_and_the_way_out_are_named(message):
    model = methods.Standard(network(LAYERS[message]()))
    with pytest.raises(readback.ReadBackError, match=message) as error:
        readback.check(model, SHAPE, {})
    assert "the layer 'own' (" in str(error.value) and "\n" not in str(error.value)
    assert "register_keras_serializable" in str(error.value) or "get_config" in str(error.value)


def test_what_can_be_read_back_passes_and_keeps_its_weights():
    model = methods.Standard(network(Right(2.0)))
    before = [np.array(weight) for weight in model.network.get_weights()]
    readback.check(model, SHAPE, {"validation": attacks.PGD(0.1, 0.1, 1)})
    readback.check(model, SHAPE, {}, spread=True)
    for old, new in zip(before, model.network.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_layer_of_a_script_is_told(monkeypatch):
    monkeypatch.setattr(Right, "__module__", "__main__")
    with pytest.warns(UserWarning, match=r"the layer 'own' \(__main__.Right\) is of a script"):
        readback.check(methods.Standard(network(Right(2.0, name="own"))), SHAPE, {})


@dataclasses.dataclass(frozen=True)
class Still(attacks.Attack):
    """Does nothing, and Keras does not know it."""

    eps: float

    def run(self, network, x, y, seed, budget):
        return x


def test_an_attack_that_no_run_gives_back_is_warned_of(monkeypatch):
    model = methods.Standard(network(Right(2.0)))

    made_again = readback.compat.deserialize

    def unknown(config):
        if "Still" in str(config):
            raise TypeError("could not locate")  # as Keras 3; Keras 2 finds it by its module
        return made_again(config)

    monkeypatch.setattr(readback.compat, "deserialize", unknown)
    with pytest.warns(UserWarning, match=r"the validation attack, .*Still, .*serializable"):
        readback.check(model, SHAPE, {"validation": Still(0.1)})


def test_nothing_is_written_before_it_and_a_continued_run_is_not_asked(tmp_path, monkeypatch):
    lambdas = functools.partial(recipe, method=methods.Standard, validation_attack=None)

    def unread(input_shape, num_classes):
        return network(keras.layers.Lambda(lambda x: 2 * x, name="own"))

    with pytest.raises(readback.ReadBackError, match="'own'"):
        trainer(tmp_path / "run", lambdas(network=unread), thirds())
    assert not (tmp_path / "run").exists()
    plain = lambdas(network=lambda input_shape, num_classes: network(Right(2.0)), epochs=1)
    trainer(tmp_path / "run", plain, thirds()).train()
    monkeypatch.setattr(readback, "check", lambda *args: pytest.fail("asked again"))
    trainer(tmp_path / "run", plain, thirds())
