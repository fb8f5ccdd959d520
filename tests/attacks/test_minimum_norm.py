"""DDN, FMN, FAB and RayS under one interface: papers in NumPy, closed forms, promises."""

import numpy as np
import pytest
import tensorflow as tf

from robust_tf import attacks
from tests.attacks import reference_fab
from tests.attacks import reference_minimum_norm as reference
from tests.tiny import SHAPE, Smooth, images, same_bits

NORMS = ("Linf", "L2", "L1")
SEARCHES = {
    "DDN": attacks.DDN(steps=20),
    **{f"FMN {norm}": attacks.FMN(steps=20, norm=norm) for norm in NORMS},
    "FAB": attacks.FAB(steps=5, restarts=2),
    "RayS": attacks.RayS(queries=60),
}


@pytest.fixture(scope="module")
def smooth():
    """A model whose attacks are compiled once, with 16 images of which one is misclassified."""
    model, x = Smooth(), images(16)
    y = np.argmax(model(x), axis=1).astype("int32")
    y[3] = (y[3] + 1) % 3
    return model, x, y


@pytest.mark.parametrize("name", ["DDN", *(f"FMN {norm}" for norm in NORMS)])
def test_points_are_those_of_numpy(name):
    """The first steps point by point; rounding grows from step to step."""
    model, x, steps, points = Smooth(), images(6), 6, []
    y = np.argmax(model(x), axis=1).astype("int32")
    norm = name.partition(" ")[2] or "L2"
    attack = attacks.FMN(steps=steps, norm=norm) if " " in name else attacks.DDN(steps=steps)

    def network(x):
        tf.py_function(lambda point: points.append(point.numpy()), [x], [])
        return model(x)

    distance = attack.minimal_distance(network, x, y).distance.numpy()
    points = points[-(steps + 1) :]  # before, there was a look at the logits
    twin = reference_fab.Smooth(model)
    for i, image in enumerate(x.reshape(-1, 64).astype("float64")):
        if " " in name:
            expected, best = reference.fmn(twin, image, y[i], steps, norm)
        else:
            expected, best = reference.ddn(twin, image, y[i], steps)
        actual = np.stack([point[i].ravel() for point in points])
        np.testing.assert_allclose(actual, expected, rtol=0, atol=2e-4)
        np.testing.assert_allclose(distance[i], best, rtol=2e-3)
    assert np.isfinite(distance).any()


@pytest.mark.parametrize("norm", NORMS)
def test_distance_of_a_plane(norm, rng):
    """Away from the box it is |margin| / ||w|| in the dual norm, within what gamma leaves."""
    w = rng.normal(size=64)
    w[7] = 5.0  # in L1 one pixel alone moves
    x = (0.5 + 0.01 * rng.normal(size=(12, *SHAPE))).astype("float32")

    def model(x):
        lead = tf.reshape(x - 0.5, [-1, 64]) @ w[:, None].astype("float32")
        return tf.concat([lead, -lead], axis=1)

    margin = np.abs(2 * (x.reshape(-1, 64).astype("float64") - 0.5) @ w)
    exact = margin / (2 * np.linalg.norm(w, reference.DUAL[norm]))
    y = np.argmax(model(x), axis=1)
    searches = [attacks.FMN(steps=60, norm=norm)]
    searches += [attacks.DDN(steps=120, init_eps=0.1)] if norm == "L2" else []
    for attack in searches:
        distance, x_adv, _ = attack.minimal_distance(model, x, y)
        assert (np.argmax(model(x_adv), axis=1) != y).all()
        excess = distance.numpy() / exact - 1
        # Below it by the rounding of the logits alone.
        assert (excess > -1e-4).all() and (excess < 0.03).all() and np.median(excess) < 0.005


