"""From arrays to batches: `tf.data` pipelines that are a function of (seed, epoch) alone."""

from __future__ import annotations

import functools
import operator

import numpy as np
import tensorflow as tf

from robust_tf.data.augment import Augmentation, crop_and_flip
from robust_tf.data.catalog import Split

_NO_AUGMENTATION = Augmentation()
_PARALLEL, _PREFETCHED = 4, 4  # batches in work, and ready


def steps_per_epoch(split: Split, batch_size: int) -> int:
    """Number of full batches in one training epoch; the remainder is dropped.

    Args:
      split: The training split.
      batch_size: Images per global batch, 1 .. split.epoch_size.

    Returns:
      split.epoch_size // batch_size, at least 1.

    Raises:
      ValueError: If `batch_size` is below 1 or above the number of examples.
    """
    batch_size = _whole("batch_size", batch_size, least=1)
    size = split.epoch_size
    if batch_size > size:
        raise ValueError(
            f"batch_size is {batch_size}, but there are only {size} training examples, so an "
            f"epoch would have no step. Set batch_size to {size} or less, or a smaller "
            "data.validation_size."
        )
    return size // batch_size


def batches(
    split: Split,
    batch_size: int,
    *,
    epoch: int = 0,
    seed: int = 0,
    training: bool = False,
    augmentation: Augmentation = _NO_AUGMENTATION,
    skip: int = 0,
    shard: tuple[int, int] = (1, 0),
) -> tf.data.Dataset:
    """One pass over a split as a `tf.data.Dataset` of (images, labels).

    The order, crops and flips of an epoch are drawn up front from (seed, epoch) by NumPy; the
    pipeline itself only gathers, crops and scales with TensorFlow operations. The same arguments
    give the same bits, on any number of threads.

    Args:
      split: The examples.
      batch_size: Examples per global batch (over all workers), 1 or more.
      epoch: Which epoch, 0 or more; with `seed` it fixes order and augmentation.
      seed: Seed of the run, 0 or more.
      training: True: shuffled, augmented, and the remainder is dropped. False: original order,
        nothing changed, and the remainder is kept as a smaller last batch.
      augmentation: Used in training only.
      skip: Batches of this epoch that were already done: the rest follows exactly as if the
        epoch had not been interrupted. 0 .. number of batches.
      shard: (count, index): every global batch is cut into `count` consecutive parts, and this
        worker gets part `index`. The parts of all workers, in order, are the global batch. A
        smaller last batch (training=False) is cut as evenly as it goes; its parts may be empty.

    Returns:
      A dataset with known cardinality. Images float32 (B, ...) in [0, 1] (NHWC for pictures) and
      labels int32 (B,), with B = batch_size / count static in training.

    Raises:
      ValueError: If an argument is out of its range, `count` does not divide `batch_size`, or a
        training split is smaller than a batch.
    """
    epoch, seed = _whole("epoch", epoch), _whole("seed", seed)
    count, index = _check_shard(shard, batch_size)
    size = len(split)
    steps = steps_per_epoch(split, batch_size) if training else -(-size // batch_size)
    if _whole("skip", skip) > steps:
        raise ValueError(
            f"skip is {skip}, but the epoch has {steps} batches of {batch_size} out of {size} "
            f"examples; it must be 0 .. {steps}."
        )
    if training:
        order = split.order(seed, epoch, batch_size)
    else:
        order = np.arange(size, dtype=np.int32)
    first = np.arange(skip, steps, dtype=np.int64) * batch_size
    parts = np.minimum(first + batch_size, size) - first
    bounds = np.stack([first + parts * index // count, first + parts * (index + 1) // count], 1)

    augment = training and bool(augmentation)
    if augment and split.images.ndim != 4:
        raise ValueError(
            f"{augmentation} needs images (N, H, W, C), but these examples have the shape "
            f"{split.images.shape}. Set Augmentation.pad = 0 and Augmentation.flip = False."
        )
    # Tensors, captured by the function below: as NumPy arrays they would be copied into its graph
    # as constants. On the host, where tf.data runs, whatever the strategy or device in force.
    with tf.init_scope(), tf.device("CPU:0"):
        all_images, all_labels = split.tensors
        order = tf.constant(order)
        if augment:
            offsets, flips = map(tf.constant, augmentation.draw(size, seed, epoch))

    def load(bound: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        where = order[bound[0] : bound[1]]
        if training:
            where = tf.ensure_shape(where, [batch_size // count])
        images, labels = tf.gather(all_images, where), tf.gather(all_labels, where)
        if augment:
            shift, mirror = tf.gather(offsets, where), tf.gather(flips, where)
            images = crop_and_flip(images, shift, mirror, augmentation.pad)
        return to_unit_interval(images), labels

    with tf.init_scope():
        dataset = tf.data.Dataset.from_tensor_slices(bounds)
        dataset = dataset.map(load, num_parallel_calls=_PARALLEL, deterministic=True)
        dataset = dataset.prefetch(_PREFETCHED)
    options = tf.data.Options()
    # The thread that tunes a pipeline sleeps for longer and longer, up to a minute, and whoever
    # drops the iterator, at the end of an epoch, waits for it to wake.
    options.autotune.enabled = False
    options.deterministic = True
    # There are no files to deal out. A part is not to be cut again by tf.distribute.
    policy = tf.data.experimental.AutoShardPolicy
    options.experimental_distribute.auto_shard_policy = policy.DATA if count == 1 else policy.OFF
    return dataset.with_options(options)


def epochs(
    split: Split,
    batch_size: int,
    count: int,
    *,
    seed: int = 0,
    augmentation: Augmentation = _NO_AUGMENTATION,
) -> tf.data.Dataset:
    """Training batches of `count` epochs, one after the other, each in an order of its own.

    For `model.fit(data.epochs(train, 128, 10), epochs=10, steps_per_epoch=...)`: it gets the same
    batches as the trainer does; a single `batches(training=True)` would repeat one epoch.

    Args:
      split: The examples.
      batch_size: Examples per batch, 1 or more.
      count: Number of epochs, 1 or more.
      seed: Seed of the run, 0 or more.
      augmentation: What is done to the images.

    Returns:
      (images, labels) as `batches` gives them, `count * steps_per_epoch` batches.

    Raises:
      ValueError: As `batches`, or `count` below 1.
    """
    _whole("count", count, least=1)
    stages = [
        batches(split, batch_size, epoch=epoch, seed=seed, training=True, augmentation=augmentation)
        for epoch in range(count)
    ]
    return functools.reduce(lambda all_before, one: all_before.concatenate(one), stages)


def to_unit_interval(images: tf.Tensor) -> tf.Tensor:
    """uint8 0..255 to float32 [0, 1], by a true division; float32 passes unchanged."""
    return tf.cast(images, tf.float32) / 255.0 if images.dtype == tf.uint8 else images


def _whole(name: str, value: int, least: int = 0) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if number < least or isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}; it must be a whole number, {least} or more.")
    return number


def _check_shard(shard: tuple[int, int], batch_size: int) -> tuple[int, int]:
    batch_size = _whole("batch_size", batch_size, least=1)
    try:
        count, index = shard
    except (TypeError, ValueError):
        raise ValueError(f"shard is {shard!r}; it must be a pair (count, index).") from None
    count, index = _whole("shard count", count, least=1), _whole("shard index", index)
    if index >= count:
        raise ValueError(
            f"shard is {shard!r}; with {count} workers index must be 0 .. {count - 1}."
        )
    if batch_size % count:
        raise ValueError(
            f"batch_size is {batch_size} and does not divide over {count} workers; take "
            f"{max(batch_size // count, 1) * count} or {(batch_size // count + 1) * count}, or "
            "another number of workers."
        )
    return count, index
