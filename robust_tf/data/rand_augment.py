"""RandAugment: a few operations on each image, drawn from fourteen, all of one magnitude."""

from __future__ import annotations

import dataclasses
import math

import tensorflow as tf

from robust_tf import registration
from robust_tf.data.augment import uniform
from robust_tf.validation import check_number, check_whole, plain_fields

# At magnitude 10, as in AutoAugment: parts of a side, degrees, parts of a factor, bits.
_SHEAR, _TRANSLATE, _DEGREES, _FACTOR, _BITS = 0.3, 150 / 331, 30.0, 0.9, 4


@registration.configurable
@dataclasses.dataclass(frozen=True)
class RandAugment:
    """A number of operations one after the other, each drawn from `OPERATIONS` with equal chances.

    Operations compute in 8 bits as Pillow's do, and fill with black what comes from outside; those
    with a direction (shear, translate, rotate, and the four that mix) take either by lot.

    Args:
      operations: N, on each image, 1 or more.
      magnitude: M in [0, 10], of all operations: at 10 shear by 0.3, translation by 150/331 of the
        side, rotation by 30 degrees, factors of color, contrast, brightness and sharpness of 1 -
        0.9 and 1 + 0.9, solarization of all pixels, and 4 bits of posterization. The paper takes
        (N, M) = (3, 4) for CIFAR-10 on a WRN-28-2 and (2, 9) for ImageNet on a ResNet-50.

    Source: Cubuk et al. (2020), arXiv 1909.13719; ranges of AutoAugment, Cubuk et al. (2019).
    """

    operations: int = 2
    magnitude: float = 5.0

    def __post_init__(self) -> None:
        plain_fields(self)
        check_whole("RandAugment", "operations", self.operations, 1, "the paper uses 1 to 3")
        check_number(
            "RandAugment", "magnitude", self.magnitude, 0.0, "the scale ends at 10", high=10
        )

    def __call__(self, images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        """Images after the operations, see `data.augment`."""
        if images.shape[3] not in (1, 3):
            raise ValueError(
                f"RandAugment takes images of 1 or 3 channels, not {images.shape[3]}; leave it out "
                "of data.augmentation."
            )
        numbers = uniform(seeds, 2 * self.operations)
        pixels = tf.round(images * 255.0)
        for number in range(self.operations):
            drawn = numbers[:, 2 * number : 2 * number + 2]
            chosen = tf.cast(drawn[:, 0] * len(OPERATIONS), tf.int32)
            pixels = operate(pixels, chosen, tf.where(drawn[:, 1] < 0.5, -1.0, 1.0), self.magnitude)
        return pixels / 255.0


def operate(pixels: tf.Tensor, chosen: tf.Tensor, sign: tf.Tensor, magnitude: float) -> tf.Tensor:
    """One operation on each image.

    Args:
      pixels: float32 (B, H, W, C), whole numbers 0 .. 255.
      chosen: int32 (B,), numbers of operations in `OPERATIONS`.
      sign: float32 (B,), 1 or -1, the direction of those that have one.
      magnitude: in [0, 10].

    Returns:
      As `pixels`.
    """
    level = magnitude / 10
    threshold = 256 * (1 - level)

    def solarized(pixels: tf.Tensor) -> tf.Tensor:
        return tf.where(pixels < threshold, pixels, 255 - pixels)

    made = {
        ("AutoContrast",): lambda own, *_: _auto_contrast(own),
        ("Equalize",): lambda own, *_: _equalized(own),
        ("Posterize",): lambda own, *_: _posterized(own, round(_BITS * level)),
        ("Solarize",): lambda own, *_: solarized(own),
        ("Sharpness",): lambda own, _, sign: _blended(_smooth(own), own, sign, level),
        ("Contrast",): lambda own, _, sign: _blended(_mean_gray(own), own, sign, level),
        ("Color",): lambda own, _, sign: _blended(_gray(own), own, sign, level),
        ("Brightness",): lambda own, _, sign: _blended(0.0, own, sign, level),
        _GEOMETRIC: lambda own, chosen, sign: _moved(own, chosen, sign, level),
    }
    # Each image goes to the operation that it is for, and none to the others.
    groups = [("Identity",), *made]
    table = [next(n for n, names in enumerate(groups) if name in names) for name in OPERATIONS]
    group = tf.gather(tf.constant(table), chosen)
    places = tf.dynamic_partition(tf.range(tf.shape(chosen)[0]), group, len(groups))
    parts = [tf.gather(pixels, places[0])]
    for place, function in zip(places[1:], made.values(), strict=True):
        own = [tf.gather(one, place) for one in (pixels, chosen, sign)]
        some = tf.shape(place)[0] > 0  # not all kernels take an empty batch
        parts.append(tf.cond(some, lambda f=function, o=own: f(*o), lambda o=own: o[0]))
    return tf.ensure_shape(tf.dynamic_stitch(places, parts), pixels.shape)


_GEOMETRIC = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")
_BLENDED = ("Brightness", "Color", "Contrast", "Sharpness")
OPERATIONS = (
    "Identity",
    "AutoContrast",
    "Equalize",
    "Posterize",
    "Solarize",
    *_GEOMETRIC,
    *_BLENDED,
)


def _moved(pixels: tf.Tensor, chosen: tf.Tensor, sign: tf.Tensor, level: float) -> tf.Tensor:
    """Affine maps, nearest pixel."""
    height, width = pixels.shape[1:3]

    def amount(name: str, value: float) -> tf.Tensor:
        return tf.where(chosen == OPERATIONS.index(name), value * sign, 0.0)

    angle = amount("Rotate", math.radians(_DEGREES * level))
    cos, sin = tf.cos(angle), tf.sin(angle)
    shear_x, shear_y = amount("ShearX", _SHEAR * level), amount("ShearY", _SHEAR * level)
    # Where output (x, y) comes from, with centers of pixels at halves: (a x + b y + c, d x + ...).
    a, b, d, e = cos, shear_x - sin, shear_y + sin, cos
    middle_x, middle_y = width / 2, height / 2
    turned = chosen == OPERATIONS.index("Rotate")
    c = tf.where(turned, middle_x - cos * middle_x + sin * middle_y, 0.0)
    f = tf.where(turned, middle_y - sin * middle_x - cos * middle_y, 0.0)
    c += amount("TranslateX", float(int(_TRANSLATE * level * width)))
    f += amount("TranslateY", float(int(_TRANSLATE * level * height)))
    # The operation counts from centers of pixels.
    c, f = c + (a + b) / 2 - 0.5, f + (d + e) / 2 - 0.5
    zero = tf.zeros_like(a)
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=pixels,
        transforms=tf.stack([a, b, c, d, e, f, zero, zero], axis=1),
        output_shape=[height, width],
        fill_value=0.0,
        interpolation="NEAREST",
        fill_mode="CONSTANT",
    )


