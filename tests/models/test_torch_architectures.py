"""The field's architectures: the same function of the same weights as in PyTorch."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from robust_tf import models
from robust_tf.models import forward_mode

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install '.[test]'")
networks = pytest.importorskip("tests.torch_networks")

CIFAR10 = {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2471, 0.2435, 0.2616)}
COLOR, GRAY, LARGE = (16, 16, 3), (18, 18, 1), (40, 40, 3)
NARROW = (8, 8, 12, 16)
DEEPMIND = {"activation": "silu", "padding": "same", "decay": 0.99}

# PyTorch's network, ours, and the pixels that the former makes inside.
CASES = {
    "WRN of TRADES": (
        lambda: networks.WideResNet(16, 2, unused=True),
        lambda: models.WideResNet(COLOR, 10, depth=16, width=2),
        None,
    ),
    "WRN of ATLD": (
        lambda: networks.InRange(networks.WideResNet(10, 1)),
        lambda: models.WideResNet(COLOR, 10, depth=10, width=1),
        (-1, 1),
    ),
    "WRN of Feature Scattering": (
        lambda: torch.nn.DataParallel(networks.InRange(networks.WideResNet(10, 2))),
        lambda: models.WideResNet(COLOR, 10, depth=10, width=2),
        (-1, 1),
    ),
    "WRN of DeepMind": (
        lambda: networks.DeepMindWideResNet(**CIFAR10, depth=16, width=2),
        lambda: models.WideResNet(COLOR, 10, depth=16, width=2, **DEEPMIND),
        CIFAR10,
    ),
    "PreActResNet-18 of Rice": (
        lambda: networks.PreActResNet18(NARROW),
        lambda: models.PreActResNet18(COLOR, 10, widths=NARROW),
        None,
    ),
    "PreActResNet-18 of Wong": (
        lambda: networks.PreActResNet18(NARROW, raw=True, last_bn=False),
        lambda: models.PreActResNet18(COLOR, 10, shortcut="raw", head_bn=False, widths=NARROW),
        None,
    ),
    "PreActResNet-18 of DeepMind": (
        lambda: networks.DeepMindPreActResNet18(**CIFAR10, widths=NARROW),
        lambda: models.PreActResNet18(COLOR, 10, shortcut="raw3x3", widths=NARROW, **DEEPMIND),
        CIFAR10,
    ),
    "ResNet-18 of ST": (
        lambda: networks.ResNet(18, NARROW),
        lambda: models.ResNet18(COLOR, 10, widths=NARROW),
        None,
    ),
    "ResNet-18 of torchvision": (
        lambda: networks.ResNet(18, NARROW, imagenet=True),
        lambda: models.ResNet18(LARGE, 10, stem="imagenet", widths=NARROW),
        None,
    ),
    "ResNet-50 of robustness": (
        lambda: networks.ResNet(50, NARROW),
        lambda: models.ResNet50(COLOR, 10, widths=NARROW),
        None,
    ),
    "ResNet-50 of torchvision": (
        lambda: networks.ResNet(50, NARROW, imagenet=True),
        lambda: models.ResNet50(LARGE, 10, stem="imagenet", widths=NARROW),
        None,
    ),
    "SmallCNN of TRADES": (
        lambda: networks.SmallCNN(GRAY[0], filters=(4, 6), hidden=12),
        lambda: models.CNN(GRAY, 10, filters=(4, 4, 6, 6), hidden=12),
        None,
    ),
    "CNN of Wong": (
        lambda: networks.strided_cnn(GRAY[0], filters=(4, 6), hidden=12),
        lambda: models.StridedCNN(GRAY, 10, filters=(4, 6), hidden=12),
        None,
    ),
}


def pictures(rng, count, shape):
    """Coarse squares and some noise; batches of noise alone are of one image to deep layers."""
    height, width, channels = shape
    coarse = rng.random((count, 4, 4, channels), "float32")
    large = coarse.repeat(-(-height // 4), 1).repeat(-(-width // 4), 2)[:, :height, :width]
    return 0.9 * large + 0.1 * rng.random((count, *shape), "float32")


def compare(theirs, ours, tolerance=1e-5):
    """Logits in both modes of batch normalization, and the gradient of the cross-entropy."""
    rng = np.random.default_rng(0)
    x = pictures(rng, 8, ours.image_shape)
    labels = rng.integers(0, ours.num_classes, len(x))
    differences = {}
    for mode in ("running", "batch"):
        theirs.train(mode == "batch")
        for layer in theirs.modules():
            if isinstance(layer, torch.nn.Dropout):
                layer.eval()
        images = torch.from_numpy(x.transpose(0, 3, 1, 2).copy()).requires_grad_()
        want = theirs(images)
        loss = torch.nn.functional.cross_entropy(want, torch.from_numpy(labels))
        slope = torch.autograd.grad(loss, images)[0].numpy().transpose(0, 2, 3, 1)
        with tf.GradientTape() as tape, forward_mode(batch_norm=mode):
            pixels = tf.constant(x)
            tape.watch(pixels)
            got = ours(pixels)
            loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(labels, got, True))
        gradient = tape.gradient(loss, pixels).numpy()
        want = want.detach().numpy()
        assert 0.02 < want.std() < 10 and np.abs(slope).max() > 0
        differences[mode] = np.abs(got - want).max()
        differences[f"{mode}, gradient"] = np.abs(gradient - slope).max() / np.abs(slope).max()
    print({name: f"{value:.1e}" for name, value in differences.items()})
    assert differences["running"] < tolerance and differences["batch"] < tolerance
    assert max(differences["running, gradient"], differences["batch, gradient"]) < 1e-4
    return differences


@pytest.mark.parametrize("name", CASES)
def test_the_same_function(name):
    make_theirs, make_ours, pixels = CASES[name]
    theirs = networks.randomize(make_theirs())
    state = {key: value.numpy().copy() for key, value in theirs.state_dict().items()}
    ours = models.from_torch(make_ours(), state, input_range=pixels)
    compare(theirs, ours)
    back = models.to_torch(ours)
    prefix = "module." * name.endswith("Scattering") + "basic_net." * (pixels == (-1, 1))
    again = {key: torch.from_numpy(value) for key, value in back.items()}
    make_theirs().load_state_dict({prefix + key: value for key, value in again.items()})
    for key, value in back.items():
        if not key.startswith("sub_block1"):  # never used: copies of another stage
            np.testing.assert_array_equal(value, state[prefix + key], err_msg=key)
