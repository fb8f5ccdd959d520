import keras
import numpy as np
import pytest
import tensorflow as tf

from robust_tf import compat
from robust_tf.models import BatchNormalization, Dropout, PerImageStandardization, forward_mode
from tests.models import reference

SHAPES = [(6, 5, 4, 3), (7, 3), (4, 5, 3)]
RANDOM_SCALE = np.float32([0.5, 1.0, 2.0])


def batch_norm(shape, decay=0.8, epsilon=0.01):
    layer = BatchNormalization(decay, epsilon)
    layer.build((None, *shape[1:]))
    values = [RANDOM_SCALE, RANDOM_SCALE - 1, RANDOM_SCALE + 1, RANDOM_SCALE * 3]
    names = ("gamma", "beta", "moving_mean", "moving_variance")
    for name, value in zip(names, values, strict=True):
        getattr(layer, name).assign(value)
    return layer, dict(zip(names, values, strict=True))


def moving(layer):
    return tuple(np.asarray(v).copy() for v in (layer.moving_mean, layer.moving_variance))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("mode", ["running", "batch", "training"])
def test_batch_norm_against_numpy(shape, mode, rng):
    layer, weights = batch_norm(shape)
    x = rng.normal(2, 3, shape).astype("float32")
    axes = tuple(range(len(shape) - 1))
    mean, variance = x.mean(axes), x.var(axes)
    if mode == "running":
        mean, variance = weights["moving_mean"], weights["moving_variance"]
    want = (x - mean) / np.sqrt(variance + 0.01) * weights["gamma"] + weights["beta"]
    with forward_mode(batch_norm=mode):
        got = layer(tf.constant(x))
    np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-5)
    moving_mean, moving_variance = weights["moving_mean"], weights["moving_variance"]
    if mode == "training":
        moving_mean = 0.8 * moving_mean + 0.2 * x.mean(axes)
        moving_variance = 0.8 * moving_variance + 0.2 * x.var(axes, ddof=1)
        np.testing.assert_allclose(moving(layer)[0], moving_mean, rtol=1e-5)
        np.testing.assert_allclose(moving(layer)[1], moving_variance, rtol=1e-5)
    else:
        np.testing.assert_array_equal(moving(layer), (moving_mean, moving_variance))


@pytest.mark.parametrize("mode", ["running", "batch", "training"])
def test_batch_norm_input_gradient_by_finite_differences(mode, rng):
    layer, _ = batch_norm((4, 2, 2, 3))
    x = rng.normal(0, 1, (4, 2, 2, 3)).astype("float32")
    weights = tf.constant(rng.normal(0, 1, x.shape), tf.float32)
    direction = rng.normal(0, 1, x.shape).astype("float32")

    def loss(images):
        with forward_mode(batch_norm=mode):
            return tf.reduce_sum(weights * layer(images) ** 2)

    with tf.GradientTape() as tape:
        images = tf.constant(x)
        tape.watch(images)
        value = loss(images)
    slope = tf.reduce_sum(tape.gradient(value, images) * direction)
    step = 1e-2
    want = (loss(tf.constant(x + step * direction)) - loss(tf.constant(x - step * direction))) / (
        2 * step
    )
    np.testing.assert_allclose(slope, want, rtol=1e-2)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("mode", ["running", "batch"])
def test_batch_norm_keeps_the_static_shape(shape, mode):
    layer, _ = batch_norm(shape)

    @tf.function(input_signature=[tf.TensorSpec((None, *shape[1:]))])
    def shape_of(x):
        with forward_mode(batch_norm=mode):
            outputs = layer(x)
        assert outputs.shape.as_list() == [None, *shape[1:]]
        return tf.shape(outputs)

    assert shape_of(tf.zeros(shape)).numpy().tolist() == list(shape)


def test_training_flag_is_the_mode_outside_of_any_context(rng):
    layer, weights = batch_norm((8, 3))
    x = tf.constant(rng.normal(0, 1, (8, 3)), tf.float32)
    running = layer(x, training=False)
    np.testing.assert_array_equal(moving(layer)[0], weights["moving_mean"])
    training = layer(x, training=True)
    assert np.abs(running - training).max() > 0.1
    assert np.abs(moving(layer)[0] - weights["moving_mean"]).min() > 0
    with forward_mode(batch_norm="running"):  # the context is stronger than the flag
        before = moving(layer)
        layer(x, training=True)
    np.testing.assert_array_equal(moving(layer), before)


