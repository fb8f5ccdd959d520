"""Networks written in PyTorch, with random weights: their logits and gradients, and files."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
from torch import nn

from robust_tf import data, models
from tests import tiny
from tests import torch_networks as networks
from tests.data.places import published, real_folder

SHAPE, CLASSES = (9, 8, 3), 4


class Mixed(nn.Module):
    """All kinds of layers in a chain, and behind a flatten dropout, batch normalization, dense."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1, bias=False),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Conv2d(6, 6, 3, groups=3, bias=True),
            nn.Conv2d(6, 12, (3, 2), groups=6, bias=False),
            nn.ConvTranspose2d(12, 5, (2, 3), stride=2),
        )
        self.flat = nn.BatchNorm1d(5 * 10 * 11)
        self.fc = nn.Linear(5 * 10 * 11, 7)
        self.last = nn.Linear(7, CLASSES, bias=False)

    def forward(self, x):
        return self.last(torch.tanh(self.fc(self.flat(self.features(x).flatten(1)))))


def mixed_keras(epsilon: float = 1e-5):
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input(SHAPE),
            layers.Conv2D(6, 3, padding="same", use_bias=False),
            layers.BatchNormalization(epsilon=epsilon),
            layers.ReLU(),
            layers.Conv2D(6, 3, groups=3),
            layers.DepthwiseConv2D((3, 2), depth_multiplier=2, use_bias=False),
            layers.Conv2DTranspose(5, (2, 3), strides=2),
            layers.Flatten(),
            layers.BatchNormalization(epsilon=epsilon),
            layers.Dropout(0.5),
            layers.Dense(7, activation="tanh"),
            layers.Dense(CLASSES, use_bias=False),
        ]
    )


def randomized(network: nn.Module) -> nn.Module:
    return networks.randomize(network).eval()


def same_function(network, theirs, shape=SHAPE, batch=3):
    """Logits to 1e-5, and the gradient of the cross-entropy with respect to the image to 1e-4."""
    rng = np.random.default_rng(1)
    x = rng.random((batch, *shape)).astype("float32")
    labels = rng.integers(0, CLASSES, batch)
    images = torch.tensor(x.transpose(0, 3, 1, 2)).requires_grad_()
    wanted = theirs(images)
    nn.functional.cross_entropy(wanted, torch.tensor(labels), reduction="sum").backward()
    gradient = images.grad.numpy().transpose(0, 2, 3, 1)
    here = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(here)
        logits = network(here, training=False)
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    np.testing.assert_allclose(logits, wanted.detach().numpy(), rtol=0, atol=1e-5)
    error = np.abs(tape.gradient(loss, here) - gradient).max()
    assert error < 1e-4 * np.abs(gradient).max()


def test_all_layouts_by_order_and_shapes():
    theirs = randomized(Mixed())
    network = mixed_keras()
    made = models.from_torch(network, theirs.state_dict())
    assert made is network
    assert made.weights_source["program"] == "order and shapes"
    same_function(made, theirs)


def test_all_layouts_back():
    theirs = randomized(Mixed())
    network = models.from_torch(mixed_keras(), theirs.state_dict())
    state = models.to_torch(network)
    # The layers' own names; PyTorch's modules of these shapes, in this order.
    again = dict(zip(theirs.state_dict(), state.values(), strict=True))
    for name, value in theirs.state_dict().items():
        tiny.same_bits(again[name], value.numpy())
    other = Mixed()
    other.load_state_dict({name: torch.from_numpy(value) for name, value in again.items()})
    assert {value.dtype for name, value in again.items() if "num_batches" in name} == {
        np.dtype("int64")
    }


def wide_torch(unused: bool = True) -> nn.Module:
    """With the stage of TRADES' program that is never called, or without."""
    return networks.WideResNet(10, 2, CLASSES, unused=unused)


@pytest.fixture(scope="module")
def wide():
    return randomized(wide_torch())


def wide_keras(**arguments):
    return models.WideResNet(SHAPE, CLASSES, depth=10, width=2, **arguments)


def test_by_name_and_back(wide):
    """A wrapped network, whose unused stage is dropped; cut elsewhere it is the same."""
    state = {f"module.{name}": value for name, value in wide.state_dict().items()}
    network = models.from_torch(wide_keras(cut="stage2"), state)
    same_function(network, wide)
    assert network.weights_source["program"] == "TRADES.WideResNet"
    assert network.weights_source["prefixes"] == ["module"]
    back = {name: torch.from_numpy(one) for name, one in models.to_torch(network).items()}
    other = wide_torch()
    other.load_state_dict(back)
    same_function(network, other.eval())
    without = models.to_torch(network, program="ATLD.WideResNet")
    wide_torch(unused=False).load_state_dict(
        {n: torch.from_numpy(one) for n, one in without.items()}
    )
    with pytest.raises(ValueError, match=r"program='timm'.*'ATLD.WideResNet', 'TRADES.WideResN"):
        models.to_torch(network, program="timm")


