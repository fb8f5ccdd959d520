"""Several epochs in one dataset."""

import numpy as np
import pytest

from robust_tf import data


def test_epochs_are_the_epochs_of_the_trainer():
    train = data.load("digits").train.take(100)
    steps = data.steps_per_epoch(train, 32)
    got = list(data.epochs(train, 32, 3, seed=5, augmentation=data.Augmentation(2, True)))
    assert len(got) == 3 * steps
    for epoch in range(3):
        wanted = data.batches(
            train, 32, epoch=epoch, seed=5, training=True, augmentation=data.Augmentation(2, True)
        )
        for (x, y), (x_got, y_got) in zip(wanted, got[epoch * steps :], strict=False):
            np.testing.assert_array_equal(x, x_got)
            np.testing.assert_array_equal(y, y_got)
    assert not np.array_equal(got[0][1], got[steps][1])


def test_no_epochs_are_refused():
    with pytest.raises(ValueError, match="count"):
        data.epochs(data.load("digits").train, 32, 0)
