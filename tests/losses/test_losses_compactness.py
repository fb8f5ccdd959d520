"""Local and global compactness against a double loop in NumPy, pair by pair."""

import numpy as np
import pytest
import tensorflow as tf

from robust_tf import losses
from robust_tf.losses import compactness

RANDOM = np.random.default_rng(1)
Y = np.array([0, 2, 2, 1, 0])
Z = RANDOM.normal(size=(5, 7))
Z_ADV = Z + 0.3 * RANDOM.normal(size=Z.shape)
NORMS = [1, 1.5, 2, 3]
PAIRS = ["clean_adv", "clean_clean", "adv_adv", "all"]


def numpy_distance(a, b, norm):
    return np.mean(np.abs(a.ravel() - b.ravel()) ** norm) ** (1 / norm)


def numpy_local(z, z_adv, norm):
    return np.array([numpy_distance(z[i], z_adv[i], norm) for i in range(len(z))])


def numpy_rows(rows, columns, y_rows, y_columns, alpha, norm):
    values = np.zeros(len(rows))
    for i in range(len(rows)):
        for j in range(len(columns)):
            different = 1.0 if y_rows[i] != y_columns[j] else 0.0
            weight = (alpha - different) / alpha
            values[i] += weight * numpy_distance(columns[j], rows[i], norm) / len(columns)
    return values


def numpy_global(z, z_adv, y, alpha, pairs, norm):
    if pairs == "all":
        both, labels = np.concatenate([z, z_adv]), np.concatenate([y, y])
        rows = numpy_rows(both, both, labels, labels, alpha, norm)
        return (rows[: len(z)] + rows[len(z) :]) / 2
    rows = z if pairs == "clean_clean" else z_adv
    columns = z_adv if pairs == "adv_adv" else z
    return numpy_rows(rows, columns, y, y, alpha, norm)


def numpy_gradients(function, z, z_adv, upstream, step=1e-6):
    """Central differences in float64 of sum_i upstream_i function_i."""
    gradients = []
    for which in (0, 1):
        gradient = np.zeros_like(z)
        for index in np.ndindex(*z.shape):
            sides = []
            for sign in (1, -1):
                arguments = [z.copy(), z_adv.copy()]
                arguments[which][index] += sign * step
                sides.append(np.sum(upstream * function(*arguments)))
            gradient[index] = (sides[0] - sides[1]) / (2 * step)
        gradients.append(gradient)
    return gradients


