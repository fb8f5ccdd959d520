"""Keras' own normalization and noise layers, converted in place, against NumPy and plain Keras."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from robust_tf import attacks, compat, methods, models
from robust_tf.models import convert, forward_mode
from robust_tf.training import WeightAverage, WeightPerturbation
from tests.tiny import labelled, plain_network, same_bits, weights_of

L = keras.layers
X = np.random.default_rng(0).normal(2, 3, (6, 5, 4, 3)).astype("float32")


def batch_norm(axis=-1, **arguments):
    layer = L.BatchNormalization(axis=axis, momentum=0.8, epsilon=0.01, **arguments)
    layer.build((None, 5, 4, 3))
    size = X.shape[axis]
    for number, variable in enumerate(layer.weights):
        compat.raw(variable).assign(np.linspace(0.5 + number, 2.0 + number, size))
    return layer


def moving(layer):
    return [np.asarray(v).copy() for v in (layer.moving_mean, layer.moving_variance)]


def normalized(x, layer, mean, variance):
    size = [1, 1, 1, 1]
    size[layer.axis if isinstance(layer.axis, int) else layer.axis[0]] = -1
    gamma = np.asarray(layer.gamma) if layer.scale else np.ones_like(mean)
    mean, variance, gamma, beta = (
        np.reshape(np.float64(v), size) for v in (mean, variance, gamma, np.asarray(layer.beta))
    )
    return (np.float64(x) - mean) / np.sqrt(variance + 0.01) * gamma + beta


@pytest.mark.parametrize("axis", [-1, 1])
@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("mode", ["running", "batch", "training"])
def test_batch_norm_modes(mode, scale, axis):
    plain, layer = batch_norm(axis, scale=scale), convert(batch_norm(axis, scale=scale))
    assert isinstance(layer, L.BatchNormalization) and type(layer) is not L.BatchNormalization
    before = moving(layer)
    with forward_mode(batch_norm=mode):
        got = layer(tf.constant(X), training=False)
    axes = tuple(one for one in range(4) if one != axis % 4)
    statistics = moving(plain) if mode == "running" else (X.mean(axes), X.var(axes))
    np.testing.assert_allclose(got, normalized(X, plain, *statistics), rtol=1e-4, atol=1e-4)
    if mode == "training":
        plain(tf.constant(X), training=True)
        assert np.abs(moving(layer)[0] - before[0]).min() > 0
        np.testing.assert_allclose(moving(layer)[0], 0.8 * before[0] + 0.2 * X.mean(axes), 1e-5)
    for now, want in zip(moving(layer), moving(plain), strict=True):
        same_bits(now, want)


@pytest.mark.parametrize("mode", ["running", "batch", "training"])
def test_frozen_batch_norm_uses_its_moving_averages(mode):
    own = models.BatchNormalization(0.8, 0.01)
    own.build((None, 5, 4, 3))
    for layer in (convert(batch_norm()), own):
        layer.trainable = False
        before = moving(layer)
        expected = layer(tf.constant(X), training=False)
        with forward_mode(batch_norm=mode):
            same_bits(layer(tf.constant(X), training=True), expected)
        same_bits(layer(tf.constant(X), training=True), expected)
        same_bits(moving(layer), before)
        assert not models.conversion.has_batch_norm(layer)


@pytest.mark.parametrize("mode", ["batch", "training"])
def test_an_empty_batch_does_no_harm(mode):
    layer = convert(batch_norm())
    before = moving(layer)
    with forward_mode(batch_norm=mode):
        assert layer(tf.zeros((0, 5, 4, 3))).shape == (0, 5, 4, 3)
    for now, old in zip(moving(layer), before, strict=True):
        np.testing.assert_allclose(now, old, rtol=1e-6)


def noisy(model, seed=(0, 7), x=None):
    x = tf.ones((40, 20, 10, 5)) if x is None else x
    with forward_mode(seed=seed):
        return np.asarray(model(x, training=True))


@pytest.mark.parametrize(
    "make, shape",
    [
        (lambda: L.Dropout(0.3), (40, 20, 10, 5)),
        (lambda: L.Dropout(0.3, noise_shape=(None, 1, 1, 1)), (40, 1, 1, 1)),
        (lambda: L.Dropout(0.3, noise_shape=(None, 20, 1, 5)), (40, 20, 1, 5)),
        (lambda: L.SpatialDropout2D(0.3), (40, 1, 1, 5)),
    ],
    ids=["plain", "drop path", "part", "maps"],
)
def test_dropout(make, shape):
    layer = convert(make())
    outputs = noisy(layer)
    kept = outputs != 0
    np.testing.assert_allclose(outputs[kept], 1 / 0.7, rtol=1e-6)
    positions = tuple(slice(0, size) for size in shape)
    np.testing.assert_array_equal(kept, np.broadcast_to(kept[positions], kept.shape))
    spread = (0.21 / np.prod(shape)) ** 0.5
    assert abs(kept[positions].mean() - 0.7) < 5 * spread
    same_bits(noisy(layer), outputs)
    assert (noisy(layer, (0, 8)) != outputs).any()
    same_bits(layer(tf.ones((2, 3, 4, 5)), training=False), np.ones((2, 3, 4, 5)))
    assert (layer(tf.ones((50, 20, 10, 5)), training=True) == 0).numpy().any()


def test_other_spatial_dropouts():
    for layer, x in (
        (L.SpatialDropout1D(0.5), tf.ones((30, 7, 9))),
        (L.SpatialDropout3D(0.5), tf.ones((30, 3, 2, 2, 9))),
    ):
        outputs = noisy(convert(layer), x=x)
        first = outputs.reshape(30, -1, 9)
        np.testing.assert_array_equal(first, np.broadcast_to(first[:, :1], first.shape))
        assert abs((outputs == 0).mean() - 0.5) < 0.15


@pytest.mark.parametrize(
    "make, mean, deviation",
    [
        (lambda: L.GaussianNoise(0.5), 1.0, 0.5),
        (lambda: L.GaussianDropout(0.2), 1.0, 0.5),
    ],
    ids=["noise", "dropout"],
)
def test_gaussian(make, mean, deviation):
    layer = convert(make())
    outputs = noisy(layer)
    assert outputs.mean() == pytest.approx(mean, abs=0.02)
    assert outputs.std() == pytest.approx(deviation, abs=0.02)
    same_bits(noisy(layer), outputs)


def test_alpha_dropout_keeps_mean_and_deviation():
    layer = convert(L.AlphaDropout(0.2))
    x = np.random.default_rng(0).normal(0, 1, (60, 50, 10, 5)).astype("float32")
    outputs = noisy(layer, x=tf.constant(x))
    assert outputs.mean() == pytest.approx(0, abs=0.02)
    assert outputs.std() == pytest.approx(1, abs=0.02)
    assert len(np.unique(outputs)) < 0.9 * outputs.size  # the saturated value
    same_bits(noisy(layer, x=tf.constant(x)), outputs)


def test_layers_of_one_network_draw_different_masks():
    keras.utils.set_random_seed(0)
    i = keras.Input((64,))
    a, b = L.Dropout(0.5, name="a"), L.Dropout(0.5, name="b")
    c, d = models.Dropout(0.5, name="c"), models.Dropout(0.5, name="d")
    model = convert(keras.Model(i, [layer(i) for layer in (a, b, c, d)]))
    with forward_mode(seed=(1, 2)):
        masks = [np.asarray(one) != 0 for one in model(tf.ones((32, 64)), training=True)]
    for position, mask in enumerate(masks):
        for other in masks[:position]:
            assert 0.4 < (mask == other).mean() < 0.6
    salts = [layer.salt for layer in (a, b, c, d)]
    assert len(set(salts)) == 4
    convert(model)
    assert [layer.salt for layer in (a, b, c, d)] == salts


def test_outputs_weights_and_names_stay(tmp_path):
    model = plain_network(dropout=0.5)
    x, _ = labelled()
    before, weights, names = model(x).numpy(), weights_of(model), [one.name for one in model.layers]
    trained = model.get_weights()
    assert convert(model) is model
    same_bits(model(x), before)
    for old, new in zip(weights, weights_of(model), strict=True):
        same_bits(old, new)
    assert [one.name for one in model.layers] == names and len(trained) == len(model.get_weights())
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    same_bits(again(x), before)
    same_bits(noisy(again, x=x), noisy(model, x=x))
    assert again.get_layer("bn").momentum == model.get_layer("bn").momentum == 0.9


class OwnNormalization(L.BatchNormalization):
    def call(self, inputs, training=None, mask=None):
        return super().call(inputs, training=training, mask=mask)


class OwnDropout(L.Dropout):
    pass


@pytest.mark.parametrize(
    "layer, message",
    [
        (lambda: OwnNormalization(name="own"), "'own', a OwnNormalization, has batch normaliz"),
        (lambda: OwnDropout(0.5, name="own"), "'own', a OwnDropout, draws random numbers"),
        (lambda: L.RandomFlip(name="flip"), "'flip', a RandomFlip, draws random numbers"),
        (lambda: L.BatchNormalization(synchronized=True, name="b"), "has synchronized=True"),
    ],
)
def test_what_cannot_follow_is_refused(layer, message):
    model = keras.Sequential([keras.Input((4, 4, 3)), L.Dropout(0.1, name="kept"), layer()])
    with pytest.raises(ValueError, match=message):
        convert(model)
    assert type(model.get_layer("kept")) is L.Dropout  # nothing is half converted


def test_frozen_normalization_of_another_kind_may_stay():
    layer = OwnNormalization()
    layer.trainable = False
    convert(keras.Sequential([keras.Input((4, 4, 3)), layer]))


@pytest.mark.parametrize("mode", ["batch", "training"])
def test_an_attack_says_where_its_mode_has_no_effect(mode):
    model = plain_network()
    x, y = labelled()
    attack = attacks.PGD(0.1, 0.05, 2, batch_norm=mode)
    with pytest.raises(ValueError, match=f"{mode}'.*PGD.*'bn', a Batch.*models.convert"):
        attack(model, x, y)
    before = moving(model.get_layer("bn"))
    attacks.PGD(0.1, 0.05, 2)(model, x, y)
    same_bits(moving(model.get_layer("bn")), before)
    running = attacks.PGD(0.1, 0.05, 2)(convert(model), x, y)
    assert (attack(model, x, y) != running).numpy().any()
    changed = (moving(model.get_layer("bn"))[0] != before[0]).any()
    assert changed == (mode == "training")
    model.trainable = False  # which is a mode of its own
    same_bits(attack(plain_frozen(), x, y), attacks.PGD(0.1, 0.05, 2)(plain_frozen(), x, y))


def plain_frozen():
    model = plain_network()
    model.trainable = False
    return model


def after_a_step_of_keras(momentum_images):
    """Moving averages of plain Keras after forwards in training mode of these images."""
    model = plain_network()
    for x in momentum_images:
        model(tf.constant(x), training=True)
    return moving(model.get_layer("bn"))


@pytest.mark.parametrize("composed", [False, True], ids=["alone", "AWP and average"])
@pytest.mark.parametrize("method", ["TRADES", "SqueezeTraining"])
def test_moving_averages_move_as_in_plain_keras(method, composed):
    """Attack, collaborative images, and AWP's extra forward leave them alone."""
    x, y = labelled()
    # An attack without steps to speak of, so that plain Keras knows the images: clean, clean.
    eps = 1e-9
    attack = attacks.TRADESAttack(eps, eps, 1, random_start="uniform", batch_norm="batch")
    if method == "SqueezeTraining":
        attack = attacks.SqueezeAttack(eps, eps, 1, "uniform")
    model = getattr(methods, method)(plain_network(), attack)
    extra = {}
    if composed:
        extra = {"weight_perturbation": WeightPerturbation(1e-9), "weight_average": WeightAverage()}
    model.compile(keras.optimizers.SGD(0.0), **extra)
    model.train_on_batch(x, y)
    layer = next(one for one in compat.layers_of(model.network) if one.name == "bn")
    for now, want in zip(moving(layer), after_a_step_of_keras([x, x]), strict=True):
        np.testing.assert_allclose(now, want, rtol=1e-5, atol=1e-7)
    assert (moving(layer)[0] != moving(plain_network().get_layer("bn"))[0]).any()
