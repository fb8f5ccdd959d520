"""Several runs, or the best of a run: which image is kept, and what the broken ones cost."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from robust_tf import attacks
from robust_tf.attacks.randomness import as_seed, each, fold
from tests.tiny import Smooth, cross_entropies, images, tiny_network

X = images(8)
SEED = 11
CURVED = Smooth(4)


def outcome(attack, y):
    """Whether each example is broken, and its cross-entropy."""
    x_adv = attack(CURVED, X, y, seed=each(as_seed(SEED), len(X)))
    return np.argmax(CURVED(x_adv), axis=1) != y, cross_entropies(CURVED, x_adv, y)


def assert_not_weaker(strong, weak):
    assert (strong[0] | ~weak[0]).all()
    # Of what is broken, the first image found counts, not the worst.
    assert (strong[1] >= weak[1] - 1e-6)[~strong[0]].all()


@pytest.mark.parametrize("keep", ["last", "best"])
def test_restarts_are_never_weaker(keep):
    y = np.argmax(CURVED(X), axis=1).astype("int32")
    # From two to six, too: restarts that all began at one other place would only help the first.
    runs = [outcome(attacks.PGD(0.02, 0.04, 3, n, keep), y) for n in (1, 2, 6)]
    for weak, strong in itertools.pairwise(runs):
        assert_not_weaker(strong, weak)
        assert (strong[1] > weak[1] + 1e-6)[~strong[0]].any()


def test_best_is_not_below_the_start_nor_the_last():
    y = np.argmax(CURVED(X), axis=1).astype("int32")
    # Steps so wide that the iterates leap to and fro.
    best = outcome(attacks.BIM(0.05, 0.1, 4, keep="best"), y)
    last = outcome(attacks.BIM(0.05, 0.1, 4), y)
    assert_not_weaker(best, last)
    assert_not_weaker(best, (np.zeros(len(X), bool), cross_entropies(CURVED, X, y)))


def wavy(x):
    """Logits so uneven that ascent leaves a broken image again; most images are of class 0."""
    wave = tf.sin(8 * tf.reshape(x - 0.5, [-1, 64]) @ CURVED.first)
    return wave @ CURVED.second + [8.0, 0.0, 0.0]


def test_best_of_restarts_judges_every_iterate():
    """Robust means correct at every iterate of every restart, start and last included."""
    x, y = images(24, seed=3), np.zeros(24, "int32")
    eps, step_size = np.float32(0.1), np.float32(0.2)
    attack = attacks.PGD(float(eps), float(step_size), 4, restarts=5, keep="best")
    bounds = attack.threat.bounds(tf.constant(x))
    wrong, iterates = [], []  # [restart][iterate]
    for restart in range(5):
        iterate = attack.start(attack.threat, bounds, fold(each(as_seed(SEED), 24), restart))
        wrong.append([np.argmax(wavy(iterate), axis=1) != y])
        iterates.append([iterate])
        for _ in range(4):
            with tf.GradientTape() as tape:
                tape.watch(iterate)
                loss = tf.nn.sparse_softmax_cross_entropy_with_logits(y, wavy(iterate))
            moved = iterate + step_size * tf.sign(tape.gradient(loss, iterate))
            iterate = tf.clip_by_value(tf.clip_by_value(moved, x - eps, x + eps), 0, 1)
            wrong[-1].append(np.argmax(wavy(iterate), axis=1) != y)
            iterates[-1].append(iterate)
    wrong, iterates = np.array(wrong), np.array(iterates)
    fallen = wrong.any((0, 1))
    x_adv = attack(wavy, x, y, seed=SEED)
    np.testing.assert_array_equal(np.argmax(wavy(x_adv), axis=1) != y, fallen)
    for n in np.flatnonzero(fallen):  # the first one that is broken
        first = iterates[:, :, n][wrong[:, :, n]][0]
        np.testing.assert_allclose(x_adv[n], first, rtol=0, atol=1e-6)
    # The rule matters here: the last iterates, or one restart, break fewer.
    assert wrong[:, -1].any(0).sum() < fallen.sum() < len(x)
    assert wrong[0].any(0).sum() < fallen.sum()


def half_broken(count):
    """A model, images and labels: every other label is wrong, the rest withstands any attack."""

    def model(x):
        return tf.reshape(x, [-1, 64])[:, :3] * 1e-3 + [100.0, 0.0, 0.0]

    return model, images(count), np.arange(count, dtype="int32") % 2


@pytest.mark.parametrize(("restarts", "keep"), [(3, "last"), (1, "best"), (3, "best")])
def test_what_is_broken_costs_nothing_more(restarts, keep):
    model, x, y = half_broken(10)
    attack = attacks.PGD(0.1, 0.05, 4, restarts, keep)
    attack(model, x, y)
    # The broken half is seen at the end of the first run; if every image counts, at its start.
    forwards, gradients = (5, 4) if keep == "last" else (1, 1)
    expected = 5 * (5 * restarts + forwards), 5 * (4 * restarts + gradients)
    assert attack.passes(model) == expected


def test_examples_that_see_each_other_stay_together():
    network = tiny_network(batch_norm=True)
    y = (np.argmax(network(X), axis=1) + np.arange(8) % 2).astype("int32") % 3
    for keep in ("last", "best"):
        attack = attacks.PGD(0.1, 0.05, 4, 2, keep, batch_norm="batch")
        attack(network, X, y)
        assert attack.passes(network) == (2 * 5 * 8, 2 * 4 * 8)


ROWS = {
    "momentum": attacks.MIM(0.1, 0.2, 4, keep="best"),
    "L2": attacks.PGD(1.0, 2.0, 4, 3, "best", norm="L2"),
    "last": attacks.PGD(0.1, 0.2, 4, 5),
    "reference": attacks.ProjectedGradient(
        attacks.Linf(0.1),
        attacks.Steepest(0.2),
        4,
        attacks.KLDivergence(),
        restarts=3,
        keep="best",
    ),
    "targets": attacks.MultiTargeted(attacks.PGD(0.1, 0.2, 3, 2, "best"), logits=True),
    "aims": attacks.MultiTargeted(attacks.PGD(0.1, 0.2, 3, 2, "best")),
}


@pytest.mark.parametrize("name", ROWS)
def test_what_belongs_to_an_example_leaves_with_it(name):
    """In a batch from which the others leave one by one, the result is the one it has alone."""
    x, y = images(24, seed=3), np.zeros(24, "int32")
    seeds, attack = each(as_seed(SEED), len(x)), ROWS[name]
    whole = attack(wavy, x, y, seed=seeds).numpy()
    broken = np.argmax(wavy(whole), axis=1) != y
    assert 0 < broken.sum() < len(x)
    for n in range(len(x)):
        alone = attack(wavy, x[n : n + 1], y[n : n + 1], seed=seeds[n : n + 1])
        np.testing.assert_allclose(alone[0], whole[n], rtol=0, atol=1e-3, err_msg=str(n))