def tf_value_and_gradients(function, z, z_adv, upstream):
    z, z_adv = tf.constant(z, tf.float32), tf.constant(z_adv, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch([z, z_adv])
        value = function(z, z_adv)
        total = tf.reduce_sum(tf.cast(upstream, tf.float32) * value)
    zero = tf.UnconnectedGradients.ZERO
    return value, tape.gradient(total, [z, z_adv], unconnected_gradients=zero)


@pytest.mark.parametrize("norm", NORMS)
def test_local_value_and_gradient(norm):
    upstream = RANDOM.normal(size=5)
    value, gradients = tf_value_and_gradients(
        lambda z, z_adv: losses.local_compactness(z, z_adv, norm), Z, Z_ADV, upstream
    )
    assert value.dtype == tf.float32 and value.shape == (5,)
    np.testing.assert_allclose(value, numpy_local(Z, Z_ADV, norm), rtol=1e-5)
    expected = numpy_gradients(lambda z, a: numpy_local(z, a, norm), Z, Z_ADV, upstream)
    for gradient, reference in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(gradient, reference, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("pairs", PAIRS)
@pytest.mark.parametrize("slice_width", [3, 128])
def test_global_value_and_gradient(norm, pairs, slice_width, monkeypatch):
    monkeypatch.setattr(compactness, "FEATURES_AT_ONCE", slice_width)
    upstream, alpha = RANDOM.normal(size=5), 0.9
    value, gradients = tf_value_and_gradients(
        lambda z, a: losses.global_compactness(z, a, tf.constant(Y), alpha, pairs, norm),
        Z,
        Z_ADV,
        upstream,
    )
    assert value.dtype == tf.float32 and value.shape == (5,)
    reference = numpy_global(Z, Z_ADV, Y, alpha, pairs, norm)
    np.testing.assert_allclose(value, reference, rtol=1e-5, atol=1e-6)
    expected = numpy_gradients(
        lambda z, a: numpy_global(z, a, Y, alpha, pairs, norm), Z, Z_ADV, upstream
    )
    for gradient, reference in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(gradient, reference, rtol=1e-3, atol=1e-5)


def test_global_mean_is_the_released_formula():
    """l_gb = 1/B^2 sum_ij w_ij 1/m ||z_j - z'_i||_1 with the published weights, as one line."""
    one_hot = np.eye(3)[Y]
    different = np.abs(one_hot[:, None] - one_hot[None]).sum(-1)
    weights = (0.99 - different / different.max()) / 0.99
    expected = np.mean(weights * np.abs(Z[None] - Z_ADV[:, None]).mean(-1))
    value = losses.global_compactness(tf.constant(Z), tf.constant(Z_ADV), tf.constant(Y))
    np.testing.assert_allclose(np.mean(value), expected, rtol=1e-5)


@pytest.mark.parametrize("norm", NORMS)
def test_gradient_is_zero_not_nan_where_features_are_equal(norm):
    for function in (
        lambda z, a: losses.local_compactness(z, a, norm),
        lambda z, a: losses.global_compactness(z, a, tf.zeros([5], tf.int32), norm=norm),
    ):
        same = np.ones_like(Z)  # Equal to the partner and to all other rows, as dead ReLUs are.
        value, gradients = tf_value_and_gradients(function, same, same, np.ones(5))
        np.testing.assert_array_equal(value, np.zeros(5))
        for gradient in gradients:
            np.testing.assert_array_equal(gradient, np.zeros_like(Z))


@pytest.mark.parametrize("pairs", ["clean_adv", "adv_adv", "all"])
def test_detach_clean_leaves_the_adversarial_gradient(pairs):
    def function(detach):
        return lambda z, a: losses.global_compactness(z, a, Y, pairs=pairs, detach_clean=detach)

    value, (to_clean, to_adv) = tf_value_and_gradients(function(True), Z, Z_ADV, np.ones(5))
    whole, (_, to_adv_whole) = tf_value_and_gradients(function(False), Z, Z_ADV, np.ones(5))
    np.testing.assert_array_equal(value, whole)
    np.testing.assert_array_equal(to_clean, np.zeros_like(Z))
    np.testing.assert_array_equal(to_adv, to_adv_whole)


def test_local_detach_clean():
    _, (to_clean, to_adv) = tf_value_and_gradients(
        lambda z, a: losses.local_compactness(z, a, detach_clean=True), Z, Z_ADV, np.ones(5)
    )
    np.testing.assert_array_equal(to_clean, np.zeros_like(Z))
    np.testing.assert_allclose(to_adv, np.sign(Z_ADV - Z) / 7, rtol=1e-6)


def test_pair_weights():
    weights = losses.pair_weights(tf.constant([0, 1]), tf.constant([1, 1, 0], tf.uint8), 0.99)
    repel = 1 - 1 / 0.99
    np.testing.assert_allclose(weights, [[repel, repel, 1], [1, 1, repel]], rtol=1e-6)
    assert weights.dtype == tf.float32


@pytest.mark.parametrize("pairs", PAIRS)
def test_a_batch_of_one_class_and_a_batch_of_one(pairs):
    """Where the released weights are 0/0: all weights are exactly 1."""
    np.testing.assert_array_equal(losses.pair_weights([4] * 3, [4] * 3), np.ones((3, 3)))
    for count in (5, 1):
        y = np.full(count, 4)
        value, gradients = tf_value_and_gradients(
            lambda z, a, y=y: losses.global_compactness(z, a, tf.constant(y), pairs=pairs),
            Z[:count],
            Z_ADV[:count],
            np.ones(count),
        )
        expected = numpy_global(Z[:count], Z_ADV[:count], y, 0.99, pairs, 1)
        np.testing.assert_allclose(value, expected, rtol=1e-5)
        assert all(np.isfinite(g).all() for g in gradients)


def test_features_of_any_rank_are_flattened():
    z, z_adv = RANDOM.normal(size=(2, 5, 2, 3, 4)).astype("float32")
    flat, flat_adv = z.reshape(5, -1), z_adv.reshape(5, -1)
    np.testing.assert_array_equal(
        losses.local_compactness(z, z_adv), losses.local_compactness(flat, flat_adv)
    )
    np.testing.assert_array_equal(
        losses.global_compactness(z, z_adv, Y), losses.global_compactness(flat, flat_adv, Y)
    )


@pytest.mark.parametrize("dtype", [tf.bfloat16, tf.float64])
def test_other_widths_are_computed_in_float32(dtype):
    z, z_adv = tf.cast(Z, dtype), tf.cast(Z_ADV, dtype)
    with tf.GradientTape() as tape:
        tape.watch([z, z_adv])
        value = losses.local_compactness(z, z_adv) + losses.global_compactness(z, z_adv, Y)
    wide, wide_adv = tf.cast(z, tf.float32), tf.cast(z_adv, tf.float32)
    expected = losses.local_compactness(wide, wide_adv)
    expected += losses.global_compactness(wide, wide_adv, Y)
    assert value.dtype == tf.float32
    np.testing.assert_array_equal(value, expected)
    assert all(g.dtype == dtype for g in tape.gradient(value, [z, z_adv]))


@pytest.mark.parametrize("pairs", PAIRS)
@pytest.mark.parametrize("width", [7, None])
def test_graph_with_unknown_batch_equals_eager(pairs, width):
    @tf.function(
        input_signature=[tf.TensorSpec([None, width])] * 2 + [tf.TensorSpec([None], tf.int64)]
    )
    def step(z, z_adv, y):
        value = losses.local_compactness(z, z_adv, norm=2)
        value += losses.global_compactness(z, z_adv, y, pairs=pairs)
        return [value] + tf.gradients(tf.reduce_sum(value), [z, z_adv])

    for count in (5, 1, 3):
        results = step(Z[:count].astype("float32"), Z_ADV[:count].astype("float32"), Y[:count])
        value, gradients = tf_value_and_gradients(
            lambda z, a, n=count: (
                losses.local_compactness(z, a, norm=2)
                + losses.global_compactness(z, a, tf.constant(Y[:n]), pairs=pairs)
            ),
            Z[:count],
            Z_ADV[:count],
            np.ones(count),
        )
        for result, reference in zip(results, [value, *gradients], strict=True):
            np.testing.assert_allclose(result, reference, rtol=1e-5, atol=1e-6)
    assert step.experimental_get_tracing_count() == 1


def test_no_tensor_of_batch_by_batch_by_features():
    batch, width = 16, 1000

    def step(z, z_adv, y):
        value = losses.global_compactness(z, z_adv, y)
        return tf.gradients(value, [z, z_adv])

    spec = tf.TensorSpec([batch, width])
    graph = tf.function(step).get_concrete_function(spec, spec, tf.TensorSpec([batch], tf.int64))
    sizes = [
        tensor.shape.num_elements() or 0
        for operation in graph.graph.get_operations()
        for tensor in operation.outputs
        if tensor.shape.rank is not None
    ]
    assert max(sizes) == batch * batch * compactness.FEATURES_AT_ONCE


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(pairs="clean"), "'clean_adv', 'clean_clean', 'adv_adv', 'all'"),
        (dict(pairs="clean_clean", detach_clean=True), "no gradient"),
        (dict(norm=0.5), "must be a finite number >= 1"),
        (dict(norm=float("inf")), "must be a finite number >= 1"),
        (dict(norm=float("nan")), "must be a finite number >= 1"),
        (dict(alpha=0.0), r"\(0, 1\)"),
        (dict(alpha=1.0), r"\(0, 1\)"),
        (dict(y=np.eye(3)[Y]), "argmax"),
        (dict(y=Y[:4]), "4 labels for a batch of 5"),
        (dict(z=Z[:, :6]), "same cut"),
        (dict(z=Z[:, 0], z_adv=Z[:, 0]), "features"),
        (dict(z=Z.astype(int), z_adv=Z.astype(int)), "floating"),
    ],
)
def test_wrong_input_is_refused(arguments, words):
    arguments = dict(z=Z, z_adv=Z_ADV, y=Y) | arguments
    with pytest.raises(ValueError, match=words):
        losses.global_compactness(**arguments)