def test_batch_norm_weights_and_statistics_stay_float32(mixed_bfloat16, rng):
    layer, _ = batch_norm((64, 4, 4, 3))
    x = rng.normal(5, 1, (64, 4, 4, 3)).astype("float32")
    rounded = tf.cast(x, tf.bfloat16).numpy().astype("float32")
    for mode in ("batch", "training", "running"):
        with forward_mode(batch_norm=mode):
            outputs = layer(tf.constant(x))
        assert outputs.dtype == tf.bfloat16
    want = 0.8 * (RANDOM_SCALE + 1) + 0.2 * rounded.mean((0, 1, 2))
    np.testing.assert_allclose(moving(layer)[0], want, rtol=1e-4)
    with tf.GradientTape() as tape, forward_mode(batch_norm="batch"):
        loss = tf.reduce_sum(tf.cast(layer(tf.constant(x)), tf.float32) ** 2)
    for gradient in tape.gradient(loss, layer.trainable_variables):
        assert gradient.dtype == tf.float32
        assert np.isfinite(gradient).all()


def test_a_single_value_per_channel_does_no_harm():
    """A batch of one point has no unbiased variance; the averages must not become NaN."""
    layer, _ = batch_norm((1, 3))
    outputs = layer(tf.constant([[1.0, 2.0, 3.0]]), training=True)
    np.testing.assert_allclose(outputs, [layer.beta], atol=1e-6)
    assert np.isfinite(moving(layer)).all()


def test_an_empty_batch_does_no_harm():
    """The share of a replica for which a ragged last batch has nothing left."""
    layer, _ = batch_norm((0, 4, 4, 3))
    before = moving(layer)
    with tf.GradientTape() as tape:
        outputs = layer(tf.zeros((0, 4, 4, 3)), training=True)
        loss = tf.reduce_sum(outputs)
    assert outputs.shape == (0, 4, 4, 3)
    np.testing.assert_array_equal(before, moving(layer))
    for gradient in tape.gradient(loss, [compat.raw(layer.gamma), compat.raw(layer.beta)]):
        np.testing.assert_array_equal(gradient, np.zeros(3))


@pytest.mark.parametrize("arguments", [{"decay": 1.0}, {"decay": -0.1}, {"epsilon": 0.0}])
def test_batch_norm_refuses(arguments):
    with pytest.raises(ValueError, match=f"{next(iter(arguments))}=.*must be"):
        BatchNormalization(**arguments)


def test_unknown_mode_is_refused():
    with (
        pytest.raises(ValueError, match="'eval'.*'running', 'batch', 'training'"),
        forward_mode("eval"),
    ):
        pass


def test_dropout_mask_is_a_function_of_the_seed():
    x = tf.ones((50, 40))
    layer, salted = Dropout(0.3), Dropout(0.3, salt=1)

    def masked(seed, dropout=layer):
        with forward_mode(seed=seed):
            return dropout(x, training=True).numpy()

    first = masked((1, 2))
    np.testing.assert_array_equal(first, masked((1, 2)))
    graph = tf.function(lambda: masked_tensor(layer, x, (1, 2)))()
    np.testing.assert_array_equal(first, graph)
    for other in (masked((1, 3)), masked((2, 2)), masked((1, 2), salted)):
        assert (other != first).mean() == pytest.approx(2 * 0.3 * 0.7, abs=0.05)


def masked_tensor(layer, x, seed):
    with forward_mode(seed=seed):
        return layer(x, training=True)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_rate_and_scale(rate):
    x = 3 * np.ones((200, 200), "float32")
    outputs = masked_tensor(Dropout(rate), tf.constant(x), (0, 7)).numpy()
    assert (outputs == 0).mean() == pytest.approx(rate, abs=0.01)
    np.testing.assert_allclose(outputs[outputs != 0], 3 / (1 - rate), rtol=1e-6)


def test_dropout_off():
    x = tf.ones((10, 10))
    np.testing.assert_array_equal(Dropout(0.5)(x, training=False), x)
    np.testing.assert_array_equal(Dropout(0.0)(x, training=True), x)
    without_seed = Dropout(0.5)
    assert (without_seed(x, training=True) != without_seed(x, training=True)).numpy().any()


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_dropout_refuses(rate):
    with pytest.raises(ValueError, match=r"rate=.*must be in \[0, 1\)"):
        Dropout(rate)


def test_per_image_standardization_against_numpy(rng):
    x = rng.uniform(0, 1, (5, 6, 7, 3)).astype("float32")
    x[1] = 0.25  # no deviation at all: the floor divides
    x[2] = 0.5
    x[2, 0, 0, 0] = 0.5004  # a deviation below the floor, in units of 0..255
    got = PerImageStandardization()(tf.constant(x))
    # Of grey images only the rounding error of the mean is left, divided by the floor.
    np.testing.assert_allclose(got, reference.standardize(np.float64(x)), rtol=1e-4, atol=1e-3)
    assert got.dtype == tf.float32


def test_layers_survive_their_configuration():
    for layer in (
        BatchNormalization(0.7, 0.5, name="bn"),
        Dropout(0.25, salt=3, name="drop"),
        PerImageStandardization(1.0, name="std"),
    ):
        config = keras.saving.serialize_keras_object(layer)
        again = keras.saving.deserialize_keras_object(config)
        assert type(again) is type(layer)
        assert again.get_config() == layer.get_config()
