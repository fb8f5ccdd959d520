"""Batches: order, determinism, resuming, sharding, augmentation, ranges."""

import concurrent.futures

import numpy as np
import pytest
import tensorflow as tf

from robust_tf import data

_AUGMENTATION = data.Augmentation(pad=2, flip=True)


def _split(size=50, shape=(6, 5, 3)):
    rng = np.random.default_rng(7)
    return data.Split(rng.integers(0, 256, (size, *shape), np.uint8), np.arange(size))


def _collect(dataset):
    return [(x.numpy(), y.numpy()) for x, y in dataset]


def _same(left, right):
    assert len(left) == len(right)
    for (x, y), (u, v) in zip(left, right, strict=True):
        np.testing.assert_array_equal(x, u)
        np.testing.assert_array_equal(y, v)


def _training(split, batch_size=8, **options):
    options = {"epoch": 3, "seed": 11, "augmentation": _AUGMENTATION, **options}
    return _collect(data.batches(split, batch_size, training=True, **options))


def _by_example(pairs):
    return {label: image for x, y in pairs for image, label in zip(x, y, strict=True)}


def test_evaluation_is_the_split_in_order():
    split = _split()
    got = _collect(data.batches(split, 8, epoch=5, seed=5, augmentation=_AUGMENTATION))
    assert [len(y) for _, y in got] == [8] * 6 + [2]
    images = np.concatenate([x for x, _ in got])
    assert images.dtype == np.float32
    np.testing.assert_array_equal(images, split.images.astype(np.float32) / np.float32(255))
    np.testing.assert_array_equal(np.concatenate([y for _, y in got]), split.labels)


def test_range_is_exactly_zero_to_one():
    split = data.Split(np.arange(256, dtype=np.uint8).reshape(256, 1, 1, 1), np.zeros(256, int))
    ((images, labels),) = _collect(data.batches(split, 256))
    assert images.min() == 0 and images.max() == 1 and labels.dtype == np.int32
    np.testing.assert_array_equal(np.rint(images.ravel() * 255), np.arange(256))


def test_training_sees_each_example_once_and_drops_the_remainder():
    split = _split()
    dataset = data.batches(split, 8, training=True)
    assert dataset.element_spec[0].shape == (8, 6, 5, 3)
    assert dataset.cardinality() == data.steps_per_epoch(split, 8) == 6
    labels = np.concatenate([y for _, y in _collect(dataset)])
    assert len(labels) == len(set(labels)) == 48
    assert not np.array_equal(labels, np.sort(labels))


def test_same_seed_and_epoch_same_bits_others_differ():
    split = _split()
    first = _training(split)
    _same(first, _training(_split()))
    for other in ({"epoch": 4}, {"seed": 12}):
        got = _training(split, **other)
        assert not np.array_equal(got[0][1], first[0][1])
        ours, theirs = _by_example(first), _by_example(got)
        moved = [not np.array_equal(ours[k], theirs[k]) for k in ours.keys() & theirs.keys()]
        assert np.mean(moved) > 0.7


def test_two_passes_over_one_dataset_are_equal():
    dataset = data.batches(_split(), 8, training=True, augmentation=_AUGMENTATION)
    _same(_collect(dataset), _collect(dataset))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("skip", [0, 1, 4, 6])
def test_resuming_gives_the_remaining_batches(training, skip):
    split, options = _split(), dict(epoch=2, seed=3, augmentation=_AUGMENTATION)
    whole = _collect(data.batches(split, 8, training=training, **options))
    _same(whole[skip:], _collect(data.batches(split, 8, training=training, skip=skip, **options)))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("count", [2, 4])
