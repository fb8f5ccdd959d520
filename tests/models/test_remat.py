"""With rematerialization a step is what it is without, computed twice."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from robust_tf import attacks, methods, models
from robust_tf.methods import Execution
from robust_tf.models import remat
from tests.tiny import SHAPE, labelled, plain_network, tiny_network, two_replicas, weights_of

PGD = attacks.PGD(1.0, 0.5, 2, norm="L2", batch_norm="training")


@keras.saving.register_keras_serializable("tests")
class Counted(keras.layers.Layer):
    """Passes its inputs on, and counts how many times."""

    def build(self, shape):
        self.passes = tf.Variable(0, trainable=False)

    def call(self, x):
        self.passes.assign_add(1)
        return tf.identity(x)


def chain(counted=None):
    """Four convolutions, of which two blocks of two can be made, and a head."""
    layers = [keras.Input(SHAPE)]
    for number in range(4):
        kernel = keras.initializers.GlorotUniform(seed=number)
        layers.append(
            keras.layers.Conv2D(4, 3, padding="same", activation="elu", kernel_initializer=kernel)
        )
        layers += [counted] if counted is not None and number == 0 else []
    layers += [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3)]
    return keras.Sequential(layers)


def trained(network, on, method=methods.AdversarialTraining, steps=2, **arguments):
    model = method(network, PGD, **arguments)
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    model.compile(optimizer, weight_decay=0.01, seed=3, execution=Execution(remat=on))
    x, y = labelled(12)
    model.fit(x, y, batch_size=12, epochs=steps, shuffle=False, verbose=0)
    return model


def same(one, other, atol=2e-6):
    for a, b in zip(weights_of(one), weights_of(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=atol)


@pytest.mark.parametrize("build", [plain_network, tiny_network])
def test_the_step_is_the_same(build, tmp_path):
    """With dropout, batch statistics that the attack moves too, and what a file says of it."""
    given = {} if build is plain_network else {"batch_norm": True}
    plain, forgetful = (trained(build(dropout=0.3, **given), on) for on in (False, True))
    same(plain, forgetful)
    forgetful.network.save(tmp_path / "model.keras")
    x, _ = labelled(5)
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(x), forgetful.network(x))
    assert [v.shape for v in loaded.variables] == [v.shape for v in plain.network.variables]


@pytest.mark.parametrize("on", [False, True])
def test_the_inside_is_computed_again(on):
    counted = Counted()
    model = methods.Standard(chain(counted))
    model.compile("sgd", execution=Execution(remat=on))
    x, y = labelled(12)
    step = tf.function(model.train_step)
    step((tf.constant(x), tf.constant(y)))
    counted.passes.assign(0)
    step((tf.constant(x), tf.constant(y)))
    assert int(counted.passes) == (2 if on else 1)


def test_on_two_replicas_in_parts():
    """From the clean images, as replicas draw other starts."""
    attack = attacks.BIM(1.0, 0.5, 2, norm="L2")
    plain = methods.AdversarialTraining(tiny_network(), attack)
    plain.compile(keras.optimizers.SGD(0.1), seed=3)
    with two_replicas().scope():
        shared = methods.AdversarialTraining(tiny_network(), attack)
        execution = Execution(accumulate=2, remat=True)
        shared.compile(keras.optimizers.SGD(0.1), seed=3, execution=execution)
    x, y = labelled(11)
    for model in (plain, shared):
        model.fit(x, y, batch_size=11, shuffle=False, verbose=0)
    same(plain, shared, atol=2e-5)


def test_blocks_are_between_places_that_all_passes():
    """Of a network with skips, one inside another, and one that cannot be cut."""
    network = models.WideResNet((32, 32, 3), 10, depth=16, width=1)
    blocks = remat.blocks_of(network.generator)
    x = tf.random.stateless_uniform([2, 32, 32, 3], [1, 2])
    z = x
    for block in blocks:
        z = block(z)
    np.testing.assert_allclose(z, network.generator(x), rtol=0, atol=1e-5)
    assert 2 < len(blocks) < 12
    inner = chain()
    outer = keras.Sequential([keras.Input(SHAPE), keras.layers.Rescaling(2.0), inner])
    assert len(remat.blocks_of(outer)) == 1 + len(remat.blocks_of(inner)) > 2
    images = keras.Input(SHAPE)
    flat = keras.layers.Flatten()
    joined = keras.layers.Add()([keras.layers.Dense(64)(flat(images)), flat(images)])
    assert len(remat.blocks_of(keras.Model(images, joined))) <= 2


def test_blocks_of_a_chain_are_even():
    """16 layers of one size: kept and inside are least with four blocks of four."""
    images = x = keras.Input((4,))
    for _ in range(16):
        x = keras.layers.Dense(4)(x)
    assert len(remat.blocks_of(keras.Model(images, x))) == 4


def test_what_it_cannot_do_is_said():
    with pytest.raises(ValueError, match="remat=True: GradAlign takes the gradient of a gradient"):
        model = methods.GradAlign(tiny_network(), attacks.FGSM(0.1))
        model.compile("sgd", execution=Execution(remat=True))

    x = keras.layers.Conv2D(4, 3, activity_regularizer="l2")(images := keras.Input(SHAPE))
    x = keras.layers.Flatten()(keras.layers.Conv2D(4, 3)(keras.layers.Conv2D(4, 3)(x)))
    model = methods.Standard(keras.Model(images, keras.layers.Dense(3)(x)))
    model.compile("sgd", execution=Execution(remat=True))
    with pytest.raises(ValueError, match="adds a loss of its outputs"):
        model.train_on_batch(*labelled(12))

    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(3)

        def call(self, x):
            return self.dense(tf.reshape(x, [-1, 64]))

    own = Own()
    own(tf.zeros((1, *SHAPE)))
    model = methods.Standard(models.WholeClassifier(own, SHAPE))
    with pytest.warns(UserWarning, match="remat=True saves nothing"):
        model.compile("sgd", execution=Execution(remat=True))
