import math

import numpy as np
import pytest
import tensorflow as tf

from robust_tf.models import WideResNet
from tests.models.reference import Weights, randomize, relu


def parameters(depth, width, classes=10, channels=3):
    """By hand: stem; blocks of two 3x3 convolutions and two BNs; 1x1 skips; last BN; dense."""
    total = 9 * channels * 16
    before = 16
    for out in (16 * width, 32 * width, 64 * width):
        if before != out:
            total += before * out
        for _ in range((depth - 4) // 6):
            total += 2 * before + 9 * before * out + 2 * out + 9 * out * out
            before = out
    return total + 2 * before + before * classes + classes


@pytest.mark.parametrize(
    ("depth", "width", "known"), [(28, 10, 36_479_194), (34, 10, 46_160_474), (16, 1, None)]
)
def test_parameter_count_and_features(depth, width, known):
    model = WideResNet((32, 32, 3), 10, depth=depth, width=width)
    got = sum(math.prod(variable.shape) for variable in model.trainable_variables)
    assert got == parameters(depth, width)
    assert known in (None, got)
    assert model.generator.output_shape == (None, 64 * width)


def test_cut_after_a_stage():
    """Another place of z, the same function and order of weights: a run of one starts the other."""
    model = WideResNet((32, 32, 3), 10, depth=16, width=2)
    randomize(model)
    x = np.random.default_rng(0).random((2, 32, 32, 3)).astype("float32")
    for stage, shape in (
        ("stage1", (32, 32, 32)),
        ("stage2", (16, 16, 64)),
        ("stage3", (8, 8, 128)),
    ):
        cut = WideResNet((32, 32, 3), 10, depth=16, width=2, cut=stage)
        assert cut.generator.output_shape[1:] == shape
        assert cut.generator.layers[-1].name == f"{stage}_block2_add"
        cut.set_weights(model.get_weights())
        np.testing.assert_allclose(cut(x), model(x), rtol=1e-4, atol=1e-5)


def test_shapes_layer_by_layer():
    model = WideResNet((32, 32, 3), 10, depth=16, width=2)

    def shape(name):
        return tuple(model.generator.get_layer(name).output.shape[1:])

    assert shape("stem") == (32, 32, 16)
    for stage, side, width in ((1, 32, 32), (2, 16, 64), (3, 8, 128)):
        for block in (1, 2):
            for part in ("conv1", "conv2", "add"):
                assert shape(f"stage{stage}_block{block}_{part}") == (side, side, width)
        assert shape(f"stage{stage}_block1_skip_conv") == (side, side, width)
    assert shape("head_relu") == (8, 8, 128)
    assert shape("pool") == (128,)


@pytest.mark.parametrize(("width", "side"), [(1, 8), (2, 8), (2, 7)])
def test_forward_against_numpy(width, side, rng):
    """With width 1 the first stage keeps 16 channels, and its skip is x itself, not BN ReLU."""
    model = WideResNet((side, side, 3), 5, depth=16, width=width)
    randomize(model)
    weights = Weights(model)
    images = rng.uniform(0, 1, (3, side, side, 3)).astype("float32")

    def activate(x, name):
        return relu(weights.bn(x, f"{name}_bn", 1e-5))

    x = weights.conv(np.float64(images), "stem")
    for stage in (1, 2, 3):
        for block in (1, 2):
            name = f"stage{stage}_block{block}"
            stride = 2 if stage > 1 and block == 1 else 1
            activated, skip = activate(x, f"{name}_1"), x
            if x.shape[-1] != 2 ** (stage + 3) * width:
                skip = weights.conv(activated, f"{name}_skip_conv", stride, 0)
            x = weights.conv(activated, f"{name}_conv1", stride)
            x = weights.conv(activate(x, f"{name}_2"), f"{name}_conv2") + skip
    features = activate(x, "head").mean((1, 2))
    outputs = model.forward(tf.constant(images))
    np.testing.assert_allclose(outputs.features, features, rtol=1e-3, atol=1e-3)
    want = weights.dense(features, "logits")
    np.testing.assert_allclose(outputs.logits, want, rtol=1e-3, atol=1e-3)


def test_initialisers():
    model = WideResNet((32, 32, 3), 10, depth=10, width=2)
    for name, fan_out in (("stage2_block1_conv2", 9 * 64), ("stage3_block1_skip_conv", 128)):
        kernel = np.asarray(model.generator.get_layer(name).kernel)
        assert kernel.std() == pytest.approx(math.sqrt(2 / fan_out), rel=0.05)
    logits = model.classifier.get_layer("logits")
    assert np.abs(logits.kernel).max() == pytest.approx(1 / math.sqrt(128), rel=0.02)
    assert not np.asarray(logits.bias).any()
    bn = model.generator.get_layer("head_bn")
    assert (bn.decay, bn.epsilon) == (0.9, 1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 30}, r"depth=30.*6 \* n \+ 4"),
        ({"depth": 4}, "n >= 1"),
        ({"width": 0}, "width=0.*1 or more"),
        ({"cut": "stage4"}, r"WideResNet\(cut='stage4'\): must be one of"),
        ({"input_shape": (32, 32)}, "channel is missing"),
        ({"num_classes": 1}, "num_classes=1"),
    ],
)
def test_refuses(arguments, message):
    full = {"input_shape": (8, 8, 3), "num_classes": 10, "depth": 10, "width": 1, **arguments}
    with pytest.raises(ValueError, match=message):
        WideResNet(**full)
