"""Checkpoints that do not fit, by names and by shapes: clear errors, and nothing is changed."""

import re

import keras
import numpy as np
import pytest
import safetensors.numpy

from robust_tf import models
from robust_tf.models.torch_names import TABLES
from tests import tiny

L = keras.layers


@pytest.fixture(scope="module")
def wide():
    """A network that tables name, and its state dict."""
    network = models.WideResNet((8, 8, 3), 4, depth=10, width=1)
    return network, models.to_torch(network, "ATLD.WideResNet")


@pytest.fixture(scope="module")
def chain():
    """A network that none names, and its state dict."""
    layers = [L.Conv2D(4, 3, name="a"), L.BatchNormalization(epsilon=1e-5, name="b"), L.Flatten()]
    network = keras.Sequential([keras.Input((8, 8, 1)), *layers, L.Dense(3, name="c")])
    state = models.to_torch(network)
    return network, {f"their_{name}": value for name, value in state.items()}


def refused(network, state, message, **arguments):
    """The error's sentence, after it was seen that no weight has changed."""
    before = tiny.weights_of(network)
    with pytest.raises(ValueError) as caught:
        models.from_torch(network, state, **arguments)
    for old, new in zip(before, tiny.weights_of(network), strict=True):
        tiny.same_bits(old, new)
    assert re.search(message, str(caught.value)), str(caught.value)


def without(state, *names):
    return {name: value + 1 for name, value in state.items() if not name.startswith(names)}


def test_by_name(wide):
    network, state = wide
    other = without(state)
    refused(
        network,
        other | {"block2.layer.0.conv1.weight": np.zeros((32, 16, 1, 1))},
        r"block2.layer.0.conv1.weight is \(32, 16, 1, 1\), and the layer 'stage2_block1_conv1' "
        r"takes \(32, 16, 3, 3\) \(in Keras \(3, 3, 16, 32\)\)",
    )
    refused(
        network,
        without(state, "block3.layer.0.conv2", "fc.bias"),
        r"lacks block3.layer.0.conv2.weight \(layer 'stage3_block1_conv2'\), fc.bias \(layer 'log",
    )
    deeper = {"block1.layer.1.conv1.weight": np.zeros((16, 16, 3, 3)), "fc2.bias": np.zeros(4)}
    refused(network, other | deeper, "it has block1.layer.1.conv1.weight, fc2.bias, for which")
    refused(network, other | {"fc.scale": np.zeros(4)}, "it has fc.scale, for which there is no")


def test_by_shapes(chain):
    network, state = chain
    other = without(state)
    refused(
        network,
        other | {"their_c.weight": np.zeros((3, 100))},
        r"it has their_c weight \(3, 100\), bias \(3,\), for which there is no layer; it has "
        r"nothing for c weight \(3, 144\), bias \(3,\)",
    )
    refused(
        network, without(state, "their_b."), r"2 layers .* against 3; .*nothing for b weight \(4,\)"
    )
    refused(network, other | {"d.weight": np.zeros((3, 3))}, r"it has d weight \(3, 3\), for which")


def test_another_architecture(wide, chain):
    refused(chain[0], wide[1], r"architecture .*Its names are those of ATLD.WideResNet or TRADES")
    refused(wide[0], chain[1], r"is of another architecture than the network 'wide_resnet' \(3 lay")


def test_values(wide):
    network, state = wide
    broken = without(state)
    broken["fc.weight"] = broken["fc.weight"].copy()
    broken["fc.weight"][0, :2] = np.nan, np.inf
    refused(network, broken, "2 of the 256 values of fc.weight are NaN or infinite in float32")
    large = without(state) | {"fc.bias": np.full(4, 1e300)}
    refused(network, large, "4 of the 4 values of fc.bias are NaN")
    negative = without(state) | {"bn1.running_var": np.full(64, -1.0)}
    refused(network, negative, "bn1.running_var, a variance, is negative")
    refused(network, without(state), "must be the highest value", input_range=(1, 0))


def twins():
    """Two branches with the same shapes, and a layer behind."""
    images = keras.Input((6, 6, 2))
    left, right = (L.Conv2D(2, 3, name=name)(images) for name in ("left", "right"))
    x = L.Conv2D(2, 1, name="last")(L.Add()([left, right]))
    logits = L.Dense(3, name="logits")(L.GlobalAveragePooling2D()(x))
    return keras.Model(images, logits, name="twins")


