"""tensorflow-addons, on its stack, as independent reference: triplet losses and averages."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from robust_tf import compat, losses, methods, training
from tests.tiny import labelled, tiny_network, weights_of

if compat.KERAS_3:
    pytest.skip("tensorflow-addons is on the other stack", allow_module_level=True)
addons = pytest.importorskip("tensorflow_addons")
X, Y = labelled()


@pytest.mark.parametrize("name", ["triplet_hard_loss", "triplet_semihard_loss"])
@pytest.mark.parametrize("margin", [0.03, 0.6])
def test_cosine_triplets(name, margin):
    """With two examples of each class in directions of their own, both find the same triplets.

    The positive is the only other one of the class. Cosines are positive, so that 1 - |cos| is the
    angular distance; every negative is further away than the positive, so that the nearest one is
    also the nearest that semi-hard mining takes.
    """
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(5), 2).astype("int32")
    z = (np.eye(5)[y] + 0.25 * rng.random((10, 5))).astype("float32")
    row, has_negative = losses.hardest_negative(z, y, z, y)
    positives, has_positive = losses.other_positive(y, y, tf.constant([1, 2]))
    np.testing.assert_array_equal(positives, np.arange(10) ^ 1)
    assert np.all(has_negative) and np.all(has_positive)
    ours = losses.cosine_triplet(z, tf.gather(z, positives), tf.gather(z, row), margin)
    theirs = getattr(addons.losses, name)(y, z, margin=margin, distance_metric="angular")
    assert (float(theirs) > 0) == (margin == 0.6)
    np.testing.assert_allclose(np.mean(ours), theirs, rtol=1e-5, atol=1e-7)


def averaged(wrapper, average, steps):
    """Weights averaged by an optimiser of tensorflow-addons, and by ours."""
    sgd = keras.optimizers.legacy.SGD(0.1)
    theirs, ours = methods.Standard(tiny_network()), methods.Standard(tiny_network())
    theirs.compile(wrapper(sgd), run_eagerly=True)
    ours.compile(keras.optimizers.SGD(0.1), weight_average=average, run_eagerly=True)
    for model in (theirs, ours):
        model.fit(X, Y, batch_size=12, epochs=steps, shuffle=False, verbose=0)
    theirs.optimizer.assign_average_vars(theirs.network.trainable_variables)
    assert any(
        (a != b).any() for a, b in zip(weights_of(ours.network), weights_of(theirs), strict=True)
    )
    return weights_of(theirs), weights_of(ours.averaged)


def test_swa():
    """Theirs has its first snapshot in step `start_averaging`, counted from 0; ours after it."""
    swa = addons.optimizers.SWA
    for theirs, ours in zip(
        *averaged(
            lambda sgd: swa(sgd, start_averaging=2, average_period=3),
            training.WeightAverage(None, from_step=0, every=3),
            steps=10,
        ),
        strict=True,
    ):
        np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-6)


def test_moving_average():
    """Theirs, too, begins at the weights of the beginning."""
    wrapper = addons.optimizers.MovingAverage
    for theirs, ours in zip(
        *averaged(
            lambda sgd: wrapper(sgd, average_decay=0.8), training.WeightAverage(0.8), steps=6
        ),
        strict=True,
    ):
        np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-6)
