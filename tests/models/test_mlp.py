import math

import numpy as np
import pytest
import tensorflow as tf

from robust_tf.models import MLP
from tests.models.reference import Weights, randomize, relu


@pytest.mark.parametrize(
    ("hidden", "parameters"),
    [
        ((2,), (2 * 2 + 2) + (2 * 3 + 3)),
        ((10, 10, 10), (2 * 10 + 10) + 2 * (10 * 10 + 10) + (10 * 3 + 3)),
    ],
)
def test_toys_of_the_paper(hidden, parameters, rng):
    model = MLP(hidden=hidden)
    assert sum(math.prod(variable.shape) for variable in model.trainable_variables) == parameters
    randomize(model)
    weights = Weights(model)
    points = rng.normal(0, 1, (6, 2)).astype("float32")
    z = np.float64(points)
    for index in range(1, len(hidden) + 1):
        z = relu(weights.dense(z, f"fc{index}"))
    outputs = model.forward(tf.constant(points))
    np.testing.assert_allclose(outputs.features, z, rtol=1e-4, atol=1e-5)
    want = weights.dense(z, "logits")
    np.testing.assert_allclose(outputs.logits, want, rtol=1e-4, atol=1e-5)


def test_images_are_flattened():
    model = MLP((8, 8, 1), 10, hidden=(20,))
    assert model.image_shape == (8, 8, 1)
    assert model(tf.zeros((2, 8, 8, 1))).shape == (2, 10)
    assert model.count_params() == 64 * 20 + 20 + 20 * 10 + 10


def test_initialisers():
    model = MLP((100,), 50, hidden=(400,))
    layer = model.generator.get_layer("fc1")
    for values in (layer.kernel, layer.bias):
        assert np.abs(values).max() == pytest.approx(1 / math.sqrt(100), rel=0.03)


@pytest.mark.parametrize("hidden", [(), (3, 0)])
def test_refuses_empty_layers(hidden):
    with pytest.raises(ValueError, match="hidden=.*1 unit or more"):
        MLP(hidden=hidden)