def test_of_one_pixel_the_center_of_kernels():
    """ATLD's discriminator: 3x3 kernels there, 1x1 here."""
    theirs = randomized(networks.WideDiscriminator(10, 2, 5))
    network = models.from_torch(
        models.WideDiscriminator(5, 5, depth=10, width=2), theirs.state_dict()
    )
    z = np.random.default_rng(0).normal(size=(4, 5)).astype("float32")
    natural, classes = theirs(torch.tensor(z))
    judged = network(z)
    np.testing.assert_allclose(tf.sigmoid(judged.natural), natural.detach(), atol=1e-5)
    np.testing.assert_allclose(judged.classes, classes.detach(), atol=1e-5)
    kernel = models.to_torch(network)["conv1.weight"]
    assert kernel.shape == (16, 5, 3, 3) and np.count_nonzero(kernel) == 16 * 5
    tiny.same_bits(kernel[:, :, 1, 1], theirs.conv1.weight.detach().numpy()[:, :, 1, 1])


@pytest.mark.parametrize("cut", ["4conv", "3conv"])
def test_flatten_on_either_side_of_the_cut(cut):
    theirs = randomized(networks.SmallCNN(20, CLASSES, (2, 3), 8))
    network = models.CNN((20, 20, 1), CLASSES, filters=(2, 2, 3, 3), hidden=8, cut=cut)
    models.from_torch(network, theirs.state_dict())
    assert network.weights_source["program"] == "TRADES.SmallCNN"
    same_function(network, theirs, (20, 20, 1))
    back = models.to_torch(network)
    for name, value in theirs.state_dict().items():
        tiny.same_bits(back[name], value.numpy())


def test_published_weights():
    """Wong et al. (2020): 98.50 % of the MNIST test images, in the order of the file's layers."""
    layers = keras.layers
    network = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.ZeroPadding2D(1),
            layers.Conv2D(16, 4, 2, activation="relu"),
            layers.ZeroPadding2D(1),
            layers.Conv2D(32, 4, 2, activation="relu"),
            layers.Flatten(),
            layers.Dense(100, activation="relu"),
            layers.Dense(10),
        ]
    )
    path = published("wong2020_fgsm_mnist.pth")
    test = data.load("mnist", data_dir=real_folder("mnist")).test
    network = models.from_torch(models.split(network), path)
    x = np.asarray(test.images, "float32") / 255
    logits = [network(x[begin : begin + 1000]) for begin in range(0, 10_000, 1000)]
    right = np.argmax(np.concatenate(logits), 1) == np.asarray(test.labels)
    assert right.sum() == 9850
    source = network.weights_source
    assert source["file"] == "wong2020_fgsm_mnist.pth"
    assert source["sha256"].startswith("07536ed2")


def test_pixels_that_the_file_stores(wide):
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
    state = {f"1.{name}": value for name, value in wide.state_dict().items()}
    state |= {"0.mean": torch.tensor(mean), "0.std": torch.tensor(std)}
    network = models.from_torch(wide_keras(), state)

    def theirs(x):
        return wide((x - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None])

    same_function(network, theirs)
    pixels = network.weights_source["normalization"]
    np.testing.assert_allclose(pixels["mean"], mean, rtol=1e-6)
    # A network that has them already is not given them twice; one that has others is refused.
    again = models.with_input_range(wide_keras(), {"mean": mean, "std": std})
    same_function(models.from_torch(again, state), theirs)
    other = models.with_input_range(wide_keras(), (-1, 1))
    before = tiny.weights_of(other)
    with pytest.raises(ValueError, match="has the layer 'input_range' for its pixels"):
        models.from_torch(other, state)
    for old, new in zip(before, tiny.weights_of(other), strict=True):
        tiny.same_bits(old, new)
    with pytest.raises(ValueError, match=r"input_range=\(-1, 1\): .* stores a normalization"):
        models.from_torch(wide_keras(), state, input_range=(-1, 1))


def test_pixels_that_the_program_makes(wide, tmp_path):
    """FS and ATLD; the source of the weights is kept in a file of Keras."""
    network = models.from_torch(wide_keras(), wide.state_dict(), input_range=(-1, 1))
    same_function(network, lambda x: wide(2 * x - 1))
    network.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.weights_source == network.weights_source
    assert loaded.weights_source["normalization"] == [-1.0, 1.0]
    json.dumps(loaded.weights_source)
    same_function(loaded, lambda x: wide(2 * x - 1))


def test_source_in_files(tmp_path):
    """Of a whole classifier, of what is made around it, of models without."""
    theirs = randomized(Mixed())
    whole = models.WholeClassifier(mixed_keras())
    assert whole.weights_source is None and "weights_source" not in whole.get_config()
    around = models.with_input_range(models.from_torch(whole, theirs.state_dict()), 255.0)
    around.save(tmp_path / "whole.keras")
    loaded = keras.models.load_model(tmp_path / "whole.keras")
    assert loaded.weights_source == whole.weights_source != None  # noqa: E711
    without = tiny.tiny_network()
    without.save(tmp_path / "without.keras")
    assert keras.models.load_model(tmp_path / "without.keras").weights_source is None
    plain = models.from_torch(mixed_keras(), theirs.state_dict())
    plain.save(tmp_path / "plain.keras")
    same_function(keras.models.load_model(tmp_path / "plain.keras"), theirs)


def test_epsilon_is_told():
    with pytest.warns(UserWarning, match="epsilon=0.001, and 2 of the batch normalizations"):
        models.from_torch(mixed_keras(1e-3), Mixed().state_dict())


def test_what_is_no_network():
    from robust_tf.methods import Standard

    for call in (lambda one: models.from_torch(one, {}), models.to_torch):
        with pytest.raises(TypeError, match="Standard; give its network"):
            call(Standard(tiny.tiny_network()))
        with pytest.raises(TypeError, match="function; give a built Keras model"):
            call(tiny.tiny_network)
