"""Models that want other pixels than those in [0, 1]."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from robust_tf import attacks, models
from robust_tf.models import with_input_range
from tests.tiny import CLASSES, SHAPE, images, plain_network, same_bits

L = keras.layers


def core(scale=None):
    """A small network that wants images in [0, 1], or times 1 / `scale`; equal weights."""
    kernel = [keras.initializers.GlorotUniform(seed=k) for k in range(2)]
    return keras.Sequential(
        [
            keras.Input(SHAPE),
            *([] if scale is None else [L.Rescaling(scale)]),
            L.Flatten(),
            L.Dense(16, activation="tanh", kernel_initializer=kernel[0]),
            L.Dense(CLASSES, kernel_initializer=kernel[1]),
        ]
    )


@pytest.mark.parametrize("make", [attacks.PGD, attacks.MIM], ids=["PGD", "MIM"])
def test_the_same_adversarial_images_whatever_the_pixels(make):
    """Steps are taken in units of [0, 1] and go by the sign of the gradient: the same bits.

    Logits are within rounding alone, as x * 255 / 255 is not always x.
    """
    x = images()
    plain, bytes_ = core(), with_input_range(core(1 / 255), 255.0)
    signed = with_input_range(core(0.5), (-1, 1))  # wants (2 x - 1) / 2 ...
    y = np.argmax(plain(x), axis=1)
    np.testing.assert_allclose(bytes_(x), plain(x), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(signed(x), core()(x - 0.5), rtol=1e-5, atol=1e-6)
    attack = make(8 / 255, 2 / 255, 5)
    expected = attack(plain, x, y)
    same_bits(attack(bytes_, x, y), expected)
    same_bits(attack(models.split(bytes_), x, y), expected)
    assert np.abs(expected - x).max() == pytest.approx(8 / 255, abs=1e-6)


@pytest.mark.parametrize(
    "wanted, reference",
    [
        (255.0, lambda x: x * 255),
        ((-1, 1), lambda x: x * 2 - 1),
        ((0, 1), lambda x: x),
        ("tf", lambda x: x * 2 - 1),
        ("torch", lambda x: (x - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]),
        ("caffe", lambda x: x[..., ::-1] * 255 - [103.939, 116.779, 123.68]),
        (
            {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 2)},
            lambda x: (x - [0.1, 0.2, 0.3]) / [0.4, 0.5, 2],
        ),
        ({"std": 0.25, "mean": np.float32(0.5)}, lambda x: (x - 0.5) / 0.25),
        (L.Rescaling(3.0, 1.0), lambda x: 3 * x + 1),
    ],
)
def test_the_pixels_that_a_model_gets(wanted, reference, tmp_path):
    x = np.random.default_rng(0).random((3, 4, 4, 3)).astype("float32")
    flat = keras.Sequential([keras.Input((4, 4, 3)), L.Flatten()])
    model = with_input_range(flat, wanted)
    want = np.reshape(reference(np.float64(x)), (3, -1))
    np.testing.assert_allclose(model(x), want, rtol=1e-5, atol=1e-4)
    model.save(tmp_path / "model.keras")
    same_bits(keras.models.load_model(tmp_path / "model.keras")(x), model(x))


@pytest.mark.parametrize("mode", ["tf", "torch", "caffe"])
def test_modes_are_those_of_keras_applications(mode):
    x = np.random.default_rng(0).random((3, 4, 4, 3)).astype("float32")
    want = keras.applications.imagenet_utils.preprocess_input(255.0 * x, mode=mode)
    flat = keras.Sequential([keras.Input((4, 4, 3)), L.Flatten()])
    got = with_input_range(flat, mode)(x)
    np.testing.assert_allclose(got, want.reshape(3, -1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"mean": 0.5}, "must have 'mean' and 'std', and no more"),
        ({"mean": 0.5, "std": 0}, "must be finite numbers, std > 0"),
        ({"mean": (0.5, 0.5), "std": 1}, "is of 2 channels, the model has 3"),
        ({"mean": (123.7, 116.8, 103.9), "std": 1}, r"is of pixels in \[0, 255\]; divide by 255"),
    ],
)
def test_mean_and_deviation_that_cannot_be(wanted, message):
    flat = keras.Sequential([keras.Input((4, 4, 3)), L.Flatten()])
    with pytest.raises(ValueError, match=message):
        with_input_range(flat, wanted)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.flatten, self.dense = L.Flatten(), L.Dense(3)

    def call(self, x):
        return self.dense(self.flatten(x))


def test_the_kind_stays():
    x = images()
    for model in (core(), plain_network(), models.split(plain_network(), "add")):
        wrapped = with_input_range(model, 255.0)
        assert type(wrapped) is type(model)
        np.testing.assert_allclose(wrapped(x), model(x * 255), rtol=1e-5, atol=1e-4)
        assert {id(v) for v in wrapped.weights} == {id(v) for v in model.weights}
    whole = Subclassed()
    whole(x)
    np.testing.assert_allclose(with_input_range(whole, 255.0)(x), whole(x * 255), rtol=1e-5)
    taken = models.WholeClassifier(whole)
    wrapped = with_input_range(taken, 255.0)
    assert isinstance(wrapped, models.WholeClassifier)
    np.testing.assert_allclose(wrapped(x), taken(x * 255), rtol=1e-5)


def test_pixels_stay_float32_under_mixed_precision(mixed_bfloat16):
    flat = keras.Sequential([keras.Input((2, 2, 1)), L.Flatten(dtype="float32")])
    x = tf.constant([[0.1, 0.123456, 0.7, 0.9]])
    got = with_input_range(flat, 255.0)(tf.reshape(x, (1, 2, 2, 1)))
    np.testing.assert_allclose(got, x * 255, rtol=1e-6)


@pytest.mark.parametrize(
    "wanted, error, message",
    [
        ("imagenet", ValueError, "must be one of"),
        ((1, 0), ValueError, "must be the highest value"),
        (float("nan"), ValueError, "must be the highest value"),
        ("caffe", ValueError, "is of 3 channels, the model has 1"),
        (lambda x: x, TypeError, "is a function.*give a Keras layer"),
    ],
)
def test_what_is_no_range(wanted, error, message):
    with pytest.raises(error, match=message):
        with_input_range(core(), wanted)
    with pytest.raises(ValueError, match="is not built"):
        with_input_range(keras.Sequential([L.Dense(2)]), 255.0)
