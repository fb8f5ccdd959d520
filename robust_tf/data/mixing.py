"""Augmentations that mix each image, and its label, with another one: mixup and CutMix.

They are called with images and partners, float32 (B, H, W, C) in [0, 1], and seeds, int32 (B, 2),
and return images and the share of each that is the image's own, float32 (B,); `mixes = True` says
so. The partner is the next example in the order of the epoch, with its own augmentation, so that
it does not depend on batches; after the last example of an epoch comes the first one of those that
the epoch leaves out, or else its first.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import tensorflow as tf

from robust_tf import registration
from robust_tf.data.augment import inside_box, uniform
from robust_tf.validation import check_number, plain_fields

_HALVINGS = 30  # of the interval in which a quantile lies


@registration.configurable
@dataclasses.dataclass(frozen=True)
class Mixup:
    """s x + (1 - s) x', with the label s y + (1 - s) y'; s from Beta(alpha, alpha) by example.

    The paper's program draws s once for each batch; by example it does not depend on batches.

    Args:
      alpha: of the distribution, > 0: small, little is mixed; 1: any share is as probable. The
        paper uses 1 for CIFAR-10 and 0.2 for ImageNet.

    Source: Zhang et al. (2018), arXiv 1710.09412, Equation 1.
    """

    alpha: float = 1.0
    mixes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        plain_fields(self)
        check_number("Mixup", "alpha", self.alpha, 0.0, "the paper uses 0.2 to 1", strict=True)

    def __call__(
        self, images: tf.Tensor, partners: tf.Tensor, seeds: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Mixed images and shares, see the module."""
        share = beta(seeds, self.alpha)
        own = share[:, None, None, None]
        return own * images + (1 - own) * partners, share


@registration.configurable
@dataclasses.dataclass(frozen=True)
class CutMix:
    """A box of the partner is pasted into the image; labels are mixed by the areas.

    s is drawn from Beta(alpha, alpha) by example; the box has sqrt(1 - s) of each side, its center
    is uniform over the image, and what lies outside is cut off.

    Args:
      alpha: of the distribution, > 0; the paper uses 1.

    Source: Yun et al. (2019), arXiv 1905.04899, Equations 1 and 2, and Algorithm A1.
    """

    alpha: float = 1.0
    mixes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        plain_fields(self)
        check_number("CutMix", "alpha", self.alpha, 0.0, "the paper uses 1", strict=True)

    def __call__(
        self, images: tf.Tensor, partners: tf.Tensor, seeds: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Mixed images and shares, see the module."""
        height, width = images.shape[1:3]
        size = tf.constant([height, width], tf.float32)
        ratio = tf.sqrt(1 - beta(seeds, self.alpha))[:, None]
        sides = tf.cast(size * ratio, tf.int32)
        centers = tf.cast(uniform(seeds, 2, first=1) * size, tf.int32)
        half = sides // 2  # the program's box is even: half to each side
        box = inside_box(height, width, centers - half, 2 * half)
        pasted = tf.reduce_mean(tf.cast(box, tf.float32), axis=[1, 2, 3])
        return tf.where(box, partners, images), 1 - pasted


def beta(seeds: tf.Tensor, alpha: float) -> tf.Tensor:
    """float32 (B,) from Beta(alpha, alpha), each the quantile of one uniform number of its seed."""
    u = tf.cast(uniform(seeds, 1)[:, 0], tf.float64)
    if alpha == 1:
        return tf.cast(u, tf.float32)
    a = tf.fill(tf.shape(u), tf.constant(alpha, tf.float64))
    low, high = tf.zeros_like(u), tf.ones_like(u)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        below = tf.math.betainc(a, a, middle) <= u
        low, high = tf.where(below, middle, low), tf.where(below, high, middle)
    return tf.cast((low + high) / 2, tf.float32)
