import math

import numpy as np
import pytest
import tensorflow as tf

from robust_tf.models import ResNet18
from tests.models.reference import Weights, randomize, relu


@pytest.fixture(scope="module")
def model():
    return ResNet18((32, 32, 3), 10)


def test_cut_after_a_stage(model):
    """Another place of z, the same function and order of weights: a run of one starts the other."""
    cut = ResNet18((32, 32, 3), 10, cut="stage2")
    assert cut.generator.output_shape[1:] == (16, 16, 128)
    cut.set_weights(model.get_weights())
    x = np.random.default_rng(0).random((2, 32, 32, 3)).astype("float32")
    np.testing.assert_allclose(cut(x), model(x), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match=r"ResNet18\(cut='stage5'\): must be one of"):
        ResNet18((32, 32, 3), 10, cut="stage5")


def test_parameter_count(model):
    want = 9 * 3 * 64 + 2 * 64  # stem
    for before, out in ((64, 64), (64, 128), (128, 256), (256, 512)):
        want += 9 * before * out + 9 * out * out + 2 * (2 * out)  # first block
        want += 2 * (9 * out * out) + 2 * (2 * out)  # second block
        if before != out:
            want += before * out + 2 * out  # projection
    want += 512 * 10 + 10
    assert want == 11_173_962
    assert sum(math.prod(variable.shape) for variable in model.trainable_variables) == want


def test_shapes_layer_by_layer(model):
    def shape(name):
        return tuple(model.generator.get_layer(name).output.shape[1:])

    assert shape("stem_relu") == (32, 32, 64)
    for stage, side, width in ((1, 32, 64), (2, 16, 128), (3, 8, 256), (4, 4, 512)):
        for block in (1, 2):
            for part in ("1_conv", "1_relu", "2_conv", "add", "2_relu"):
                assert shape(f"stage{stage}_block{block}_{part}") == (side, side, width)
        if stage > 1:
            assert shape(f"stage{stage}_block1_skip_bn") == (side, side, width)
    assert shape("pool") == (512,)
    projections = [layer.name for layer in model.generator.layers if "skip_conv" in layer.name]
    assert projections == [f"stage{stage}_block1_skip_conv" for stage in (2, 3, 4)]


def test_initialisers_are_those_of_pytorch(model):
    for name, fan_in in (("stage2_block1_1_conv", 9 * 64), ("stage4_block1_skip_conv", 256)):
        kernel = np.asarray(model.generator.get_layer(name).kernel)
        assert np.abs(kernel).max() == pytest.approx(1 / math.sqrt(fan_in), rel=0.01)
        assert kernel.std() == pytest.approx(1 / math.sqrt(3 * fan_in), rel=0.02)
        assert model.generator.get_layer(name).bias is None
    logits = model.classifier.get_layer("logits")
    assert np.abs(logits.kernel).max() == pytest.approx(1 / math.sqrt(512), rel=0.01)
    assert 0 < np.abs(logits.bias).max() <= 1 / math.sqrt(512)
    bn = model.generator.get_layer("stage4_block2_2_bn")
    assert (bn.decay, bn.epsilon) == (0.9, 1e-5)


@pytest.mark.parametrize("side", [8, 9])
def test_forward_against_numpy(side, rng):
    """Padding as PyTorch's: one pixel on every side, also where the stride is 2."""
    model = ResNet18((side, side, 1), 4)
    randomize(model)
    weights = Weights(model)
    images = rng.uniform(0, 1, (2, side, side, 1)).astype("float32")

    def conv_bn(x, name, stride=1, pad=1):
        return weights.bn(weights.conv(x, f"{name}_conv", stride, pad), f"{name}_bn", 1e-5)

    x = relu(conv_bn(np.float64(images), "stem"))
    for stage in (1, 2, 3, 4):
        for block in (1, 2):
            name = f"stage{stage}_block{block}"
            stride = 2 if stage > 1 and block == 1 else 1
            skip = conv_bn(x, f"{name}_skip", stride, 0) if stride == 2 else x
            x = conv_bn(relu(conv_bn(x, f"{name}_1", stride)), f"{name}_2")
            x = relu(x + skip)
    features = x.mean((1, 2))
    outputs = model.forward(tf.constant(images))
    np.testing.assert_allclose(outputs.features, features, rtol=1e-3, atol=1e-3)
    want = weights.dense(features, "logits")
    np.testing.assert_allclose(outputs.logits, want, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_shape": (2,)}, "height, width, channels"),
        ({"num_classes": 0}, "num_classes=0"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        ResNet18(**{"input_shape": (32, 32, 3), "num_classes": 10, **arguments})
