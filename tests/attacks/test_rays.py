"""RayS against loops written out in NumPy, and where the boundary is known."""

import numpy as np
import pytest
import tensorflow as tf

from robust_tf import attacks
from tests.attacks import reference_rays as reference
from tests.attacks.test_square import Tanh
from tests.tiny import Smooth, images


def wrong_about(model, y):
    return lambda image: np.argmax(model.score(image)) != y


def test_minimal_distance_is_that_of_the_loops():
    model, queries = Tanh((6, 5, 3)), 301
    result = attacks.RayS(0.1, queries).minimal_distance(model, model.x, model.y)
    for n, y in enumerate(model.y):
        x = model.x[n].astype("float64")
        image, used = reference.search(wrong_about(model, y), x, queries)
        assert used == queries == result.queries[n]
        # A hundredth of what a search leaves open: a label at the boundary hangs on the last bit.
        np.testing.assert_allclose(result.x_adv[n], image, rtol=0, atol=1e-5)
        np.testing.assert_allclose(result.distance[n], np.abs(image - x).max(), rtol=0, atol=1e-5)
    assert attacks.RayS(0.1, queries).passes(model) == (len(model.x) * (queries + 1), 0)


def test_run_is_that_of_the_loops_and_examples_leave():
    model, eps = Tanh((6, 5, 3)), 0.02
    attack = attacks.RayS(eps, queries=200)
    x_adv = attack(model, model.x, model.y).numpy()
    forwards, broken = len(model.x), []
    for n, y in enumerate(model.y):
        x = model.x[n].astype("float64")
        image, used = reference.search(wrong_about(model, y), x, 200, eps=eps)
        expected = np.clip(image, x - eps, x + eps)
        np.testing.assert_allclose(x_adv[n], expected, rtol=0, atol=1e-6)
        broken.append(wrong_about(model, y)(x_adv[n]))
        assert broken[-1] or used == 200
        forwards += used
    assert 0 < sum(broken) < len(broken), broken
    assert attack.passes(model) == (forwards, 0)


def linear(bias):
    """w and a model of two classes: 0 where w (x - 0.5) + bias > 0."""
    w = np.random.default_rng(7).normal(0, 1.0, (4, 4, 2)).astype("float32")

    def model(x):
        lead = tf.reshape(x - 0.5, [-1, w.size]) @ w.reshape(-1, 1) + bias
        return tf.concat([lead, -lead], axis=1)

    return w, model


def test_linear_boundary():
    """The distance is margin / ||w||_1, where the box does not matter."""
    w, model = linear(4.0)
    x = np.random.default_rng(8).uniform(0.4, 0.6, (5, *w.shape)).astype("float32")
    result = attacks.RayS(0.1, 1000).minimal_distance(model, x, np.zeros(5, "int32"))
    exact = (((x - 0.5) * w).sum((1, 2, 3)) + 4) / np.abs(w).sum()
    assert exact.max() < 0.4
    excess = result.distance.numpy() - exact
    assert (excess > -1e-6).all() and (excess < 2 * 1e-3 / np.sqrt(w.size)).all(), excess
    assert (np.argmax(model(result.x_adv), axis=1) == 1).all()


@pytest.mark.parametrize("shape", [(7,), (5, 3), (3, 4, 2)])
def test_no_query_too_many_for_images_of_any_shape(shape):
    model = Tanh(shape)
    for queries in (1, 9):
        result = attacks.RayS(0.1, queries).minimal_distance(model, model.x, model.y)
        assert (result.queries.numpy() == queries).all()
        wrong = np.argmax(model(result.x_adv), axis=1) != model.y
        np.testing.assert_array_equal(wrong, np.isfinite(result.distance))
        assert attacks.RayS(0.1, queries).passes(model) == (len(model.x) * (queries + 1), 0)


def test_where_there_is_nothing_to_find_or_to_do():
    x, y = images(), np.array([0, 1, 0, 1, 0, 1], "int32")
    constant = np.array([[2.0, 0.0, 0.0]], "float32")

    def always_0(x):
        return tf.repeat(constant, tf.shape(x)[0], axis=0)

    result = attacks.RayS(0.3, 50).minimal_distance(always_0, x, y)
    np.testing.assert_array_equal(result.distance, [np.inf, 0] * 3)
    np.testing.assert_array_equal(result.queries, [50, 0] * 3)
    np.testing.assert_array_equal(result.x_adv, x)
    np.testing.assert_array_equal(attacks.RayS(0.3, queries=50)(always_0, x, y), x)
    empty = attacks.RayS(0.3, 50).minimal_distance(always_0, x[:0], y[:0])
    assert empty.distance.shape == (0,)


def test_minimal_distance_is_compiled_once():
    model, x = Smooth(), images()
    y = np.argmax(model(x), axis=1).astype("int32")
    attacks.RayS(0.1, 20).minimal_distance(model, x, y)
    traces = model.traces
    attacks.RayS(0.2, 20).minimal_distance(model, x[:2], y[:2])
    assert model.traces == traces


def test_minimal_distance_looks_at_the_data():
    with pytest.raises(ValueError, match=r"images range over \[0, 255\]"):
        attacks.RayS(0.1).minimal_distance(Smooth(), 255 * images(), np.zeros(6, "int32"))
    with pytest.raises(ValueError, match=r"RayS.queries=0\): must be an integer >= 1"):
        attacks.RayS(0.1, 0)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"eps": -1}, r"RayS\(eps=-1\)"),
        ({"norm": "L2"}, r"RayS\(norm='L2'\): must be 'Linf', .* use Square or FAB for L2"),
        ({"queries": 0}, r"queries=0\): must be an integer >= 1"),
        ({"tolerance": 0}, r"RayS\(tolerance=0\): must be a finite number > 0; the program uses"),
        ({"batch_norm": "off"}, r"batch_norm='off': must be one of"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        attacks.RayS(**{"eps": 0.1, **arguments})
