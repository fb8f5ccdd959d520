"""Sinkhorn's distance against NumPy in float64, exact transport, and finite differences."""

import numpy as np
import pytest
import scipy.optimize
import tensorflow as tf

from robust_tf import losses
from robust_tf.losses.transport import cosine_costs, transport_plan

RANDOM = np.random.default_rng(4)
Z = RANDOM.normal(size=(7, 4))
Z_ADV = (Z + 0.7 * RANDOM.normal(size=Z.shape))[[3, 1, 0, 2, 6, 5, 4]]


def numpy_costs(z, z_adv):
    costs = np.zeros((len(z), len(z_adv)))
    for i, a in enumerate(z):
        for j, b in enumerate(z_adv):
            length = max(np.linalg.norm(a), 1e-6) * max(np.linalg.norm(b), 1e-6)
            costs[i, j] = max(0.0, 1 - np.dot(a, b) / length)
    return costs


def numpy_plan(costs, regularizer=0.01, max_iterations=100, tolerance=0.1):
    """T, and how many iterations it took."""
    n = len(costs)
    u, v, count = np.zeros(n), np.zeros(n), 0

    def m():
        return (-costs + u[:, None] + v[None, :]) / regularizer

    moved = np.inf
    while count < max_iterations and moved >= tolerance:
        before, count = u, count + 1
        u = regularizer * (np.log(1 / n) - np.log(np.exp(m()).sum(1) + 1e-6)) + u
        v = regularizer * (np.log(1 / n) - np.log(np.exp(m()).sum(0) + 1e-6)) + v
        moved = np.abs(u - before).sum()
    return np.exp(m()), count


def numpy_rows(z, z_adv, *settings):
    costs = numpy_costs(z, z_adv)
    return len(z) * (numpy_plan(costs, *settings)[0] * costs).sum(1)


def value_and_gradients(z, z_adv, *settings):
    z, z_adv = tf.cast(z, tf.float32), tf.cast(z_adv, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch([z, z_adv])
        value = losses.sinkhorn_distance(z, z_adv, *settings)
    return value, *tape.gradient(value, [z, z_adv])


CALLS = {"eager": lambda f: f, "graph": tf.function}
SETTINGS = [(), (0.01, 1), (0.01, 5, 0.0), (0.05, 100, 0.0), (0.2, 100, 1e-3)]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("settings", SETTINGS)
def test_distance_is_that_of_numpy(call, settings):
    distance = CALLS[call](lambda a, b: losses.sinkhorn_distance(a, b, *settings))
    value = distance(tf.constant(Z, tf.float32), tf.constant(Z_ADV, tf.float32))
    assert value.shape == (7,) and value.dtype == tf.float32
    np.testing.assert_allclose(value, numpy_rows(Z, Z_ADV, *settings), rtol=1e-4, atol=1e-6)


def test_it_stops_once_the_rows_hardly_move():
    costs = numpy_costs(Z, Z_ADV)
    plan, count = numpy_plan(costs)
    assert 1 < count < 100
    costs = tf.constant(costs, tf.float32)
    np.testing.assert_allclose(transport_plan(costs, 0.01, 100, 0.1), plan, rtol=1e-3, atol=1e-6)
    np.testing.assert_array_equal(
        transport_plan(costs, 0.01, 100, 0.1), transport_plan(costs, 0.01, count, 0.0)
    )


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("settings", [(), (0.01, 3, 0.0), (0.1, 20, 0.0)])
def test_gradient_passes_through_the_iterations(call, settings):
    function = CALLS[call](lambda a, b: value_and_gradients(a, b, *settings))
    found = function(Z, Z_ADV)[1:]
    step = 1e-6
    for side, gradient in enumerate(found):
        expected = np.zeros_like(Z)
        for index in np.ndindex(*Z.shape):
            sides = [[Z.copy(), Z_ADV.copy()] for _ in range(2)]
            sides[0][side][index] += step
            sides[1][side][index] -= step
            high, low = (numpy_rows(*pair, *settings).sum() for pair in sides)
            expected[index] = (high - low) / (2 * step)
        scale = np.abs(expected).max()
        np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-4 * scale)


