import math

import numpy as np
import pytest
import tensorflow as tf

from robust_tf.models import ResNet
from tests.models.reference import Weights, randomize, relu, standardize


def count(model):
    return sum(math.prod(variable.shape) for variable in model.trainable_variables)


def unit_parameters(before, out):
    """Two 3x3 convolutions without bias, scale and offset of two batch normalisations."""
    return 2 * before + 9 * before * out + 2 * out + 9 * out * out


@pytest.mark.parametrize("filters", [(16, 16, 32, 64), (16, 160, 320, 640)])
def test_parameter_count(filters):
    units = 5 if filters[1] == 16 else 1
    model = ResNet((32, 32, 3), 10, filters=filters, units=units)
    stem, a, b, c = filters
    want = 9 * 3 * stem
    for before, out in ((stem, a), (a, b), (b, c)):
        want += unit_parameters(before, out) + (units - 1) * unit_parameters(out, out)
    want += 2 * c + c * 10 + 10
    assert count(model) == want
    if units == 5:
        assert want == 464_154
    assert model.generator.output_shape == (None, c)


def test_shapes_layer_by_layer():
    model = ResNet((32, 32, 3), 10)

    def shape(name):
        return tuple(model.generator.get_layer(name).output.shape[1:])

    assert shape("standardize") == (32, 32, 3)
    assert shape("stem") == (32, 32, 16)
    for stage, side, width in ((1, 32, 16), (2, 16, 32), (3, 8, 64)):
        for unit in range(1, 6):
            for part in ("conv1", "conv2", "add"):
                assert shape(f"stage{stage}_unit{unit}_{part}") == (side, side, width)
    assert shape("stage2_unit1_skip_pool") == (16, 16, 16)
    assert shape("stage2_unit1_skip_pad") == (16, 16, 32)
    assert shape("head_lrelu") == (8, 8, 64)
    assert shape("pool") == (64,)
    names = {layer.name for layer in model.generator.layers}
    assert {name for name in names if "skip" in name} == {
        f"stage{stage}_unit1_skip_{part}" for stage in (2, 3) for part in ("pool", "pad")
    }


@pytest.mark.parametrize("filters", [(4, 4, 8, 16), (4, 8, 8, 12)])
def test_forward_against_numpy(filters, rng):
    units = 2
    model = ResNet((8, 8, 3), 5, filters=filters, units=units)
    randomize(model)
    weights = Weights(model)
    images = rng.uniform(0, 1, (3, 8, 8, 3)).astype("float32")

    def activate(x, name):
        return relu(weights.bn(x, f"{name}_bn", 1e-3), 0.1)

    x = weights.conv(standardize(np.float64(images)), "stem", pad="same")
    for stage, width in enumerate(filters[1:], 1):
        for unit in range(1, units + 1):
            name = f"stage{stage}_unit{unit}"
            stride = 2 if stage > 1 and unit == 1 else 1
            activated = activate(x, f"{name}_1")
            skip = activated if stage == unit == 1 else x
            x = weights.conv(activated, f"{name}_conv1", stride, "same")
            x = weights.conv(activate(x, f"{name}_2"), f"{name}_conv2", 1, "same")
            if stride == 2:
                corners = [skip[:, r::2, c::2] for r in (0, 1) for c in (0, 1)]
                skip = sum(corners) / 4
            side = (width - skip.shape[-1]) // 2
            x = x + np.pad(skip, ((0, 0), (0, 0), (0, 0), (side, side)))
    features = activate(x, "head").mean((1, 2))
    outputs = model.forward(tf.constant(images))
    np.testing.assert_allclose(outputs.features, features, rtol=1e-3, atol=1e-3)
    want = weights.dense(features, "logits")
    np.testing.assert_allclose(outputs.logits, want, rtol=1e-3, atol=1e-3)


def test_initialisers_and_batch_norm_settings():
    model = ResNet((32, 32, 3), 10)
    generator = model.generator
    for name, fan_out in (("stage2_unit1_conv1", 9 * 32), ("stage3_unit5_conv2", 9 * 64)):
        kernel = np.asarray(generator.get_layer(name).kernel)
        assert kernel.std() == pytest.approx(math.sqrt(2 / fan_out), rel=0.05)
        assert generator.get_layer(name).bias is None
    logits = model.classifier.get_layer("logits")
    assert np.abs(logits.kernel).max() == pytest.approx(math.sqrt(3 / 64), rel=0.02)
    assert not np.asarray(logits.bias).any()
    head = generator.get_layer("head_bn")
    assert (head.decay, head.epsilon) == (0.9, 1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_shape": (30, 32, 3)}, r"\(30, 32, 3\).*multiples of 4"),
        ({"input_shape": (2,)}, "height, width, channels"),
        ({"filters": (16, 16, 8, 64)}, "never falling"),
        ({"filters": (16, 17, 32, 64)}, "even"),
        ({"filters": (16,)}, "one stage"),
        ({"units": 0}, "units=0.*1 or more"),
        ({"num_classes": 1}, "num_classes=1"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        ResNet(**{"input_shape": (32, 32, 3), "num_classes": 10, **arguments})
