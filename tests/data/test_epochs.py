"""Several epochs in one dataset."""

import hashlib

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


def _digest(dataset):
    digest = hashlib.sha256()
    for x, y in dataset:
        digest.update(x.numpy().tobytes() + y.numpy().tobytes())
    return digest.hexdigest()[:16]


def _few():
    return data.load("digits").train


@pytest.mark.parametrize(
    "split, batch_size, count, options, digest",
    [
        (lambda: _few().take(100), 32, 3, {"seed": 5}, "a7051716108f5cda"),
        (
            lambda: _few().take(100),
            32,
            3,
            {"seed": 5, "augmentation": data.Augmentation(2, True)},
            "8fcc8de3e914a5bc",
        ),
        (
            lambda: data.MixedSplit.of(
                _few().take(60), data.Split(_few().images[200:240], _few().labels[200:240]), 0.25
            ),
            16,
            4,
            {"seed": 2, "augmentation": data.Augmentation(0, True)},
            "d1a7ae14935c9fcd",
        ),
    ],
    ids=["plain", "augmented", "mixed"],
)
def test_the_bits_are_those_of_version_0_1(split, batch_size, count, options, digest):
    """There each epoch had a pipeline of its own; runs that it began continue here."""
    assert _digest(data.epochs(split(), batch_size, count, **options)) == digest


@pytest.mark.parametrize("shard", [(1, 0), (2, 1)])
def test_epochs_continue_within_one(shard):
    options = {"seed": 3, "augmentation": data.Augmentation(1, True), "shard": shard}
    split = _few().take(50)
    whole = list(data.epochs(split, 8, 4, **options))
    rest = data.epochs(split, 8, 3, first=1, skip=2, **options)
    assert rest.cardinality() == 3 * 6 - 2
    for (x, y), (x_got, y_got) in zip(whole[6 + 2 :], rest, strict=True):
        np.testing.assert_array_equal(x, x_got)
        np.testing.assert_array_equal(y, y_got)


def test_epochs_cost_one_trace(monkeypatch):
    traced = []
    original = data.pipeline.to_unit_interval
    monkeypatch.setattr(
        data.pipeline, "to_unit_interval", lambda x: traced.append(1) or original(x)
    )
    dataset = data.epochs(_few().take(64), 32, 20, augmentation=data.Augmentation(2, True))
    assert len(list(dataset)) == 40
    assert len(traced) == 1


def test_no_epochs_are_refused():
    with pytest.raises(ValueError, match="count"):
        data.epochs(data.load("digits").train, 32, 0)
