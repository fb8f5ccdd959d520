"""A model that wants pixels in another range is told apart from one that has learnt nothing."""

import warnings

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

from robust_tf import attacks
from robust_tf.evaluation import evaluate

PGD = attacks.PGD(0.1, 0.05, 2)


@pytest.fixture(scope="module")
def digits():
    x, y = load_digits(return_X_y=True)
    return (x / 16).astype("float32").reshape(-1, 8, 8, 1), y.astype("int32")


def network(scale=1.0, offset=0.0):
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Rescaling(scale, offset),
            keras.layers.Flatten(),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dense(10),
        ]
    )


def trained(digits, to, *rescaling):
    x, y = digits
    model = network(*rescaling)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss)
    model.fit(to(x), y, batch_size=128, epochs=5, verbose=0)
    return model


@pytest.fixture(scope="module")
def of_255(digits):
    """Trained on 0..255, which it brings to [-1, 1]: of [0, 1] it sees nothing but black."""
    return trained(digits, lambda x: 255 * x, 1 / 127.5, -1.0)


def test_a_model_of_0_to_255_is_told(digits, of_255):
    x, y = digits
    here, there = (
        100 * (np.argmax(of_255(scale * x[:256]), 1) == y[:256]).mean() for scale in (1, 255)
    )
    assert here < 15 and there > 85
    wanted = (
        rf"classifies {here:.1f} % of the images correctly with pixels in \[0, 1\], and "
        rf"{there:.1f} % in \[0, 255\]; .* models\.with_input_range\(model, 255\.0\)\.$"
    )
    with pytest.warns(UserWarning, match=wanted):
        PGD(of_255, x[:400], y[:400])
    for checks in (True, False):
        with pytest.warns(UserWarning, match=wanted):
            result = evaluate(of_255, (x[:400], y[:400]), PGD, checks=checks)
    assert result.natural_accuracy < 0.15
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        PGD(of_255, x[:400], y[:400])  # once


def test_a_model_of_minus_1_to_1_is_told(digits):
    """Its first layer drops what is positive, so that of [0, 1] nothing is left."""
    x, y = digits
    inner = trained(digits, lambda x: x)
    inputs = keras.Input((8, 8, 1))
    model = keras.Model(inputs, inner(keras.layers.ReLU()(-inputs)))
    inverted = 1 - x  # black on white: 2 * inverted - 1 is < 0 where a pixel was bright
    with pytest.warns(UserWarning, match=r"% in \[-1, 1\]; .*with_input_range\(model, \(-1, 1\)\)"):
        PGD(model, inverted[:300], y[:300])


def test_no_warning_where_nothing_was_learnt_or_all_is_well(digits, of_255):
    x, y = digits
    sound = trained(digits, lambda x: x)
    x_adv = attacks.PGD(0.3, 0.05, 20)(sound, x[:300], y[:300])
    assert (np.argmax(sound(x_adv), 1) == y[:300]).mean() < 0.1
    flipped = (y + 1) % 10
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for seed in range(3):
            PGD(network(scale=1 + seed), x[:300], y[:300])
        evaluate(network(), (x[:300], y[:300]), PGD, progress=False)
        PGD(sound, x[:300], y[:300])
        attacks.BIM(0.1, 0.05, 2)(sound, x_adv, y[:300])  # at chance, as it should be
        attacks.PGD(0.1, 0.05, 2, targeted=True)(sound, x[:300], flipped[:300])
        attacks.BIM(0.1, 0.05, 3)(of_255, x[:8], y[:8])  # too few to tell
        one = y == 3  # a network that answers 3 at once is not better
        attacks.BIM(0.1, 0.05, 3)(network(), x[one], y[one])
