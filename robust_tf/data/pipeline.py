"""From splits to batches: `tf.data` pipelines that are a function of (seed, epoch) alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from robust_tf.data.augmenting import Augmenting, to_unit_interval
from robust_tf.data.sequential import SequentialSplit
from robust_tf.data.splits import Split
from robust_tf.data.streamed import PARALLEL, StreamedSplit, pipeline_options
from robust_tf.validation import check_whole

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
    batch_size = check_whole("data", "batch_size", batch_size, 1)
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
    augmentation: Any = (),
    skip: int = 0,
    shard: tuple[int, int] = (1, 0),
    num_classes: int | None = None,
) -> tf.data.Dataset:
    """One pass over a split as a `tf.data.Dataset` of (images, labels).

    The same arguments give the same bits, on any number of threads.

    Args:
      split: The examples.
      batch_size: Examples per global batch (over all workers), 1 or more.
      epoch: Which epoch, 0 or more; with `seed` it fixes order and augmentation.
      seed: Seed of the run, 0 or more.
      training: True: shuffled, augmented, and the remainder is dropped. False: original order,
        nothing changed, and the remainder is kept as a smaller last batch.
      augmentation: One, or a list of them, used in training only.
      skip: Batches of this epoch that were already done: the rest follows exactly as if the
        epoch had not been interrupted. 0 .. number of batches.
      shard: (count, index): every global batch is cut into `count` consecutive parts, and this
        worker gets part `index`. The parts of all workers, in order, are the global batch. A
        smaller last batch (training=False) is cut as evenly as it goes; its parts may be empty.
      num_classes: Of the labels; needed where augmentation mixes them.

    Returns:
      A dataset with known cardinality. Images float32 (B, ...) in [0, 1] (NHWC for pictures) and
      labels int32 (B,), with B = batch_size / count static in training; where augmentation mixes
      labels they are float32 (B, num_classes), each row of sum 1.

    Raises:
      ValueError: If an argument is out of its range, `count` does not divide `batch_size`, a
        training split is smaller than a batch, or an augmentation cannot take the images.
    """
    if training:
        return epochs(
            split,
            batch_size,
            1,
            first=epoch,
            seed=seed,
            augmentation=augmentation,
            skip=skip,
            shard=shard,
            num_classes=num_classes,
        )
    check_whole("data", "epoch", epoch, 0)
    check_whole("data", "seed", seed, 0)
    bounds = _bounds(len(split), batch_size, shard)
    skip = _check_skip(skip, len(bounds), batch_size)
    whole = np.arange(len(split), dtype=np.int32)
    nothing = Augmenting((), seed, None, split.image_shape)
    return _pipeline(split, bounds[skip:], whole, shard[0], nothing)


def epochs(
    split: Split,
    batch_size: int,
    count: int,
    *,
    first: int = 0,
    seed: int = 0,
    augmentation: Any = (),
    skip: int = 0,
    shard: tuple[int, int] = (1, 0),
    num_classes: int | None = None,
) -> tf.data.Dataset:
    """Training batches of `count` epochs, one after the other, each in an order of its own.

    For `model.fit(data.epochs(train, 128, 10), epochs=10, steps_per_epoch=...)`: it gets the same
    batches as the trainer does; a single `batches(training=True)` would repeat one epoch.

    The order, crops and flips of all epochs are drawn up front from (seed, epoch) by NumPy, 4 to 7
    bytes for each image of each epoch; the one pipeline gathers, augments and scales.

    Args:
      split: The examples.
      batch_size: Examples per global batch (over all workers), 1 or more.
      count: Number of epochs, 1 or more.
      first: Which epoch is the first, 0 or more.
      seed: Seed of the run, 0 or more.
      augmentation: What is done to the images, one or a list of them.
      skip: Batches of the first epoch that were already done, 0 .. `steps_per_epoch`.
      shard: See `batches`.
      num_classes: See `batches`.

    Returns:
      (images, labels) as `batches` gives them, `count * steps_per_epoch - skip` batches.

    Raises:
      ValueError: As `batches`, or `count` below 1.
    """
    count = check_whole("data.epochs", "count", count, 1)
    first, seed = check_whole("data", "epoch", first, 0), check_whole("data", "seed", seed, 0)
    steps = steps_per_epoch(split, batch_size)
    size = steps * batch_size
    one = _bounds(size, batch_size, shard)
    skip = _check_skip(skip, steps, batch_size)
    made = Augmenting(augmentation, seed, num_classes, split.image_shape, len(split))
    if isinstance(split, SequentialSplit):
        wanted = range(first, first + count)
        found = split.epochs(batch_size, steps, wanted, made, skip, shard)
        return _finished(found.map(lambda x, y: (to_unit_interval(x), y)), shard[0])
    stride = size + made.extra
    bounds = np.concatenate([one + stride * number for number in range(count)])[skip:]
    orders, draws = [], []
    for epoch in range(first, first + count):
        order = split.order(seed, epoch, batch_size)
        order = np.resize(order, max(stride, len(order)))[:stride]  # after the last, the first
        orders.append(order)
        # Offsets and flips are small.
        drawn = [one[order] for one in made.draw(len(split), epoch)]
        draws.append([one.astype(np.min_scalar_type(one.max())) for one in drawn])
    order, share = np.concatenate(orders), batch_size // shard[0]
    drawn = [np.concatenate(parts) for parts in zip(*draws, strict=True)]
    return _pipeline(split, bounds, order, shard[0], made, share, drawn, (first, stride))


def _check_skip(skip: int, steps: int, batch_size: int) -> int:
    if check_whole("data", "skip", skip, 0) > steps:
        raise ValueError(
            f"skip is {skip}, but the epoch has {steps} batches of {batch_size}; it must be "
            f"0 .. {steps}."
        )
    return skip


def _bounds(size: int, batch_size: int, shard: tuple[int, int]) -> np.ndarray:
    """First and last position of each batch, or of a worker's part of it, int64 (batches, 2)."""
    batch_size, (count, index) = _check_shard(shard, batch_size)
    first = np.arange(0, size, batch_size, dtype=np.int64)
    parts = np.minimum(first + batch_size, size) - first
    return np.stack([first + parts * index // count, first + parts * (index + 1) // count], 1)


def _pipeline(
    split: Split,
    bounds: np.ndarray,
    order: np.ndarray,
    workers: int,
    augmenting: Augmenting,
    batch_size: int | None = None,
    drawn: Sequence[np.ndarray] = (),
    epochs: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """Batches between `bounds` of the examples in this order.

    Args:
      split: The examples.
      bounds: Of each batch, positions in `order`.
      order: Positions in the split, int32.
      workers: How many share each batch.
      augmenting: What is done to them.
      batch_size: Of each batch, or None if they differ.
      drawn: What the augmentation drew, for each entry of `order`.
      epochs: The first one, and how many entries of `order` each has.
    """
    bounds = bounds + [0, augmenting.extra]
    # Tensors, captured by the functions below: as NumPy arrays they would be copied into their
    # graphs as constants. On the host, where tf.data runs, whatever the strategy in force.
    with tf.init_scope(), tf.device("CPU:0"):
        all_labels = split.tensors[1] if split.in_memory else tf.constant(split.labels)
        all_images = split.tensors[0] if split.in_memory else None
        order = tf.constant(order)
        draws = tuple(map(tf.constant, drawn))

    @tf.autograph.experimental.do_not_convert  # it would rewrite the errors of augmentations
    def load(bound: tf.Tensor, images: tf.Tensor | None = None) -> tuple[tf.Tensor, tf.Tensor]:
        part = slice(bound[0], bound[1])
        where = order[part]
        if batch_size is not None:
            where = tf.ensure_shape(where, [batch_size + augmenting.extra])
        images = tf.gather(all_images, where) if images is None else images
        labels = tf.gather(all_labels, where)
        epoch = epochs[0] + bound[0] // epochs[1]
        own = tuple(draw[part] for draw in draws)
        images, labels = augmenting(images, labels, where, epoch, own)
        return to_unit_interval(images), labels

    with tf.init_scope():
        dataset = tf.data.Dataset.from_tensor_slices(bounds)
        if isinstance(split, (StreamedSplit, SequentialSplit)):
            dataset = tf.data.Dataset.zip((dataset, _read(split, bounds, order)))
        dataset = dataset.map(load, num_parallel_calls=_PARALLEL, deterministic=True)
    return _finished(dataset, workers)


def _finished(dataset: tf.data.Dataset, workers: int) -> tf.data.Dataset:
    """Batches as they are handed out, made ready while others are in use."""
    with tf.init_scope():
        dataset = dataset.prefetch(_PREFETCHED)
    options = pipeline_options()
    # There are no files to deal out. A part is not to be cut again by tf.distribute.
    policy = tf.data.experimental.AutoShardPolicy
    options.experimental_distribute.auto_shard_policy = policy.DATA if workers == 1 else policy.OFF
    return dataset.with_options(options)


def _read(
    split: StreamedSplit | SequentialSplit, bounds: np.ndarray, order: tf.Tensor
) -> tf.data.Dataset:
    """The images between `bounds`, bound by bound: (B, ...) of `split.dtype`."""
    if isinstance(split, SequentialSplit):  # not in training: in the order of the split
        parts = [np.arange(*bound) for bound in bounds]
        found = split.select(np.concatenate(parts)).in_order() if parts else split.in_order()
    else:
        with tf.device("CPU:0"):
            numbers = tf.constant(split.numbers)

        def of_batch(bound: tf.Tensor) -> tf.data.Dataset:
            part = tf.gather(numbers, order[bound[0] : bound[1]])
            return tf.data.Dataset.from_tensor_slices(part)

        found = tf.data.Dataset.from_tensor_slices(bounds).flat_map(of_batch)
        found = found.map(split.read_one, num_parallel_calls=PARALLEL, deterministic=True)
    sizes = bounds[:, 1] - bounds[:, 0]  # all but the last are equal, the last is not larger
    size = max(int(sizes[:1].sum()), 1)
    found = found.batch(size, drop_remainder=bool((sizes == size).all()))
    if len(sizes) and not sizes[-1]:  # a worker's part of a small last batch
        empty = tf.zeros([1, 0, *split.image_shape], split.dtype)
        found = found.concatenate(tf.data.Dataset.from_tensor_slices(empty))
    return found


def _check_shard(shard: tuple[int, int], batch_size: int) -> tuple[int, tuple[int, int]]:
    batch_size = check_whole("data", "batch_size", batch_size, 1)
    try:
        count, index = shard
    except (TypeError, ValueError):
        raise ValueError(f"shard is {shard!r}; it must be a pair (count, index).") from None
    count = check_whole("data", "shard[0]", count, 1)
    index = check_whole("data", "shard[1]", index, 0)
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
    return batch_size, (count, index)
