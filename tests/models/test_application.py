"""The networks of keras.applications: their pixels, weights and cuts, by Keras' own functions."""

import importlib

import keras
import numpy as np
import pytest

from robust_tf import compat
from robust_tf.models import Application, SplitClassifier
from robust_tf.models.application import applications, family

SMALL = {"alpha": 0.35}
RNG = np.random.default_rng(0)


def base_of(name="MobileNetV2", **arguments):
    """Keras' own, without the last layer."""
    given = {"include_top": False, "weights": None, "input_shape": (32, 32, 3), **arguments}
    return getattr(keras.applications, name)(**given)


def weights_by_name(model):
    return {layer.name: layer.get_weights() for layer in model.layers if layer.weights}


@pytest.fixture(scope="module")
def network():
    return Application((8, 8, 1), 5, size=32, at="block_5_add", arguments=SMALL)


def test_computes_what_keras_does(network):
    """Gray images of 8x8, resized, repeated in three channels, in the range of the family."""
    base = base_of(**SMALL)
    both = {**weights_by_name(network.generator), **weights_by_name(network.classifier)}
    for layer in base.layers:
        if layer.weights:
            layer.set_weights(both[layer.name])
    kernel, bias = RNG.normal(size=(1280, 5)).astype("float32"), np.ones(5, "float32")
    network.classifier.layers[-1].set_weights([kernel, bias])
    x = RNG.random((3, 8, 8, 1), np.float32)
    larger = keras.layers.Resizing(32, 32)(np.repeat(x, 3, axis=-1))
    wanted = keras.applications.mobilenet_v2.preprocess_input(np.array(larger) * 255)
    features = np.array(base(wanted, training=False)).mean((1, 2))
    np.testing.assert_allclose(network(x), features @ kernel + bias, rtol=1e-4, atol=1e-4)


def test_is_cut_where_it_says(network):
    assert isinstance(network, SplitClassifier)
    assert network.image_shape == (8, 8, 1) and network.num_classes == 5
    assert network.generator.layers[-1].name == "block_5_add"
    assert network.generator.output_shape == (None, 4, 4, 16)
    plain = Application((32, 32, 3), 2, arguments=SMALL)
    assert plain.generator.output_shape == (None, 1280)


@pytest.mark.parametrize("name", applications())
def test_the_pixels_of_each_class_are_those_of_its_preprocessing(name):
    """What `preprocess_input` of its module makes of 0..255; identity where it is inside."""
    from robust_tf.models.application import PIXELS
    from robust_tf.models.input_range import input_range

    builder = applications()[name]
    module = importlib.import_module(f"keras.applications.{family(builder)}")
    x = RNG.random((2, 4, 4, 3), np.float32)
    layer = input_range(PIXELS.get(family(builder), 255.0), (4, 4, 3))
    expected = np.array(module.preprocess_input(x * 255))
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5, atol=2e-4)


def test_weights_from_files(tmp_path):
    """Of a network without its last layer, of a whole one, and of another."""
    base, whole = base_of(**SMALL), base_of(include_top=True, classes=1000, **SMALL)
    kept = [(base, "base.weights.h5"), (whole, "whole.weights.h5")]
    if not compat.KERAS_3:  # Keras 3 reads the older format, but does not write it
        kept += [(base, "base.h5"), (whole, "whole.h5")]
    for model, file in kept:
        model.save_weights(tmp_path / file)
        network = Application((32, 32, 3), 4, weights=str(tmp_path / file), arguments=SMALL)
        found, own = weights_by_name(model), weights_by_name(network.generator)
        assert set(own) <= set(found)
        for name, arrays in own.items():
            for a, b in zip(arrays, found[name], strict=True):
                np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="holds weights of MobileNetV2 neither without"):
        Application(
            (32, 32, 3), 4, weights=str(tmp_path / "base.weights.h5"), arguments={"alpha": 0.5}
        )


def test_momentum_is_that_of_every_batch_normalization(network):
    changed = Application((32, 32, 3), 2, momentum=0.9, arguments=SMALL)
    for model, momentum in ((changed, 0.9), (network, 0.999)):
        layers = [*model.generator.layers, *model.classifier.layers]
        found = {one.momentum for one in layers if isinstance(one, keras.layers.BatchNormalization)}
        assert found == {momentum}


@pytest.mark.parametrize(
    "arguments, say",
    [
        (
            {"name": "MobilNetV2"},
            "keras.applications has no such class; did you mean 'MobileNetV2'",
        ),
        ({"weights": "nowhere.h5"}, "weights='nowhere.h5'.*no such file"),
        ({"input_shape": (16, 16, 3)}, "16.*choose size= as large as it says"),
        ({"arguments": {"alfa": 1}}, "MobileNetV2 has no 'alfa' to set, but alpha"),
        ({"arguments": {"weights": None}}, "MobileNetV2 has no 'weights' to set"),
        ({"momentum": 1}, "momentum=1\\): must be"),
        ({"size": 0}, "size=0\\): must be an integer >= 1"),
        ({"input_shape": (32, 32, 4), "weights": "imagenet"}, "RGB, the images have 4"),
        ({"at": "nowhere"}, "nowhere"),
    ],
)
def test_refuses(arguments, say):
    given = {"input_shape": (32, 32, 3), "num_classes": 2, "arguments": SMALL, **arguments}
    with pytest.raises(ValueError, match=say):
        Application(**given)
