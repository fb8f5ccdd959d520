import math

import numpy as np
import pytest

from robust_tf.models import CNN

# Features by cut: 28x28 -> valid 3x3 twice -> 24 -> pool 12 -> twice -> 8 -> pool 4.
MNIST_FEATURES = {
    "2conv": (12, 12, 32),
    "3conv": (10, 10, 32),
    "4conv": (4 * 4 * 32,),
    "4conv1fc": (200,),
    "4conv2fc": (200,),
}


def counts(model):
    layers = [*model.generator.layers, *model.classifier.layers]
    return {layer.name: layer.count_params() for layer in layers if layer.count_params()}


@pytest.mark.parametrize("cut", MNIST_FEATURES)
def test_cuts(cut):
    model = CNN((28, 28, 1), 10, cut=cut)
    assert model.generator.output_shape == (None, *MNIST_FEATURES[cut])
    assert model.classifier.output_shape == (None, 10)
    assert counts(model) == {
        "conv1": 3 * 3 * 1 * 32 + 32,
        "conv2": 3 * 3 * 32 * 32 + 32,
        "conv3": 3 * 3 * 32 * 32 + 32,
        "conv4": 3 * 3 * 32 * 32 + 32,
        "fc1": 512 * 200 + 200,
        "fc2": 200 * 200 + 200,
        "logits": 200 * 10 + 10,
    }


@pytest.mark.parametrize(
    ("shape", "filters", "hidden", "features"),
    [
        ((28, 28, 1), (32, 32, 64, 64), 200, 4 * 4 * 64),
        ((32, 32, 3), 64, 256, 5 * 5 * 64),
        ((32, 32, 3), (64, 64, 128, 128), 256, 5 * 5 * 128),
    ],
)
def test_readings_of_the_filters(shape, filters, hidden, features):
    model = CNN(shape, 10, filters=filters, hidden=hidden)
    a, b, c, d = (filters,) * 4 if isinstance(filters, int) else filters
    assert model.generator.output_shape == (None, features)
    assert list(counts(model).values()) == [
        9 * shape[-1] * a + a,
        9 * a * b + b,
        9 * b * c + c,
        9 * c * d + d,
        features * hidden + hidden,
        hidden * hidden + hidden,
        hidden * 10 + 10,
    ]


def test_shapes_layer_by_layer():
    model = CNN((32, 32, 3), 10, filters=(4, 5, 6, 7), hidden=8)
    shapes = {layer.name: tuple(layer.output.shape[1:]) for layer in model.generator.layers}
    assert shapes == {
        "conv1": (30, 30, 4),
        "conv2": (28, 28, 5),
        "pool1": (14, 14, 5),
        "conv3": (12, 12, 6),
        "conv4": (10, 10, 7),
        "pool2": (5, 5, 7),
        "flatten": (5 * 5 * 7,),
    }
    names = [layer.name for layer in model.classifier.layers]
    assert names == ["fc1", "dropout", "fc2", "logits"]
    assert model.classifier.get_layer("dropout").rate == 0.5


def test_initialisers():
    model = CNN((28, 28, 1), 10)
    generator, classifier = model.generator, model.classifier
    for name, fan_in in (("conv2", 9 * 32), ("conv4", 9 * 32)):
        kernel = np.asarray(generator.get_layer(name).kernel)
        assert kernel.std() == pytest.approx(math.sqrt(2 / fan_in), rel=0.05)
        assert np.abs(kernel).max() > 2.5 * kernel.std()  # not truncated
    for name, fan_in in (("fc1", 512), ("fc2", 200)):
        kernel = np.asarray(classifier.get_layer(name).kernel)
        assert np.abs(kernel).max() == pytest.approx(1 / math.sqrt(fan_in), rel=0.01)
        assert kernel.std() == pytest.approx(1 / math.sqrt(3 * fan_in), rel=0.05)
    assert not np.asarray(classifier.get_layer("logits").kernel).any()
    second, third = (np.asarray(generator.get_layer(f"conv{i}").kernel) for i in (2, 3))
    assert (second != third).all()  # no initialiser is shared


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cut": "5conv"}, "cut='5conv'.*2conv.*4conv2fc"),
        ({"filters": (32, 64)}, r"filters=\(32, 64\).*one number or four"),
        ({"filters": 0}, "each >= 1"),
        ({"input_shape": (17, 28, 1)}, "18x18"),
        ({"input_shape": (28, 28)}, r"channel is missing; gray images are \(28, 28, 1\)"),
        ({"input_shape": (2,)}, "MLP"),
        ({"num_classes": 1}, "num_classes=1.*2 or more"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        CNN(**{"input_shape": (28, 28, 1), "num_classes": 10, **arguments})