def _blended(
    poor: tf.Tensor | float, pixels: tf.Tensor, sign: tf.Tensor, level: float
) -> tf.Tensor:
    """Poor image + factor * (image - poor image), cut to whole numbers."""
    factor = (1 + sign * _FACTOR * level)[:, None, None, None]
    return tf.floor(tf.clip_by_value(poor + factor * (pixels - poor), 0.0, 255.0))


def _mean_gray(pixels: tf.Tensor) -> tf.Tensor:
    """Of each image, (B, 1, 1, 1)."""
    return tf.floor(tf.reduce_mean(_gray(pixels), axis=[1, 2, 3], keepdims=True) + 0.5)


def _gray(pixels: tf.Tensor) -> tf.Tensor:
    """ITU-R 601 luma as Pillow rounds it, (B, H, W, 1)."""
    if pixels.shape[3] == 1:
        return pixels
    whole = tf.cast(pixels, tf.int32) * [19595, 38470, 7471]
    return tf.cast((tf.reduce_sum(whole, axis=3, keepdims=True) + 0x8000) // 65536, tf.float32)


def _smooth(pixels: tf.Tensor) -> tf.Tensor:
    """Each pixel five times and its eight neighbors, divided by 13; the border stays."""
    height, width, channels = pixels.shape[1:]
    if min(height, width) < 3:
        return pixels
    kernel = tf.constant([[1.0, 1.0, 1.0], [1.0, 5.0, 1.0], [1.0, 1.0, 1.0]])
    kernel = tf.tile(kernel[:, :, None, None], [1, 1, channels, 1])
    total = tf.nn.depthwise_conv2d(pixels, kernel, [1, 1, 1, 1], "VALID")
    inner = tf.floor(total / 13.0 + 0.5)
    inner = tf.pad(inner, [[0, 0], [1, 1], [1, 1], [0, 0]])
    inside = tf.pad(tf.ones([height - 2, width - 2], tf.bool), [[1, 1], [1, 1]])
    return tf.where(inside[None, :, :, None], inner, pixels)


def _auto_contrast(pixels: tf.Tensor) -> tf.Tensor:
    """Each channel spread over 0 .. 255."""
    exact = tf.cast(pixels, tf.float64)  # rounded as Pillow's
    low = tf.reduce_min(exact, axis=[1, 2], keepdims=True)
    span = tf.reduce_max(exact, axis=[1, 2], keepdims=True) - low
    scale = 255.0 / tf.maximum(span, 1.0)
    spread = tf.clip_by_value(tf.floor(exact * scale + (-low * scale)), 0.0, 255.0)
    return tf.cast(tf.where(span > 0, spread, exact), tf.float32)


def _equalized(pixels: tf.Tensor) -> tf.Tensor:
    """Each channel with its values as evenly spread as tables of 256 entries can."""
    height, width, channels = pixels.shape[1:]
    rows = tf.reshape(tf.transpose(pixels, [0, 3, 1, 2]), [-1, height * width])
    whole = tf.cast(rows, tf.int32)
    counts = tf.math.bincount(whole, minlength=256, maxlength=256, axis=-1)
    counts = tf.ensure_shape(counts, [None, 256])
    last = tf.gather(counts, tf.reduce_max(whole, axis=1), batch_dims=1)
    step = (height * width - last) // 255
    before = tf.cumsum(counts, axis=1, exclusive=True)
    table = (step[:, None] // 2 + before) // tf.maximum(step, 1)[:, None]
    spread = tf.gather(tf.minimum(table, 255), whole, batch_dims=1)
    spread = tf.where(step[:, None] > 0, tf.cast(spread, tf.float32), rows)
    made = tf.reshape(spread, [-1, channels, height, width])
    return tf.transpose(made, [0, 2, 3, 1])


def _posterized(pixels: tf.Tensor, bits: int) -> tf.Tensor:
    """Without so many low bits."""
    unit = 2.0**bits
    return tf.floor(pixels / unit) * unit