def test_shards_in_order_are_the_global_batch(training, count):
    split, options = _split(), dict(epoch=1, seed=2, augmentation=_AUGMENTATION, training=training)
    whole = _collect(data.batches(split, 8, **options))
    parts = [_collect(data.batches(split, 8, shard=(count, i), **options)) for i in range(count)]
    assert {len(part) for part in parts} == {len(whole)}  # no worker waits for another
    joined = [
        tuple(np.concatenate(pieces) for pieces in zip(*step, strict=True))
        for step in zip(*parts, strict=True)
    ]
    _same(whole, joined)
    if training:
        assert all(len(y) == 8 // count for part in parts for _, y in part)


def test_an_example_is_augmented_alike_in_any_batch():
    split = _split()
    ones, tens = _by_example(_training(split, 1)), _by_example(_training(split, 10))
    assert len(ones) == len(tens) == 50
    for label, image in ones.items():
        np.testing.assert_array_equal(image, tens[label])


@pytest.mark.parametrize("pad", [0, 1, 4])
@pytest.mark.parametrize("flip", [False, True])
def test_crop_and_flip_equal_numpy(pad, flip):
    split, augmentation = _split(40), data.Augmentation(pad, flip)
    offsets, flips = augmentation.draw(40, seed=11, epoch=3)
    assert offsets.min() >= 0 and offsets.max() <= 2 * pad
    got = _by_example(_training(split, 4, augmentation=augmentation))
    for label, image in got.items():
        height, width, channels = split.images[label].shape
        canvas = np.zeros((height + 2 * pad, width + 2 * pad, channels), np.uint8)
        canvas[pad : pad + height, pad : pad + width] = split.images[label]
        top, left = offsets[label]
        expected = canvas[top : top + height, left : left + width]
        expected = np.fliplr(expected) if flips[label] else expected
        np.testing.assert_array_equal(image, expected.astype(np.float32) / np.float32(255))
    assert flips.any() == flip


def test_draws_are_uniform_and_independent():
    offsets, flips = data.Augmentation(2, True).draw(20_000, seed=0, epoch=0)
    for axis in (0, 1):
        np.testing.assert_allclose(np.bincount(offsets[:, axis]) / 20_000, 0.2, atol=0.015)
    assert abs(flips.mean() - 0.5) < 0.015
    assert np.abs(np.corrcoef(np.column_stack([offsets, flips]).T) - np.eye(3)).max() < 0.03
    # One kind of augmentation does not disturb the other.
    np.testing.assert_array_equal(data.Augmentation(2, False).draw(20_000, 0, 0)[0], offsets)
    np.testing.assert_array_equal(data.Augmentation(0, True).draw(20_000, 0, 0)[1], flips)


def test_points_pass_unchanged_and_cannot_be_cropped():
    moons = data.load("moons")
    ((points, _),) = _collect(data.batches(moons.test, 1000))
    np.testing.assert_array_equal(points, moons.test.images)
    with pytest.raises(ValueError, match=r"\(1000, 2\).*Augmentation.pad = 0"):
        data.batches(moons.test, 10, training=True, augmentation=_AUGMENTATION)


def test_empty_split_has_no_batches():
    assert not _collect(data.batches(data.load(validation_size=0).validation, 8))


@pytest.mark.parametrize("fields", [{"pad": -1}, {"pad": 1.5}, {"pad": True}, {"flip": 1}])
def test_augmentation_refuses(fields):
    with pytest.raises(ValueError, match=rf"Augmentation\({next(iter(fields))}="):
        data.Augmentation(**fields)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"batch_size": 0}, r"data\(batch_size=0\): must be an integer >= 1"),
        ({"batch_size": 51}, "batch_size is 51.* 50 training examples.*validation_size"),
        ({"batch_size": 8, "skip": 7}, r"skip is 7.*0 \.\. 6"),
        ({"batch_size": 8, "skip": -1}, r"data\(skip=-1\)"),
        ({"batch_size": 8, "epoch": -1}, r"data\(epoch=-1\)"),
        ({"batch_size": 8, "seed": -1}, r"data\(seed=-1\)"),
        ({"batch_size": 8, "shard": (3, 0)}, "8 .*3 workers; take 6 or 9"),
        ({"batch_size": 8, "shard": (2, 2)}, r"0 \.\. 1"),
        ({"batch_size": 8, "shard": 2}, "pair"),
    ],
)
def test_batches_refuse(options, says):
    with pytest.raises(ValueError, match=says):
        data.batches(_split(), training=True, **options)


def test_no_python_and_no_pixels_in_the_graph():
    split = _split(2000)
    dataset = data.batches(split, 8, training=True, augmentation=_AUGMENTATION)
    stored = tf.raw_ops.DatasetToGraphV2(
        input_dataset=dataset._variant_tensor, external_state_policy=2
    )
    graph = tf.compat.v1.GraphDef.FromString(stored.numpy())
    operations = {node.op for f in graph.library.function for node in f.node_def}
    assert not [op for op in operations if "PyFunc" in op]
    assert sum(f.ByteSize() for f in graph.library.function) < 50_000


def test_threads_agree():
    split = _split()
    expected = _training(split)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for got in pool.map(lambda _: _training(split), range(8)):
            _same(expected, got)


def test_mirrored_strategy_gets_the_global_batch():
    devices = tf.config.list_logical_devices("CPU")
    strategy = tf.distribute.MirroredStrategy([device.name for device in devices])
    split = _split()
    with strategy.scope():
        dataset = data.batches(split, 8, training=True, augmentation=_AUGMENTATION)
    spread = strategy.experimental_distribute_dataset(dataset)
    got = [
        tuple(np.concatenate(strategy.experimental_local_results(part)) for part in pair)
        for pair in spread
    ]
    _same(_collect(dataset), got)


def test_the_pixels_are_copied_once(monkeypatch):
    rng = np.random.default_rng(0)
    split = data.Split(rng.integers(0, 256, (6_000, 28, 28, 1), np.uint8), np.zeros(6_000, int))
    real, copied = tf.constant, []

    def constant(value, *arguments, **named):
        copied.append(np.asarray(value).nbytes)
        return real(value, *arguments, **named)

    monkeypatch.setattr(tf, "constant", constant)
    for epoch in range(3):
        next(iter(data.batches(split, 128, training=True, augmentation=_AUGMENTATION, epoch=epoch)))
    assert [size for size in copied if size > split.images.nbytes // 10] == [split.images.nbytes]
