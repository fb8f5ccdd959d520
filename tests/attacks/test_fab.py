"""FAB and its projections against NumPy, closed forms, and what it costs."""

import numpy as np
import pytest
import tensorflow as tf

from robust_tf.attacks import FAB, fab_projections, randomness
from tests.attacks import reference_fab as reference
from tests.tiny import CLASSES, SHAPE, Smooth, images, same_bits

NORMS = ("Linf", "L2")
PROJECT = {"Linf": fab_projections.project_linf, "L2": fab_projections.project_l2}


class Linear:
    """Images -> logits by one matrix."""

    def __init__(self, weights, bias):
        self.weights, self.bias = (np.asarray(v, "float32") for v in (weights, bias))

    def __call__(self, x):
        return tf.reshape(x, [-1, self.weights.shape[0]]) @ self.weights + self.bias

    def least(self, x, y, norm):
        """The distance of the nearest image in the box of another class."""
        weights, bias, found = self.weights.astype("float64"), self.bias.astype("float64"), []
        for j in range(weights.shape[1]):
            w = weights[:, j] - weights[:, y]
            d = reference.project(x, w, bias[y] - bias[j], norm)
            if j != y and w @ (x + d) >= bias[y] - bias[j] - 1e-9:
                found.append(reference.length(d, norm))
        return min(found, default=np.inf)


