"""Square Attack against loops written out in NumPy, and on models whose worst point is known."""

import functools
import math

import numpy as np
import pytest
import tensorflow as tf

from robust_tf import attacks
from robust_tf.attacks import square
from robust_tf.attacks.randomness import as_seed, each, fold, uniform
from robust_tf.attacks.square_moves import bump
from tests.attacks import reference_square as reference
from tests.tiny import Smooth, images

SEED = 5


class Tanh:
    """A smooth network for images of any shape, in TensorFlow and in NumPy."""

    def __init__(self, shape, seed=0):
        rng = np.random.default_rng(seed)
        size = math.prod(shape)
        self.first = rng.normal(0, 3 / math.sqrt(size), (size, 12)).astype("float32")
        self.second = rng.normal(0, 1.0, (12, 4)).astype("float32")
        self.x = rng.random((5, *shape)).astype("float32")
        self.y = np.argmax(self(self.x), axis=1).astype("int32")

    def __call__(self, x):
        return tf.tanh(tf.reshape(x - 0.5, [-1, len(self.first)]) @ self.first) @ self.second

    def score(self, image):
        return np.tanh((image.reshape(-1) - 0.5) @ self.first.astype("float64")) @ self.second


def numbers_of(attack, shape, draw, many):
    """What restart `draw // draws` draws for 50 queries, or for its start."""
    seeds = each(as_seed(SEED), 5)
    return uniform(fold(seeds, draw), [5, *many]).numpy()


CASES = {
    "Linf": ("Linf", (8, 8, 1), 0.02, 2 + 1, 8),
    "Linf colour": ("Linf", (7, 10, 3), 0.02, 2 + 3, 10 * 3),
    "Linf points": ("Linf", (30,), 0.02, 2 + 1, 30),
    "L2": ("L2", (12, 12, 1), 0.3, 5 + 1, 6 * 6 * 2),
    "L2 colour": ("L2", (11, 16, 3), 0.4, 5 + 3, 5 * 8 * 4),
    "L2 signal": ("L2", (30, 1), 0.25, 5 + 1, 5 * 2),
    "L1": ("L1", (12, 12, 1), 2.0, 5 + 1, 6 * 6 * 2),
    "L1 colour": ("L1", (11, 16, 3), 4.0, 5 + 3, 5 * 8 * 4),
    "L1 points": ("L1", (30,), 0.45, 5 + 1, 5 * 2),
}


@pytest.mark.parametrize("name", CASES)
def test_trajectory(name, monkeypatch):
    monkeypatch.setattr(square, "_BLOCK", 50)
    norm, shape, eps, per_query, per_start = CASES[name]
    model, queries = Tanh(shape), 120
    attack = attacks.Square(eps, queries, norm=norm, restarts=2, rescale_schedule=True)
    x_adv = attack(model, model.x, model.y, seed=SEED).numpy()
    run = {
        "Linf": reference.linf,
        "L2": functools.partial(reference.bumps, order=2),
        "L1": functools.partial(reference.bumps, order=1),
    }[norm]
    whole = (1, shape[0], 1) if len(shape) < 3 else shape
    forwards, broken = 0, []
    for n, y in enumerate(model.y):
        x = model.x[n].astype("float64").reshape(whole)
        best, lowest = x, reference.margin(model.score(x), y)
        forwards += 1
        for restart in range(2):
            draws = [numbers_of(attack, shape, 4 * restart + k, (50, per_query)) for k in range(3)]
            start = numbers_of(attack, shape, 4 * restart + 3, (per_start,))[n]
            numbers = np.concatenate(draws, axis=1)[n, :queries]
            image, trail = run(model.score, x, y, eps, numbers, start, stretch=10_000 / queries)
            forwards += len(trail)
            if min(trail) < lowest:
                best, lowest = image, min(trail)
            if lowest < 0:
                break
        broken.append(lowest < 0)
        np.testing.assert_allclose(x_adv[n], best.reshape(shape), rtol=0, atol=1e-5)
    assert 0 < sum(broken) < 5, broken
    assert attack.passes(model) == (forwards, 0)


