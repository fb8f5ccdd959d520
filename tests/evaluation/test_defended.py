"""Models behind transforms and random models, as attacks see them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from robust_tf import attacks
from robust_tf.evaluation.defended import Defended, ExpectationOverTransformation, image_shape_of
from robust_tf.models import forward_mode
from tests import tiny
from tests.evaluation import masked_models

WEIGHTS = np.array([[1.0, -2.0], [3.0, 0.5]], np.float32)
X = np.array([[0.2, 0.9], [0.6, 0.4]], np.float32)


def linear(x):
    return tf.square(x) @ WEIGHTS


def input_gradient(model, x):
    """Of the sum of the first logit."""
    with tf.GradientTape() as tape:
        x = tf.convert_to_tensor(x)
        tape.watch(x)
        value = model(x)[:, 0]
    return tape.gradient(value, x)


@pytest.mark.parametrize("graph", [False, True])
def test_the_transform_is_stepped_over(graph):
    model = Defended(linear, tf.round)
    call, gradient = (lambda x: model(x)), (lambda x: input_gradient(model, x))
    if graph:
        call, gradient = tf.function(call), tf.function(gradient)
    tiny.same_bits(call(tf.constant(X)), linear(tf.round(X)))
    # d (r1^2 * 1 + r2^2 * 3) / dr at r = round(x)
    np.testing.assert_array_equal(gradient(tf.constant(X)), 2 * np.round(X) * [1, 3])


def test_the_transforms_own_gradient_and_a_surrogates():
    def scaled(x):
        return 0.5 * tf.round(2 * x)

    own = input_gradient(Defended(linear, lambda x: x**3, gradient="own"), X)
    np.testing.assert_allclose(own, 2 * X**3 * [1, 3] * 3 * X**2, rtol=1e-5)
    model = Defended(linear, scaled, surrogate=lambda x: 5 * x)
    tiny.same_bits(model(tf.constant(X)), linear(scaled(X)))
    np.testing.assert_allclose(input_gradient(model, X), 5 * 2 * scaled(X) * [1, 3], rtol=1e-6)


def test_a_transform_that_follows_gradients_of_a_network_itself():
    network = tiny.tiny_network()
    x = tf.constant(tiny.images())

    def towards_class_0(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            logit = network(x, training=False)[:, 0]
        return tf.clip_by_value(x + 0.05 * tf.sign(tape.gradient(logit, x)), 0.0, 1.0)

    model = Defended(network, towards_class_0)
    moved = towards_class_0(x)
    gradient = tf.function(lambda x: input_gradient(model, x))(x)
    expected = input_gradient(lambda x: network(x, training=False), moved)
    np.testing.assert_allclose(gradient, expected, atol=1e-6)
    attack = attacks.PGD(0.1, 0.05, 3)
    assert np.isfinite(attack(model, x, np.zeros(len(x), np.int32))).all()


def test_keras_parts_run_as_at_inference_in_the_attacks_mode():
    network = tiny.tiny_network(batch_norm=True, dropout=0.5)
    x = tf.constant(tiny.images())
    for model in (
        Defended(network, keras.layers.Rescaling(1.0)),
        ExpectationOverTransformation(network, 1),
    ):
        logits = network(x, training=False)
        expected = (
            tf.nn.log_softmax(logits)
            if isinstance(model, ExpectationOverTransformation)
            else logits
        )
        np.testing.assert_allclose(model(x), expected, atol=1e-6)
        with forward_mode(batch_norm="batch"):
            assert np.abs(model(x) - expected).max() > 1e-3


def test_the_average_is_that_of_the_probabilities():
    shifts = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)

    class Drawn:
        """Adds the next of four shifts at each call."""

        calls = 0

        def __call__(self, x):
            self.calls += 1
            return tf.cast(linear(x) + shifts[self.calls - 1], tf.float64)

    logits = ExpectationOverTransformation(Drawn(), samples=4)(tf.constant(X))
    draws = [np.asarray(linear(X), np.float64) + shift for shift in shifts]
    expected = np.log(np.mean([np.exp(d) / np.exp(d).sum(1, keepdims=True) for d in draws], 0))
    assert logits.dtype == tf.float32
    np.testing.assert_allclose(logits, expected, rtol=1e-5)


@pytest.mark.parametrize("compiled", [False, True])
def test_draws_inside_a_graph_are_independent(compiled):
    """Of s * x with s = 0 or 2, each with probability 1/2; a global seed is set (conftest)."""

    def random(x):
        coin = 2.0 * tf.cast(tf.random.uniform([tf.shape(x)[0], 1]) < 0.5, tf.float32)
        return coin * tf.stack([x[:, 0], -x[:, 0]], 1)

    x = tf.fill([4000, 1], 0.3)
    model = ExpectationOverTransformation(tf.function(random) if compiled else random, samples=10)
    logits, gradient = tf.function(lambda x: (model(x), input_gradient(model, x)))(x)
    assert logits.shape == (4000, 2)
    sure = 1 / (1 + np.exp(-4 * 0.3))
    p = np.exp(logits[:, 0])
    np.testing.assert_allclose(np.mean(p), (0.5 + sure) / 2, atol=0.005)
    np.testing.assert_allclose(np.std(p), (sure - 0.5) / 2 / np.sqrt(10), rtol=0.1)
    # d log p / dx = (mean of the draws' dp / dx) / p
    np.testing.assert_allclose(
        np.mean(gradient), 2 * sure * (1 - sure) / ((0.5 + sure) / 2), rtol=0.03
    )


def test_an_attack_on_the_average_is_traced_once_for_all_draws():
    traces = []

    def model(x):
        traces.extend([] if tf.executing_eagerly() else [x])
        return linear(x + tf.random.normal(tf.shape(x), stddev=0.01))

    averaged = ExpectationOverTransformation(model, samples=7)
    attack = attacks.PGD(0.1, 0.05, 2)
    for size in (2, 1, 2):
        attack(averaged, X[:size], np.zeros(size, np.int32))
    assert len(traces) < 7  # of the attack and, at each call, to see whether the model has changed


def test_rounding_withstands_an_attack_until_it_is_attacked_through():
    network, (x, y) = masked_models.standard(), masked_models.sample()
    attack = attacks.PGD(0.3, 0.05, 20)

    def accuracy(model):
        hidden = masked_models.rounding(network)
        return np.mean(np.asarray(hidden(attack(model, x, y, seed=1))).argmax(1) == y)

    assert accuracy(masked_models.rounding(network)) > 0.6
    assert accuracy(Defended(network, masked_models.round_off)) < 0.1


def test_image_shapes_are_passed_on():
    network = tiny.tiny_network()
    assert ExpectationOverTransformation(Defended(network, tf.round)).image_shape == tiny.SHAPE
    keras_model = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten()])
    assert image_shape_of(keras_model) == (4, 4, 1)
    assert Defended(keras_model, tf.round).image_shape == (4, 4, 1)
    assert Defended(keras_model, tf.round, gradient="own").image_shape is None  # it may resize
    assert ExpectationOverTransformation(linear).image_shape is None


def test_what_is_refused():
    with pytest.raises(ValueError, match="gradient='magic'"):
        Defended(linear, tf.round, gradient="magic")
    with pytest.raises(ValueError, match="choose one"):
        Defended(linear, tf.round, gradient="own", surrogate=tf.identity)
    with pytest.raises(ValueError, match="give a surrogate of the transform's shape"):
        Defended(linear, lambda x: x[:, :1])(tf.constant(X))
    for samples in (0, 2.0, True):
        with pytest.raises(ValueError, match="samples="):
            ExpectationOverTransformation(linear, samples)
