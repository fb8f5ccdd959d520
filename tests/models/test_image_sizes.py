"""Which networks take images of which size, and what the others say before they train."""

import functools

import pytest

from robust_tf import models

WRN = functools.partial(models.WideResNet, depth=10, width=1)
RESNET = functools.partial(models.ResNet, units=1)


@pytest.mark.parametrize("shape", [(32, 32, 3), (28, 28, 1), (64, 64, 3), (20, 30, 3)])
def test_small_images(shape):
    builders = [models.CNN, functools.partial(models.MLP, hidden=(4,)), models.ResNet18, WRN]
    for build in builders:
        network = build(input_shape=shape, num_classes=4)
        assert network.image_shape == shape and network.num_classes == 4
    if shape[1] % 4 == 0:
        assert RESNET(input_shape=shape, num_classes=4).image_shape == shape
    else:
        says = r"multiples of 4; use ResNet18 or WideResNet.*ImageFolder.image_size = \(20, 32\)"
        with pytest.raises(ValueError, match=says):
            RESNET(input_shape=shape, num_classes=4)


def test_large_images():
    for build in (models.ResNet18, WRN, RESNET):
        network = build(input_shape=(224, 224, 3), num_classes=4)
        smaller = build(input_shape=(32, 32, 3), num_classes=4)
        assert network.count_params() == smaller.count_params()  # the map is averaged
    says = "89,888 values, more than 16,384; use ResNet18, WideResNet or Application"
    with pytest.raises(ValueError, match=says):
        models.CNN(input_shape=(224, 224, 3), num_classes=4)
    assert models.CNN((224, 224, 3), 4, filters=2, hidden=4).image_shape == (224, 224, 3)


def test_an_application_says_how_small_images_may_be():
    with pytest.raises(ValueError, match="at least 32x32.*choose size= as large as it says"):
        models.Application((28, 28, 1), 4)
