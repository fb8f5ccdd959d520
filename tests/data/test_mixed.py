"""Additional examples in a fixed part of every batch."""

import numpy as np
import pytest

from robust_tf import data


def split(count, first):
    """`count` examples that tell their number by their only pixel and by their label."""
    numbers = np.arange(first, first + count)
    return data.Split(numbers.astype("uint8").reshape(-1, 1, 1, 1), numbers)


def mixed(own=20, extra=7, fraction=0.25):
    return data.MixedSplit.of(split(own, 0), split(extra, 100), fraction)


def labels_of(*arguments, **changes):
    return [y.numpy() for _, y in data.batches(*arguments, training=True, **changes)]


def test_each_batch_holds_its_part_of_both():
    batches = labels_of(mixed(), 8)
    assert len(batches) == data.steps_per_epoch(mixed(), 8) == 2  # 20 own examples make an epoch
    for batch in batches:
        assert len(batch) == 8 and (batch >= 100).sum() == 2
    drawn = np.concatenate(batches)
    assert len(set(drawn)) == 16  # none twice: there are enough of both
    # Shuffled within the batch, not always behind each other.
    places = {
        tuple(batch >= 100) for epoch in range(4) for batch in labels_of(mixed(), 8, epoch=epoch)
    }
    assert len(places) > 3


def test_a_small_set_comes_round_again():
    drawn = np.concatenate(labels_of(mixed(extra=3, fraction=0.5), 4))
    added = np.unique(drawn[drawn >= 100], return_counts=True)[1]
    assert added.sum() == 10 and sorted(added) == [3, 3, 4]


def test_fixed_by_seed_and_epoch_and_continued():
    whole = labels_of(mixed(), 8, epoch=3, seed=5)
    np.testing.assert_array_equal(labels_of(mixed(), 8, epoch=3, seed=5, skip=1), whole[1:])
    parts = [labels_of(mixed(), 8, epoch=3, seed=5, shard=(2, k)) for k in (0, 1)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)
    assert (np.array(labels_of(mixed(), 8, epoch=4, seed=5)) != np.array(whole)).any()


def test_refused():
    with pytest.raises(ValueError, match="batch_size is 4 and 0.1 of it additional: 0 of each"):
        labels_of(mixed(fraction=0.1), 4)
    large = data.Split(np.zeros((3, 2, 2, 1), "uint8"), np.zeros(3, int))
    with pytest.raises(ValueError, match=r"additional images are uint8 \(2, 2, 1\), the own ones"):
        data.MixedSplit.of(split(4, 0), large, 0.5)
    with pytest.raises(ValueError, match="only 20 training examples"):
        labels_of(mixed(), 24)
