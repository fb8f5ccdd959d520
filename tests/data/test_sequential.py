"""A `tf.data.Dataset` as a split: read in its order, again and again, from its beginning."""

import numpy as np
import pytest
import tensorflow as tf

from robust_tf import data

IMAGES = np.random.default_rng(1).integers(0, 256, (150, 4, 4, 3), np.uint8)
LABELS = np.arange(150) % 7


def examples():
    return tf.data.Dataset.from_tensor_slices((IMAGES, LABELS))


def split(dataset=None):
    return data.SequentialSplit(examples() if dataset is None else dataset)


def test_read_by_position():
    found = split()
    assert len(found) == 150 and found.image_shape == (4, 4, 3) and found.dtype == np.uint8
    assert found.labels.dtype == np.int32 and not found.in_memory
    for positions in ([3, 4, 90], [149], [0, 2], [77, 5, 5, 140]):
        np.testing.assert_array_equal(found.at(np.array(positions)), IMAGES[positions])
    part = found.select(np.array([140, 3, 70]))
    np.testing.assert_array_equal(part.images, IMAGES[[3, 70, 140]])
    assert part.labels.tolist() == LABELS[[3, 70, 140]].tolist()
    np.testing.assert_array_equal(part.take(2).at(np.array([1])), IMAGES[[70]])
    assert found.fingerprint == data.Split(IMAGES, LABELS).fingerprint


def test_batches_are_read_alike():
    by_batch = split(examples().batch(40))
    np.testing.assert_array_equal(by_batch.images, IMAGES)


@pytest.mark.parametrize("shard", [(1, 0), (2, 0), (2, 1)])
@pytest.mark.parametrize("size", [20, 50, 148])
def test_in_order_as_from_memory(size, shard):
    expected = list(data.batches(data.Split(IMAGES, LABELS), size, shard=shard))
    got = list(data.batches(split(), size, shard=shard))
    for (x, y), (x_got, y_got) in zip(expected, got, strict=True):
        np.testing.assert_array_equal(x, x_got)
        np.testing.assert_array_equal(y, y_got)


def _numbers(batches):
    """Which examples the images of batches are."""
    known = {image.tobytes(): number for number, image in enumerate(IMAGES)}
    return [[known[np.rint(x * 255).astype(np.uint8).tobytes()] for x in xs] for xs, _ in batches]


def test_training_epochs():
    found = split()
    batches = [(x.numpy(), y.numpy()) for x, y in data.epochs(found, 20, 3, seed=2)]
    assert len(batches) == 21 and batches[0][0].dtype == np.float32
    numbers = _numbers(batches)
    for epoch in range(3):
        seen = sum(numbers[7 * epoch : 7 * epoch + 7], [])
        assert len(set(seen)) == 140 and seen != sorted(seen)
    assert numbers[:7] != numbers[7:14]
    for (_, labels), those in zip(batches, numbers, strict=True):
        assert labels.tolist() == LABELS[those].tolist()
    rest = [(x.numpy(), y.numpy()) for x, y in data.epochs(found, 20, 2, first=1, seed=2, skip=3)]
    assert _numbers(rest) == numbers[10:]
    other = [(x.numpy(), y.numpy()) for x, y in data.epochs(found, 20, 1, seed=3)]
    assert _numbers(other) != numbers[:7]
    parts = [
        [(x.numpy(), y.numpy()) for x, y in data.epochs(found, 20, 1, seed=2, shard=(2, index))]
        for index in (0, 1)
    ]
    joined = [one + two for one, two in zip(*map(_numbers, parts), strict=True)]
    assert joined == numbers[:7]


def test_augmentation_belongs_to_the_example():
    augmentation = data.Augmentation(pad=1, flip=True)
    found = split()
    for epoch in (0, 4):
        offsets, flips = augmentation.draw(150, 5, epoch)
        (batch,) = data.epochs(found, 150, 1, first=epoch, seed=5, augmentation=augmentation)
        plain = _numbers(data.epochs(found, 150, 1, first=epoch, seed=5))[0]
        padded = np.pad(IMAGES, [(0, 0), (1, 1), (1, 1), (0, 0)])
        for image, number in zip(batch[0].numpy(), plain, strict=True):
            top, left = offsets[number]
            expected = padded[number, top : top + 4, left : left + 4]
            expected = expected[:, ::-1] if flips[number] else expected
            np.testing.assert_array_equal(np.rint(image * 255), expected)


def test_only_the_selected_are_trained_on():
    part = split().select(np.arange(0, 150, 3))
    numbers = _numbers(data.epochs(part, 10, 2, seed=1))
    assert len(numbers) == 10
    assert sorted(sum(numbers[:5], [])) == list(range(0, 150, 3))


@pytest.mark.parametrize(
    "dataset, says",
    [
        (tf.data.Dataset.range(3), "pairs"),
        (examples().map(lambda x, y: (tf.cast(x, tf.int32), y)), "images are int32"),
        (examples().map(lambda x, y: (tf.cast(x, tf.float32), y)), r"span 0 \.\. 255"),
        (examples().map(lambda x, y: (x, tf.one_hot(y, 7))), "class ids(.|\n)*argmax"),
        (examples().map(lambda x, y: (x, tf.cast(y, tf.float32))), "labels are float32"),
        (examples().take(0), "is empty"),
        (examples().repeat(), "endless"),
        (
            examples().map(lambda x, y: (x[: tf.cast(y, tf.int32) % 2 + 1], y)),
            "must all have one",
        ),
    ],
)
def test_what_is_no_split(dataset, says):
    with pytest.raises(data.DataError, match=says):
        split(dataset)


def test_another_order_each_time_is_seen():
    found = split(examples().shuffle(150, seed=3, reshuffle_each_iteration=True))
    with pytest.raises(data.DataError, match="reshuffle_each_iteration=False"):
        found.images  # noqa: B018
