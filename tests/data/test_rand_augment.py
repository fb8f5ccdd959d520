"""RandAugment: its operations against Pillow's, and how they are drawn."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

from robust_tf import data
from robust_tf.data.rand_augment import OPERATIONS, operate


def _images(channels):
    """Noise, a slope, one value, two values, and dark spots, 20 x 16."""
    rng = np.random.default_rng(0)
    slope = np.linspace(40, 200, 20 * 16).reshape(20, 16, 1) + rng.integers(0, 30, (20, 16, 3))
    spots = np.where(rng.random((20, 16, 3)) < 0.1, rng.integers(0, 90, (20, 16, 3)), 7)
    noise = rng.integers(0, 256, (20, 16, 3))
    images = [noise, slope, np.full((20, 16, 3), 90), np.where(noise < 99, 12, 250), spots]
    return np.stack(images).astype(np.uint8)[..., :channels]


def _pillow(name, image, magnitude, sign):
    """The operation as AutoAugment's program in Pillow has it."""
    level, (width, height) = magnitude / 10, image.size

    def affine(*numbers):
        return image.transform(image.size, Image.Transform.AFFINE, numbers)

    enhanced = {
        "Color": ImageEnhance.Color,
        "Contrast": ImageEnhance.Contrast,
        "Brightness": ImageEnhance.Brightness,
        "Sharpness": ImageEnhance.Sharpness,
    }
    if name in enhanced:
        return enhanced[name](image).enhance(1 + sign * 0.9 * level)
    return {
        "Identity": lambda: image,
        "AutoContrast": lambda: ImageOps.autocontrast(image),
        "Equalize": lambda: ImageOps.equalize(image),
        "Posterize": lambda: ImageOps.posterize(image, 8 - round(4 * level)),
        "Solarize": lambda: ImageOps.solarize(image, 256 * (1 - level)),
        "ShearX": lambda: affine(1, sign * 0.3 * level, 0, 0, 1, 0),
        "ShearY": lambda: affine(1, 0, 0, sign * 0.3 * level, 1, 0),
        "TranslateX": lambda: affine(1, 0, sign * int(150 / 331 * level * width), 0, 1, 0),
        "TranslateY": lambda: affine(1, 0, 0, 0, 1, sign * int(150 / 331 * level * height)),
        "Rotate": lambda: image.rotate(sign * 30 * level),
    }[name]()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_are_pillows(name, channels):
    images = _images(channels)
    chosen = tf.fill([len(images)], OPERATIONS.index(name))
    for magnitude, sign in ((3, 1.0), (7.5, -1.0), (10, 1.0)):
        signs = tf.fill([len(images)], sign)
        got = operate(tf.constant(images, tf.float32), chosen, signs, magnitude).numpy()
        assert got.min() >= 0 and got.max() <= 255
        np.testing.assert_array_equal(got, np.rint(got))
        for mine, image in zip(got, images, strict=True):
            picture = Image.fromarray(image if channels == 3 else image[..., 0])
            expected = np.asarray(_pillow(name, picture, magnitude, sign)).reshape(image.shape)
            far = np.abs(mine - expected.astype(np.float32))
            # Pillow mixes in single precision, too, but a product and a sum round otherwise.
            near = 0.01 if name in ("Color", "Contrast", "Brightness", "Sharpness") else 0
            assert far.max() <= (near > 0) and (far > 0).mean() <= near, (magnitude, sign)


def test_each_image_has_its_own_operation():
    """A batch of all operations is what they give one by one, and chances are equal."""
    images = tf.constant(np.tile(_images(3)[:1], (14, 1, 1, 1)), tf.float32)
    signs = tf.ones([14])
    together = operate(images, tf.range(14), signs, 6.0).numpy()
    for number in range(14):
        alone = operate(images[:1], tf.constant([number]), signs[:1], 6.0)
        np.testing.assert_array_equal(together[number], alone[0])
    assert len(np.unique(together.reshape(14, -1), axis=0)) == 14


def test_operations_are_drawn_alike():
    image = np.tile(_images(3)[:1], (2800, 1, 1, 1)) / np.float32(255)
    seeds = tf.stack([tf.fill([2800], 5), tf.range(2800)], axis=1)
    got = data.RandAugment(1, 6)(tf.constant(image), seeds).numpy()
    assert got.min() >= 0 and got.max() <= 1
    kinds, counts = np.unique(got.reshape(2800, -1), axis=0, return_counts=True)
    assert len(kinds) == 14 + 9  # nine have two directions
    assert counts.sum() == 2800 and counts.min() > 60 and counts.max() < 260
    few = data.RandAugment(1, 6)(tf.constant(image[:3]), seeds[40:43])
    np.testing.assert_array_equal(few, got[40:43])  # whatever the batch
    twice = data.RandAugment(2, 6)(tf.constant(image), seeds).numpy()
    assert len(np.unique(twice.reshape(2800, -1), axis=0)) > 150


@pytest.mark.parametrize(
    "fields", [{"operations": 0}, {"operations": 1.5}, {"magnitude": 11}, {"magnitude": "9"}]
)
def test_refuses(fields):
    with pytest.raises(ValueError, match=rf"RandAugment\({next(iter(fields))}="):
        data.RandAugment(**fields)


def test_refuses_other_channels():
    with pytest.raises(ValueError, match="1 or 3 channels, not 2"):
        data.RandAugment()(tf.zeros([1, 4, 4, 2]), tf.zeros([1, 2], tf.int32))
