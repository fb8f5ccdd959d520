"""What travels through a training step: the batch, what the adversary made of it, and its terms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from robust_tf.attacks.randomness import fold
from robust_tf.losses import class_ids
from robust_tf.models import Classifier, Outputs, forward_mode

Terms = dict[str, Callable[[], tf.Tensor]]


class AdversarialBatch(NamedTuple):
    """What `generate_adversarial` made, where it is images alone.

    A method that makes more gives a named tuple of its own, which has `x_adv` too.

    x_adv: float32 images (B, H, W, C), without gradient.
    """

    x_adv: tf.Tensor


class Batch(NamedTuple):
    """What a method's terms are made of, for one replica.

    A method that forwards otherwise gives a named tuple of its own, which has `y`, `clean` and
    `adv` too.

    x: float32 images (B, H, W, C); y: int32 (B,), or float32 (B, C) distributions over the classes
    where the method `takes_soft_labels`; adversarial: what `generate_adversarial` made; clean, adv:
    logits and features of clean and adversarial images in training mode, None where the method says
    that it does not need them (`needs_clean`, `needs_adv`); seed: int32 (2,), of this step and
    replica.
    """

    x: tf.Tensor
    y: tf.Tensor
    adversarial: Any
    clean: Any
    adv: Any
    seed: tf.Tensor

    @property
    def x_adv(self) -> tf.Tensor:
        """Adversarial images, float32 (B, H, W, C)."""
        return self.adversarial.x_adv


def forward_together(network: Classifier, *images: tf.Tensor) -> list[Outputs]:
    """Outputs in training mode of several batches of images, by one forward of all of them."""
    logits, features = network.forward(tf.concat(images, 0), training=True)
    sizes = [tf.shape(x)[0] if x.shape[0] is None else x.shape[0] for x in images]
    parts = [None] * len(images) if features is None else tf.split(features, sizes)
    return [Outputs(*pair) for pair in zip(tf.split(logits, sizes), parts, strict=True)]


def forward_pair(
    network: Classifier, x: tf.Tensor | None, x_adv: tf.Tensor | None, seed: tf.Tensor
) -> tuple[Outputs | None, Outputs | None]:
    """Outputs in training mode of clean and adversarial images, None for what is None.

    One forward pass of both, two where batches have statistics.
    """
    with forward_mode(seed=fold(seed, 0)):
        if x is not None and x_adv is not None and not network.has_batch_norm:
            clean, adv = forward_together(network, x, x_adv)
            return clean, adv
        first = None if x is None else network.forward(x, training=True)
    with forward_mode(seed=fold(seed, 1)):
        return first, None if x_adv is None else network.forward(x_adv, training=True)


def per_example(term: str, values: tf.Tensor) -> tf.Tensor:
    """The values (B,) of a term; raises ValueError for a term that is no vector."""
    if values.shape.rank not in (None, 1):
        raise ValueError(
            f"term {term!r} has shape {values.shape}: must give one value for each example, (B,); "
            "the step weighs them and takes their mean."
        )
    return values


def step_seed(seed: int, batches: Any) -> tf.Tensor:
    """int32 (2,) of (seed, number of batches before), folded with the replica."""
    pair = tf.stack([tf.constant(seed % 2**31), tf.cast(batches, tf.int32)])
    context = tf.distribute.get_replica_context()
    return fold(pair, context.replica_id_in_sync_group if context else 0)


def correct(logits: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """1.0 where the prediction is y, of a distribution (B, C) its most probable class; (B,)."""
    predicted = tf.argmax(logits, axis=1, output_type=tf.int32)
    return tf.cast(tf.equal(predicted, class_ids(y)), tf.float32)