def test_same_shapes_in_files_that_sort(tmp_path):
    """The order of numbers counts; of other names a .safetensors file does not tell it."""
    network = twins()
    rng = np.random.default_rng(0)
    values = [rng.normal(size=shape) for shape in ((2, 2, 3, 3), (2,), (2, 2, 3, 3), (2,))]
    rest = {"z.weight": np.ones((2, 2, 1, 1)), "z.bias": np.ones(2)}
    rest |= {"zz.weight": np.ones((3, 2)), "zz.bias": np.ones(3)}

    def written(first, second):
        names = (f"{first}.weight", f"{first}.bias", f"{second}.weight", f"{second}.bias")
        state = dict(zip(names, values, strict=True)) | rest
        path = tmp_path / "weights.safetensors"
        safetensors.numpy.save_file({n: np.asarray(v, "f4") for n, v in state.items()}, path)
        return state, path

    def left():
        return network.get_layer("left").kernel.numpy().transpose(3, 2, 0, 1)

    models.from_torch(network, written("conv2", "conv10")[1])
    np.testing.assert_allclose(left(), values[0], rtol=1e-6)
    state, path = written("b", "a")
    refused(
        network,
        path,
        r"in the file they are sorted by name, so that a, b cannot be told apart: give a",
    )
    models.from_torch(network, state)
    np.testing.assert_allclose(left(), values[0], rtol=1e-6)
    # By the names of layers that `to_torch` gave it, a file is read whatever its order.
    mine = {name: value + 1 for name, value in models.to_torch(network).items()}
    safetensors.numpy.save_file(dict(sorted(mine.items())), path)
    assert models.from_torch(network, path).weights_source["program"] == "names of layers"
    np.testing.assert_allclose(left(), values[0] + 1, atol=1e-6)


def test_same_shapes_in_another_order(chain):
    """What differs in shapes alone is found in any order; what does not is refused."""
    network, state = chain
    turned = dict(sorted(without(state).items(), reverse=True))
    models.from_torch(network, turned)
    back = models.to_torch(network)
    for name, value in turned.items():
        if "num_batches" not in name:
            np.testing.assert_allclose(back[name.removeprefix("their_")], value, rtol=1e-6)
    network = twins()
    state = {f"module.their_{name}": value for name, value in models.to_torch(network).items()}
    moved = {name: state[name] for name in sorted(state, key=lambda name: "last" not in name)}
    refused(
        network,
        moved,
        "stand in another order, so that their_left, their_right cannot be told apart",
    )


def test_layers_that_are_not_known():
    def network(*layers):
        return keras.Sequential([keras.Input((8, 8, 1)), *layers, L.Dense(3, name="fc")])

    separable = network(L.SeparableConv2D(2, 3, name="sep"), L.Flatten())
    refused(separable, {"a.weight": np.ones(3)}, "'sep', a SeparableConv2D, has weights whose lay")
    turned = network(L.Permute((2, 1, 3)), L.Flatten())
    refused(turned, {"a.weight": np.ones(3)}, "inputs of the layer 'fc' are made of a flattened")
    first = network(L.Permute((3, 1, 2)), L.Flatten())
    weight = np.random.default_rng(0).random((3, 64)).astype("float32")
    models.from_torch(first, {"a.weight": weight, "a.bias": np.ones(3)})
    tiny.same_bits(first.layers[-1].kernel, weight.T)


class Own(keras.Model):
    """A model whose calls are code of its own."""

    def __init__(self, flatten):
        super().__init__(name="own")
        self.conv, self.fc = L.Conv2D(2, 3, name="conv"), L.Dense(3, name="fc")
        self.flatten = flatten

    def call(self, x):
        x = self.conv(x)
        return self.fc(keras.layers.Flatten()(x) if self.flatten else x[:, 0, 0])


def test_subclassed_model():
    state = {"a.weight": np.ones((2, 1, 3, 3)), "a.bias": np.ones(2), "b.bias": np.ones(3)}
    pooled, flat = Own(False), Own(True)
    refused(pooled, state, "'own' has no weights: build it")
    for network in (pooled, flat):
        network(np.zeros((1, 6, 6, 1), "float32"))
    models.from_torch(pooled, state | {"b.weight": np.full((3, 2), 2.0)})
    tiny.same_bits(pooled.fc.kernel, np.full((2, 3), 2.0))
    refused(flat, state | {"b.weight": np.ones((3, 32))}, "whether and how they are flattened is")


def test_tables_of_names():
    """Read both ways, each is of its own network alone."""
    assert len({table.name for table in TABLES}) == len(TABLES)
    table = next(one for one in TABLES if one.name == "ST.ResNet")
    state = {name.rpartition(".")[0] for name in models.to_torch(models.ResNet18((8, 8, 3), 2))}
    assert table.knows(state) and "layer4.0.shortcut.1" in state
    assert not table.knows(state - {"linear"}) and not table.knows(state | {"fc"})
    assert table.modules(["stem_conv", "logits"]) is None