def planes(rng, count, n):
    """Points on and off the faces of the box, normals of all sorts, excesses of all sizes."""
    x = rng.random((count, n))
    x[::2] = np.clip(2 * x[::2] - 0.5, 0, 1)  # half of the coordinates on faces
    x[::7] = np.round(x[::7])  # all of them
    w = rng.normal(size=(count, n))
    w[::3, : n // 2] = 0
    w[1::3] *= 10.0 ** rng.uniform(-6, 3, (len(w[1::3]), n))  # steep and flat ones together
    w[5] = 0
    reach = np.abs(w).sum(1)
    excess = reach * rng.choice([-1, 1], count) * 10.0 ** rng.uniform(-5, 0.3, count)
    excess[4] = 0
    return x.astype("float32"), w.astype("float32"), excess.astype("float32")


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("scale", [1.0, 1e-20, 1e20])
def test_projection_is_that_of_the_sort(norm, scale, rng):
    x, w, excess = planes(rng, 60, 50)
    d = tf.function(PROJECT[norm])(x, scale * w, scale * excess).numpy().astype("float64")
    reached = 0
    for k in range(len(x)):
        exact = [v[k].astype("float64") for v in (x, w, excess)]
        expected = reference.project(exact[0], exact[1], exact[1] @ exact[0] - exact[2], norm)
        np.testing.assert_allclose(d[k], expected, rtol=1e-3, atol=2e-6)
        assert reference.length(d[k], norm) <= reference.length(expected, norm) + 1e-5
        if abs(exact[1] @ expected + exact[2]) < 1e-9 * np.abs(exact[1]).sum():
            reached += 1
            assert abs(exact[1] @ d[k] + exact[2]) <= 1e-5 * np.abs(exact[1]).sum()
    assert 30 < reached < 60  # both kinds were there
    assert (d[w == 0] == 0).all() and not d[4:6].any()
    assert (x + d >= -1e-7).all() and (x + d <= 1 + 1e-7).all()


@pytest.mark.parametrize("norm", NORMS)
def test_projection_with_many_pieces(norm):
    """Stops and slopes in geometric rows, where each of Newton's steps passes few of them."""
    n = 60
    x = (1 - 0.7 ** np.arange(1, n + 1)).astype("float32")[None]
    for base in (0.5, 0.7, 0.9):
        w = (base ** np.arange(n)).astype("float32")[None]
        for share in (0.1, 0.9, 0.999, 0.999999):
            excess = np.float32(share * np.sum(w * x))[None]
            d = PROJECT[norm](x, w, excess).numpy()[0]
            assert abs(np.sum(w[0].astype("float64") * d) + excess[0]) < 1e-6 * np.sum(w)


def test_projection_of_no_points():
    empty = np.zeros((0, 5), "float32")
    assert fab_projections.project_l2(empty, empty, empty[:, 0]).shape == (0, 5)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("targeted", [True, False], ids=["targeted", "untargeted"])
def test_trajectory_is_that_of_numpy(norm, targeted):
    """Two runs from the clean images, or towards two targets, and two from random starts."""
    model, x, steps = Smooth(), tf.constant(images()), 8
    logits, points = model(x).numpy(), []
    y = np.argmax(logits, axis=1).astype("int32")
    attack = FAB(0.3, steps=steps, targeted=targeted, norm=norm, restarts=2)

    def network(x):
        if tf.executing_eagerly():  # not where it is traced for the gradients
            points.append(x.numpy().reshape(-1, 64))
        return model(x)

    seed = randomness.each(randomness.as_seed(3), len(x))
    x_adv, found, queries = attack.search(
        network, x, tf.constant(y), seed, attack.budget(), tf.constant(-1.0)
    )
    runs = (2 if targeted else 1) * 2
    assert len(points) == 1 + runs * steps and found.numpy().all() and queries == 2 * runs * steps

    twin, ranked = reference.Smooth(model), np.argsort(-logits, axis=1)
    for i, image in enumerate(x.numpy().reshape(-1, 64).astype("float64")):
        least, wrong = np.inf, 0
        for run in range(runs):
            draw = randomness.normal if norm == "L2" else _signed
            noise = draw(randomness.fold(seed, run), x.shape).numpy()[i].ravel().astype("float64")
            radius = min(least, 0.3) / 2 / reference.length(noise, norm)
            start = np.clip(image + radius * noise, 0, 1) if run % 2 else image
            target = ranked[i, 1 + run // 2] if targeted else None
            expected, found = reference.run(twin, image, start, y[i], target, norm, steps)
            first = 1 + run * steps
            actual = [p[i] for p in points[first : first + steps]]
            np.testing.assert_allclose(actual, expected, rtol=0, atol=2e-4)
            least, wrong = min(least, found), wrong + np.isfinite(found)
        assert wrong
        distance = reference.length(x_adv.numpy()[i].ravel() - image, norm)
        np.testing.assert_allclose(distance, least, rtol=1e-3)


def _signed(seed, shape):
    return randomness.uniform(seed, shape, -1.0, 1.0)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(("classes", "targeted"), [(2, True), (3, True), (3, False)])
def test_minimal_on_a_linear_model_away_from_the_box(norm, classes, targeted, rng):
    """It is the margin over the dual norm of the difference of weights."""
    weights = 0.1 * rng.normal(size=(64, classes))
    model = Linear(weights, -0.5 * weights.sum(0))
    x = (0.5 + 0.02 * rng.normal(size=(20, *SHAPE))).astype("float32")
    logits = model(x).numpy().astype("float64")
    y = np.argmax(logits, axis=1)
    ratios = np.full(logits.shape, np.inf)
    for i, j in np.ndindex(*logits.shape):
        if j != y[i]:
            w = model.weights[:, j] - model.weights[:, y[i]]
            dual = np.abs(w).sum() if norm == "Linf" else np.linalg.norm(w)
            ratios[i, j] = (logits[i, y[i]] - logits[i, j]) / dual
    attack = FAB(0.1, steps=15, targeted=targeted, norm=norm, eta=1.001)
    distance, x_adv, queries = attack.minimal_distance(model, x, y)
    assert (queries.numpy() == 2 * 15 * (model.weights.shape[1] - 1 if targeted else 1)).all()
    assert (np.argmax(model(x_adv), axis=1) != y).all()
    np.testing.assert_allclose(distance, ratios.min(1), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_minimal_on_a_linear_model_at_the_box(norm, rng):
    """It is the exact projection into the box; some images cannot be moved over any boundary."""
    model = Linear(0.1 * rng.normal(size=(64, 3)), [0.0, 0.9, 0.0])
    x = np.clip(2 * rng.random((20, *SHAPE)) - 0.5, 0, 1).astype("float32")
    x[0] = (model.weights[:, 1] > model.weights[:, ::2].max(1)).reshape(SHAPE)
    y = np.argmax(model(x), axis=1)
    least = np.array(
        [
            model.least(v.ravel().astype("float64"), label, norm)
            for v, label in zip(x, y, strict=True)
        ]
    )
    attack = FAB(0.1, steps=40, norm=norm, eta=1.001)
    distance, x_adv, _ = attack.minimal_distance(model, x, y)
    np.testing.assert_allclose(distance, least, rtol=5e-3)
    assert np.array(x_adv).min() >= 0 and np.array(x_adv).max() <= 1


def test_minimal_says_what_was_wrong_before_and_what_is_never_wrong():
    x, y = images(4), np.array([0, 1, 2, 0], "int32")
    attack = FAB(0.3, steps=3, restarts=2)
    distance, x_adv, queries = attack.minimal_distance(
        lambda x: tf.zeros_like(x[:, 0, :3, 0]) + [2.0, 0, 0], x, y
    )
    same_bits(queries, np.array([24, 0, 0, 24], "int32"))
    same_bits(distance, [np.inf, 0, 0, np.inf])
    same_bits(x_adv, x)
    model = Smooth()
    attack.minimal_distance(model, x, y)
    traces = model.traces
    attack.minimal_distance(model, x[:3], y[:3], seed=4)
    assert model.traces == traces  # compiled once


def test_run_agrees_with_minimal():
    """Within eps exactly where the least distance is, in one call."""
    model, x = Smooth(), images(16)
    y = np.argmax(model(x), axis=1).astype("int32")
    distance = FAB(0.3, steps=10).minimal_distance(model, x, y).distance.numpy()
    eps = float(np.median(distance)) + 1e-4
    wrong = np.argmax(model(FAB(eps, steps=10)(model, x, y)), axis=1) != y
    np.testing.assert_array_equal(wrong, distance <= eps)


@pytest.mark.parametrize("targeted", [True, False], ids=["targeted", "untargeted"])
def test_examples_leave_when_broken(targeted):
    """Half of the images are at the boundary and leave after one iteration."""
    model = Linear(np.stack([np.ones(64), -np.ones(64), np.zeros(64)], 1), [-32, 32, -99])
    x = np.full((8, *SHAPE), 0.51, "float32")
    x[4:] = 0.9
    attack = FAB(0.1, steps=5, targeted=targeted)
    x_adv = attack(model, x, np.zeros(8, "int32"))
    np.testing.assert_array_equal(np.argmax(model(x_adv), axis=1), [1] * 4 + [0] * 4)
    runs, backwards = (2, 1) if targeted else (1, 2)
    kept = 8 + 4 * (5 * runs - 1)  # in all iterations together
    assert attack.passes(model) == (8 + 2 * kept, backwards * kept)


def test_restarts_begin_at_random():
    """Half as far as the nearest image so far, by a seed of each example; nothing gets worse."""
    model, x = Smooth(), images(16)
    y = np.argmax(model(x), axis=1).astype("int32")
    once, twice = (FAB(0.3, steps=2, targeted=False, restarts=n) for n in (1, 2))
    first, second = (
        attack.minimal_distance(model, x, y, seed=2)[0].numpy() for attack in (once, twice)
    )
    assert (second <= first).all()

    def start_of_the_second_run(rows, seed):
        visited = []

        def watched(z):
            tf.py_function(lambda points: visited.append(points.numpy()), [z], [])
            return model(z)

        seeds = tf.gather(randomness.each(randomness.as_seed(seed), 16), rows)
        twice.closest(watched, tf.gather(x, rows), tf.gather(y, rows), seeds, twice.budget())
        return visited[5]  # after the clean images, and a gradient and a verdict for each step

    every = list(range(16))
    start = start_of_the_second_run(every, 2)
    np.testing.assert_allclose(start_of_the_second_run([3, 9], 2), start[[3, 9]], atol=1e-5)
    assert (start != start_of_the_second_run(every, 1)).any(axis=(1, 2, 3)).all()
    length = np.abs(start - x).max(axis=(1, 2, 3))
    inside = length[3:]  # the first three have pixels at the faces of the box
    assert (length <= first / 2 + 1e-6).all()
    np.testing.assert_allclose(inside, first[3:] / 2, rtol=0.1)


def test_fewer_classes_than_targets_are_said():
    assert FAB(0.3).notes(10) == [] and FAB(0.3, targeted=False).notes(2) == []
    assert "1 targets in place of 9" in FAB(0.3).notes(2)[0]
    assert CLASSES == 3 and "2 targets" in FAB(0.3).notes(CLASSES)[0]


@pytest.mark.parametrize(
    "argument",
    [
        {"eps": -1.0},
        {"norm": "L3"},
        {"steps": 0},
        {"targets": 1.5},
        {"restarts": 0},
        {"alpha_max": 1.1},
        {"eta": 0.9},
        {"beta": 0.0},
        {"batch_norm": "eval"},
    ],
    ids=str,
)
def test_arguments_out_of_range_are_refused(argument):
    with pytest.raises(ValueError, match=next(iter(argument))):
        FAB(**{"eps": 0.3, **argument})
