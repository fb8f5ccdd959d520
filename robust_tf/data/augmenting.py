"""A list of augmentations, applied to the batches of a run: which seeds they get, and checks."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import tensorflow as tf

from robust_tf.data.augment import Augmentation
from robust_tf.data.source_records import record_of


def as_augmentations(given: Any) -> tuple[Any, ...]:
    """What `data.augmentation` is bound to as a tuple, without what changes nothing.

    Raises:
      ValueError: it is no augmentation nor a list of them; one that mixes is not the last, or crop
        and flip is there twice.
    """
    found = tuple(given) if isinstance(given, (list, tuple)) else (given,)
    for one in found:
        if inspect.isclass(one) or not callable(one):
            name = getattr(one, "__name__", "Augmentation")
            raise ValueError(
                f"data.augmentation={one!r}: must be an augmentation, such as @{name}() (with "
                "brackets: it is made here), or a list of them."
            )
    found = tuple(one for one in found if one)
    if len(found) > 1 and any(mixes([one]) for one in found[:-1]):
        raise ValueError(
            f"data.augmentation is {names(found)}: one that mixes images must be the last, and the "
            "only one, as it mixes what the others have made."
        )
    if sum(isinstance(one, Augmentation) for one in found) > 1:
        raise ValueError(
            f"data.augmentation is {names(found)}: Augmentation may be there once, as its crops "
            "and flips are drawn once."
        )
    return found


def mixes(augmentations: Any) -> bool:
    """Whether labels are between classes."""
    return any(getattr(one, "mixes", False) for one in augmentations)


def names(augmentations: Any) -> str:
    """Of augmentations, with their arguments."""
    return ", ".join(getattr(one, "__name__", None) or repr(one) for one in augmentations)


class Augmenting:
    """Augmentations one after the other, for batches of training images.

    Args:
      given: one, or a list of them.
      seed: of the run.
      num_classes: needed where labels are mixed.
      image_shape: (H, W, C).
      examples: how many there are.

    Attributes:
      steps: the augmentations; empty: images stay as they are.
      crop: the one among them that is given what it drew.
      extra: images that a batch needs after its own, 1 where each is mixed with the next.

    Raises:
      ValueError: see `as_augmentations`; examples that are no images; no number of classes.
    """

    def __init__(
        self,
        given: Any,
        seed: int,
        num_classes: int | None,
        image_shape: tuple[int, ...],
        examples: int = 0,
    ):
        self.steps = as_augmentations(given)
        self.seed, self.num_classes = seed, num_classes
        self.crop = next((one for one in self.steps if isinstance(one, Augmentation)), None)
        self.extra = int(mixes(self.steps))
        if self.steps and len(image_shape) != 3:
            raise ValueError(
                f"{names(self.steps)} needs images (N, H, W, C), but these examples have the shape "
                f"{(examples, *image_shape)}. Set data.augmentation = None, Augmentation.pad = 0 "
                "and Augmentation.flip = False."
            )
        if self.extra and num_classes is None:
            raise ValueError(
                f"{names(self.steps[-1:])} mixes labels: say of how many classes, "
                "data.epochs(..., num_classes=dataset.num_classes)."
            )

    def draw(self, count: int, epoch: int) -> tuple[np.ndarray, ...]:
        """What the crop draws for an epoch, by position; () where there is none."""
        return () if self.crop is None else self.crop.draw(count, self.seed, epoch)

    def __call__(
        self,
        images: tf.Tensor,
        labels: tf.Tensor,
        positions: tf.Tensor,
        epoch: tf.Tensor,
        draws: tuple[tf.Tensor, ...],
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The augmented batch.

        Args:
          images: uint8 or float32 (B + extra, H, W, C).
          labels: int32 (B + extra,).
          positions: of these examples in their split, int32 or int64 (B + extra,).
          epoch: integer scalar.
          draws: of these examples, as of `draw`.

        Returns:
          Images float32 (B, H, W, C) in [0, 1], or uint8 where nothing or the crop alone is done,
          and labels int32 (B,), or float32 (B, num_classes) where they are mixed.
        """
        for number, one in enumerate(self.steps):
            if isinstance(one, Augmentation):
                images = one(images, *draws)
                continue
            images, seeds = to_unit_interval(images), self._seeds(positions, epoch, number)
            if getattr(one, "mixes", False):
                mixed, share = one(images[:-1], images[1:], seeds[:-1])
                images = self._checked(one, mixed, images[:-1])
                labels = self._mixed(labels, share)
            else:
                images = self._checked(one, one(images, seeds), images)
        return images, labels

    def _seeds(self, positions: tf.Tensor, epoch: tf.Tensor, number: int) -> tf.Tensor:
        """int32 (B, 2), of each example in this epoch for the augmentation of this number."""
        fold = tf.random.experimental.stateless_fold_in
        run = tf.constant([self.seed % 2**31, self.seed // 2**31 % 2**31], tf.int32)
        stream = fold(fold(run, tf.cast(epoch, tf.int32)), number)
        positions = tf.cast(positions, tf.int32)
        return tf.stack([tf.fill(tf.shape(positions), stream[0]), stream[1] ^ positions], axis=1)

    def _mixed(self, labels: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
        known = tf.one_hot(labels, self.num_classes)
        share = tf.cast(share, tf.float32)[:, None]
        return share * known[:-1] + (1 - share) * known[1:]

    @staticmethod
    def _checked(one: Any, images: Any, before: tf.Tensor) -> tf.Tensor:
        """What an augmentation gave, of the form that it was given."""
        images = tf.convert_to_tensor(images)
        if images.dtype != tf.float32 or not images.shape.is_compatible_with(before.shape):
            raise ValueError(
                f"{names([one])} gave {images.dtype.name} {images.shape} for images float32 "
                f"{before.shape}; it must keep type and shape."
            )
        return tf.ensure_shape(images, before.shape)


def to_unit_interval(images: tf.Tensor) -> tf.Tensor:
    """uint8 0..255 to float32 [0, 1], by a true division; float32 passes unchanged."""
    return tf.cast(images, tf.float32) / 255.0 if images.dtype == tf.uint8 else images


def describe(given: Any) -> list[dict[str, Any]]:
    """Of each augmentation its module, name and arguments, JSON-ready, for the run."""
    return [record_of(one) for one in as_augmentations(given)]
