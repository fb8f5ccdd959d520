"""Evaluation of images that are not in memory: the verdicts of those that are."""

import numpy as np
import pytest
import tensorflow as tf

from robust_tf import data
from robust_tf.attacks import FGSM, PGD
from robust_tf.evaluation import EvaluationState, evaluate, merge

IMAGES = np.random.default_rng(5).integers(0, 256, (40, 4, 4, 1), np.uint8)
WEIGHTS = tf.constant(np.random.default_rng(6).normal(size=(16, 3)), tf.float32)
ATTACKS = {"one": FGSM(0.03), "several": PGD(0.06, 0.02, 3)}


def network(x):
    return tf.reshape(x - 0.5, [-1, 16]) @ WEIGHTS


LABELS = network(tf.constant(IMAGES, tf.float32) / 255).numpy().argmax(1)
LABELS[::7] = (LABELS[::7] + 1) % 3


def _streamed():
    images = tf.constant(IMAGES)
    return data.StreamedSplit(
        data.Reader(lambda number: images[number], (4, 4, 1), np.uint8, str), LABELS
    )


def _dataset():
    return tf.data.Dataset.from_tensor_slices((IMAGES, LABELS))


def _same(first, second):
    assert first.natural.tolist() == second.natural.tolist()
    for name in ATTACKS:
        np.testing.assert_array_equal(first.robust[name], second.robust[name])


@pytest.mark.parametrize("make", [_streamed, _dataset, lambda: _dataset().batch(9)])
def test_verdicts_by_position(make, tmp_path):
    options = {"batch_size": 7, "progress": False, "eight_bits": True, "seed": 3}
    expected = evaluate(network, (IMAGES, LABELS), ATTACKS, **options)
    assert 0 < expected.robust["several"].sum() < expected.natural.sum() < 40
    got = evaluate(network, make(), ATTACKS, **options)
    _same(expected, got)
    assert got.settings["data_hash"] == expected.settings["data_hash"]
    parts = [evaluate(network, make(), ATTACKS, shard=(k, 2), **options) for k in (1, 2)]
    _same(expected, merge(parts))
    few = evaluate(network, make(), ATTACKS, max_examples=11, **options)
    assert few.natural.tolist() == expected.natural[:11].tolist()
    state = EvaluationState(str(tmp_path / "state"), images=str(tmp_path / "images"))
    _same(expected, evaluate(network, make(), ATTACKS, state=state, **options))


def test_images_are_never_all_in_memory(monkeypatch):
    most = []
    original = data.StreamedSplit.at

    def at(self, positions):
        most.append(len(positions))
        return original(self, positions)

    monkeypatch.setattr(data.StreamedSplit, "at", at)
    monkeypatch.setattr(data.StreamedSplit, "images", property(lambda self: 1 / 0))
    evaluate(network, _streamed(), ATTACKS, batch_size=6, progress=False, checks=False)
    assert max(most) == 6


def test_what_is_no_data():
    with pytest.raises(data.DataError, match="pairs"):
        evaluate(network, tf.data.Dataset.range(4), ATTACKS)
    with pytest.raises(TypeError, match="or a tf.data.Dataset"):
        evaluate(network, "images", ATTACKS)
