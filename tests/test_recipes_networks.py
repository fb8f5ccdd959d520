"""Parts of recipes that are the networks of published checkpoints, over any recipe, in small."""

import os

import gin
import numpy as np
import pytest

from robust_tf import models, recipes
from robust_tf.models import InputRange

FOLDER = os.path.join(recipes.recipes_folder(), "parts", "networks")
NAMES = sorted(name.removesuffix(".gin") for name in os.listdir(FOLDER))
CIFAR10 = (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)
SIGNED, IMAGENET = ((0.5,) * 3, (0.5,) * 3), ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
DEEPMIND = {"activation": "silu", "padding": "same", "decay": 0.99}

# The builder, what is bound of it, and the mean and deviation of the pixels in front.
PARTS = {
    "wrn_28_10": ("WideResNet", {"depth": 28, "width": 10}, None),
    "wrn_28_10_signed": ("WideResNet", {"depth": 28, "width": 10}, SIGNED),
    "wrn_34_10": ("WideResNet", {"depth": 34, "width": 10}, None),
    "wrn_34_20": ("WideResNet", {"depth": 34, "width": 20}, None),
    "wrn_70_16": ("WideResNet", {"depth": 70, "width": 16}, None),
    "dm_wrn_28_10": ("WideResNet", {"depth": 28, "width": 10, **DEEPMIND}, CIFAR10),
    "dm_wrn_34_20": ("WideResNet", {"depth": 34, "width": 20, **DEEPMIND}, CIFAR10),
    "dm_wrn_70_16": ("WideResNet", {"depth": 70, "width": 16, **DEEPMIND}, CIFAR10),
    "dm_wrn_106_16": ("WideResNet", {"depth": 106, "width": 16, **DEEPMIND}, CIFAR10),
    "preact_resnet18": ("PreActResNet18", {}, CIFAR10),
    "preact_resnet18_wong": ("PreActResNet18", {"shortcut": "raw", "head_bn": False}, CIFAR10),
    "dm_preact_resnet18": ("PreActResNet18", {"shortcut": "raw3x3", **DEEPMIND}, CIFAR10),
    "resnet18": ("ResNet18", {}, None),
    "resnet18_imagenet": ("ResNet18", {"stem": "imagenet"}, IMAGENET),
    "resnet50": ("ResNet50", {}, (CIFAR10[0], (0.2023, 0.1994, 0.2010))),
    "resnet50_imagenet": ("ResNet50", {"stem": "imagenet"}, IMAGENET),
    "small_cnn": ("CNN", {"filters": (32, 32, 64, 64)}, None),
    "strided_cnn": ("StridedCNN", {}, None),
}


def test_every_part_is_looked_at():
    others = {"mobilenet_v2_96", "normalized_cifar10"}
    assert set(NAMES) == {*PARTS, *others}


@pytest.mark.parametrize("name", PARTS)
def test_the_part_builds_its_network(name):
    builder, bound, pixels = PARTS[name]
    small = [f"{owner}.{key} = {value}" for owner, key, value in reduced(builder)]
    files = ["gin/standard_cifar10.gin", f"gin/parts/networks/{name}.gin"]
    with recipes.parse(files).in_force():
        for argument, value in bound.items():
            assert gin.query_parameter(f"{builder}.{argument}") == value
    loaded = recipes.load(files, small)
    with loaded.bindings.in_force():
        built = loaded.settings.network(input_shape=(32, 32, 3), num_classes=7)
    assert built.num_classes == 7 and built.image_shape == (32, 32, 3)
    first = built.generator.layers[1]
    assert isinstance(first, InputRange) == (pixels is not None)
    if pixels is not None:
        mean, deviation = np.array(pixels)
        x = np.random.default_rng(0).random((1, 32, 32, 3)).astype("float32")
        np.testing.assert_allclose(first(x), (x - mean) / deviation, rtol=1e-4, atol=1e-5)


def reduced(builder):
    """Bindings that make it small."""
    if builder == "WideResNet":
        return [(builder, "depth", 10), (builder, "width", 1)]
    if builder in ("CNN", "StridedCNN"):
        return [(builder, "hidden", 4)]
    return [(builder, "widths", (2, 2, 3, 4))]


def test_pixels_in_front_are_another_function_of_the_same_weights():
    build = models.StridedCNN
    signed = models.Normalized((8, 8, 1), 3, network=build, input_range=(-1, 1))
    plain = build((8, 8, 1), 3)
    plain.set_weights(signed.get_weights())
    x = np.random.default_rng(0).random((2, 8, 8, 1)).astype("float32")
    np.testing.assert_allclose(signed(x), plain(2 * x - 1), rtol=1e-5, atol=1e-6)
    for arguments in ({"network": build}, {"input_range": (-1, 1)}):
        with pytest.raises(ValueError, match="Normalized: needs network.*and input_range"):
            models.Normalized((8, 8, 1), 3, **arguments)