def test_a_detached_plan_would_have_another_gradient():
    z, z_adv = tf.constant(Z, tf.float32), tf.constant(Z_ADV, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(z_adv)
        costs = cosine_costs(z, z_adv)
        plan = tf.stop_gradient(transport_plan(costs, 0.01, 100, 0.1))
        total = len(Z) * tf.reduce_sum(plan * costs)
    detached, whole = tape.gradient(total, z_adv), value_and_gradients(Z, Z_ADV)[2]
    assert np.abs(detached - whole).max() > 0.1 * np.abs(whole).max()


def test_marginals_are_uniform():
    plan = transport_plan(tf.constant(numpy_costs(Z, Z_ADV), tf.float32), 0.2, 300, 0.0)
    for axis in (0, 1):
        np.testing.assert_allclose(np.sum(plan, axis), np.full(7, 1 / 7), rtol=1e-4)
    assert np.min(plan) >= 0


def test_the_exact_transport_is_below_and_near():
    costs = numpy_costs(Z, Z_ADV)
    exact = costs[scipy.optimize.linear_sum_assignment(costs)].mean()

    @tf.function
    def mean(regularizer):
        z, z_adv = tf.constant(Z, tf.float32), tf.constant(Z_ADV, tf.float32)
        return tf.reduce_mean(losses.sinkhorn_distance(z, z_adv, regularizer, 2000, 0.0))

    means = [float(mean(regularizer)) for regularizer in (0.2, 0.05, 0.01)]
    assert means[0] > means[1] > means[2] > exact - 1e-4
    assert means[2] < exact + 0.005, (means, exact)


def test_equal_batches_are_no_way_apart():
    features = np.eye(6, 9) + 0.01 * RANDOM.normal(size=(6, 9))
    value, *gradients = value_and_gradients(features, features)
    np.testing.assert_allclose(value, np.zeros(6), atol=1e-6)
    value = losses.sinkhorn_distance(*[tf.constant(features, tf.float32)] * 2)
    shuffled = losses.sinkhorn_distance(
        tf.constant(features, tf.float32), tf.constant(features[::-1].copy(), tf.float32)
    )
    np.testing.assert_allclose(shuffled, np.zeros(6), atol=1e-5)
    assert np.isfinite(gradients).all()


@pytest.mark.parametrize("angle", [0.0, 0.3, 1.5, np.pi])
def test_one_example_has_the_cosine_distance_of_its_pair(angle):
    z, z_adv = [[1.0, 0.0]], [[2 * np.cos(angle), 2 * np.sin(angle)]]
    value, to_z, to_z_adv = value_and_gradients(z, z_adv)
    np.testing.assert_allclose(value, [1 - np.cos(angle)], rtol=1e-4, atol=1e-6)
    # d cos / d z' turns z' round: -sin(angle) times the unit normal over the length
    normal = np.array([[-np.sin(angle), np.cos(angle)]])
    np.testing.assert_allclose(to_z_adv, np.sin(angle) / 2 * normal, rtol=1e-2, atol=1e-4)
    assert np.isfinite(to_z).all()


def test_odd_features_stay_finite():
    zero = np.zeros_like(Z)
    for z, z_adv in ((zero, Z), (Z, zero), (zero, zero), (1e20 * Z, Z), (Z, -Z)):
        value, *gradients = value_and_gradients(z, z_adv)
        assert np.isfinite(value).all() and np.isfinite(gradients).all()
    assert losses.sinkhorn_distance(tf.zeros([0, 4]), tf.zeros([0, 4])).shape == (0,)
    value = losses.sinkhorn_distance(tf.cast(Z, tf.bfloat16), tf.cast(Z_ADV, tf.bfloat16))
    assert value.dtype == tf.float32
    np.testing.assert_allclose(tf.reduce_mean(value), numpy_rows(Z, Z_ADV).mean(), rtol=0.05)


def test_maps_of_features_are_flattened_whatever_the_batch():
    @tf.function(input_signature=[tf.TensorSpec([None, 2, 2, 1])] * 2)
    def gradient(z, z_adv):
        with tf.GradientTape() as tape:
            tape.watch(z_adv)
            value = losses.sinkhorn_distance(z, z_adv)
        return value, tape.gradient(value, z_adv)

    for rows in (7, 3, 1):
        z, z_adv = (np.reshape(part[:rows], [-1, 2, 2, 1]) for part in (Z, Z_ADV))
        value, slope = gradient(tf.constant(z, tf.float32), tf.constant(z_adv, tf.float32))
        np.testing.assert_allclose(value, numpy_rows(Z[:rows], Z_ADV[:rows]), rtol=1e-3, atol=1e-6)
        assert slope.shape == z.shape and np.isfinite(slope).all()


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"regularizer": 0.0}, r"regularizer=0.0\): must be a finite number > 0; use 0.01"),
        ({"max_iterations": 0}, r"max_iterations=0\): must be an integer >= 1"),
        ({"max_iterations": 2.0}, r"max_iterations=2.0\): must be an integer"),
        ({"tolerance": -1.0}, r"tolerance=-1.0\): must be a finite number >= 0"),
        ({"z_adv": tf.zeros([3, 4])}, r"z has shape \(2, 4\) and z_adv \(3, 4\)"),
        ({"z": tf.zeros([2]), "z_adv": tf.zeros([2])}, r"\(batch, features...\)"),
        ({"z": tf.zeros([2, 4], tf.int32)}, "floating"),
    ],
)
def test_wrong_arguments_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        losses.sinkhorn_distance(**{"z": tf.zeros([2, 4]), "z_adv": tf.zeros([2, 4]), **arguments})