def test_bumps():
    for height in range(1, 8):
        for width in range(1, 8):
            for order in (1, 2):
                expected = reference.bump(height, width, order)
                found = bump(height, width, order)
                np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_schedule():
    shares = attacks.Square(0.1, queries=9002, p_init=0.64)._shares()
    first = [0, 11, 51, 201, 501, 1001, 2001, 4001, 6001, 8001]
    assert np.flatnonzero(np.diff(shares, prepend=1)).tolist() == first
    np.testing.assert_array_equal(shares[first], 0.64 / 2.0 ** np.arange(10))
    stretched = attacks.Square(0.1, queries=1000, rescale_schedule=True)._shares()
    assert np.flatnonzero(np.diff(stretched)).tolist() == [1, 5, 20, 50, 100, 200, 400, 600, 800]


def sure_linear(shape):
    """w, x and a model of two classes that stays with class 0, the more so the higher w x."""
    rng = np.random.default_rng(2)
    w = rng.normal(0, 0.1, shape).astype("float32")

    def model(x):
        lead = tf.reshape(x, [-1, w.size]) @ w.reshape(-1, 1) + 10
        return tf.concat([lead, -lead], axis=1)

    return w, rng.random((4, *shape)).astype("float32"), model


def test_worst_point_of_a_linear_model():
    w, x, model = sure_linear((5, 6, 2))
    attack = attacks.Square(0.1, queries=2000, rescale_schedule=True)
    x_adv = attack(model, x, np.zeros(4, "int32")).numpy()
    worst = np.clip(x - 0.1 * np.sign(w), 0, 1)
    np.testing.assert_allclose(x_adv, worst, rtol=0, atol=1e-7)
    assert attack.passes(model) == (4 * 2001, 0)


def test_most_of_the_worst_of_a_linear_model_in_l2():
    w, x, model = sure_linear((9, 9, 1))
    x = 0.3 + 0.4 * x
    attack = attacks.Square(1.0, queries=2000, norm="L2", rescale_schedule=True)
    step = attack(model, x, np.zeros(4, "int32")).numpy() - x
    gain = -(step * w).sum((1, 2, 3)) / np.linalg.norm(w)
    assert (gain > 0.7).all() and (gain <= 1).all(), gain


def test_more_queries_and_restarts_are_never_weaker():
    model, x = Smooth(), images()
    y = np.argmax(model(x), axis=1).astype("int32")

    def lead(**arguments):
        x_adv = attacks.Square(0.02, **arguments)(model, x, y, seed=3)
        logits = np.asarray(model(x_adv), "float64")
        return np.array(
            [reference.margin(row, label) for row, label in zip(logits, y, strict=True)]
        )

    few, more, again = lead(queries=10), lead(queries=100), lead(queries=100, restarts=2)
    standing = few > 0
    assert standing.any()
    assert (more <= few + 1e-6)[standing].all() and (again <= more + 1e-6)[more > 0].all()


def test_misclassified_images_cost_one_forward():
    model, x = Smooth(), images()
    wrong = ((np.argmax(model(x), axis=1) + 1) % 3).astype("int32")
    attack = attacks.Square(0.3)
    np.testing.assert_array_equal(attack(model, x, wrong), x)
    assert attack.passes(model) == (len(x), 0)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"eps": -1}, r"Square\(eps=-1\)"),
        ({"norm": "L3"}, r"norm='L3'\): must be one of \('Linf', 'L2', 'L1'\)"),
        ({"queries": 0}, r"queries=0\): must be an integer >= 1"),
        ({"restarts": 1.5}, r"restarts=1.5\): must be an integer >= 1"),
        ({"p_init": 0}, r"p_init=0\): must be in \(0, 1\]; the paper uses 0.8"),
        ({"batch_norm": "off"}, r"batch_norm='off': must be one of"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        attacks.Square(**{"eps": 0.1, **arguments})


def test_refuses_images_of_four_axes():
    x = np.zeros((2, 3, 3, 3, 3), "float32")
    model = Tanh((3, 3, 3, 3))
    with pytest.raises(ValueError, match=r"shape \(3, 3, 3, 3\); expected \(H, W, C\), .*reshape"):
        attacks.Square(0.1)(model, x, np.zeros(2, "int32"))