@pytest.mark.parametrize("name", SEARCHES)
def test_interface(name, smooth):
    """Image and distance agree, with or without eps, in whole batches and in parts."""
    (model, x, y), attack = smooth, SEARCHES[name]
    assert attack.measures_distance and not attack.at(0.1).measures_distance
    seeds = np.stack([np.full(16, 5), np.arange(16)], axis=1).astype("int32")
    distance, x_adv, queries = attack.minimal_distance(model, x, y, seed=seeds)
    step = (x_adv.numpy().astype("float64") - x).reshape(16, -1)
    length = np.linalg.norm(step, reference.ORDERS[attack.norm], axis=1)
    np.testing.assert_allclose(length, distance, rtol=1e-5, atol=1e-7)
    assert (np.argmax(model(x_adv), axis=1) != y).all()
    assert x_adv.numpy().min() >= 0 and x_adv.numpy().max() <= 1
    same_bits(x_adv[3], x[3])
    assert distance[3] == 0 and queries[3] == 0 and (np.delete(distance, 3) > 0).all()
    # The call gives the same images.
    same_bits(attack(model, x, y, seed=seeds), x_adv)
    same_bits(attack(model, x, y, seed=seeds, scale=0.0), x_adv)  # there is no radius to scale
    # A part of the batch has the same distances.
    part = attack.minimal_distance(model, x[5:12], y[5:12], seed=seeds[5:12]).distance
    np.testing.assert_allclose(part, distance[5:12], rtol=2e-3)
    if name != "FAB":  # whose random starts go by eps
        eps = float(np.median(distance)) * 1.0001
        x_adv = attack.at(eps)(model, x, y, seed=seeds)
        wrong = np.argmax(model(x_adv), axis=1) != y
        np.testing.assert_array_equal(wrong, distance <= eps)


@pytest.mark.parametrize("name", SEARCHES)
def test_what_is_wrong_before_and_what_is_never_wrong(name):
    """No gradient, and no image of another class."""
    x, y = images(4), np.array([0, 1, 2, 0], "int32")
    attack = SEARCHES[name]

    def constant(x):
        return tf.zeros_like(x[:, 0, :3, 0]) + [2.0, 0, 0]

    distance, x_adv, _ = attack.minimal_distance(constant, x, y)
    same_bits(distance, np.array([np.inf, 0, 0, np.inf], "float32"))
    same_bits(x_adv, x)
    same_bits(attack(constant, x, y), x)


def test_the_last_iterate_counts():
    """One step reaches the other class, and no step is left to test it."""

    def model(x):
        lead = tf.reshape(x - 0.5, [-1, 64]) @ np.ones((64, 1), "float32")
        return tf.concat([lead + 0.32, -lead], axis=1)

    x = np.full((2, *SHAPE), 0.5, "float32")
    for attack in (attacks.DDN(steps=1), attacks.FMN(steps=2)):
        assert np.isfinite(attack.minimal_distance(model, x, np.zeros(2, "int32")).distance).all()
        assert attack.passes(model) == (2 * (attack.steps + 1), 2 * attack.steps)


def test_tiny_gradients_have_a_direction():
    """Their squares are 0 in float32."""

    def model(x):
        lead = 1e-30 * tf.reshape(x - 0.5, [-1, 64]) @ np.ones((64, 1), "float32")
        return tf.concat([lead, -lead], axis=1)

    x = np.full((2, *SHAPE), 0.6, "float32")
    for norm in NORMS:
        found = attacks.FMN(norm=norm, steps=20).minimal_distance(model, x, np.zeros(2, "int32"))
        dual = {"Linf": 64, "L2": 8, "L1": 1}[norm]
        assert (found.distance.numpy() <= 6.4 / dual * 1.2).all(), (norm, found.distance)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: attacks.DDN(norm="Linf"), "norm='Linf'.: must be 'L2'; use FMN"),
        (lambda: attacks.DDN(eps=-1.0), r"DDN\(eps=-1.0\)"),
        (lambda: attacks.DDN(gamma=0.0), r"DDN\(gamma=0.0\): must be in .* the paper uses 0.05"),
        (lambda: attacks.DDN(init_eps=0.0), "init_eps"),
        (lambda: attacks.DDN(steps=0), "steps"),
        (lambda: attacks.FMN(norm="L0"), r"FMN\(norm='L0'\): must be one of"),
        (lambda: attacks.FMN(eps=8), r"FMN\(eps=8\): .*: 8/255\?"),
        (lambda: attacks.FMN(alpha_init=0.0), r"FMN\(alpha_init=0.0\): .* None is as usual"),
        (lambda: attacks.FMN(gamma_init=1.0), r"FMN\(gamma_init=1.0\)"),
        (lambda: attacks.FMN(batch_norm="eval"), "batch_norm"),
        (lambda: attacks.FMN()(None, images(2), [0, 1]), "give a Keras model"),
    ],
)
def test_refused(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()
