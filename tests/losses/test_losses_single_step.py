"""Gradient alignment and the nuclear norm against NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from robust_tf import losses

RANDOM = np.random.default_rng(5)


def with_gradient(matrix):
    matrix = tf.constant(matrix, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(matrix)
        shares = losses.nuclear_norm(matrix)
        total = tf.reduce_sum(shares)
    return shares.numpy(), float(total), tape.gradient(total, matrix).numpy()


@pytest.mark.parametrize("shape", [(12, 4), (3, 7), (1, 5), (5, 1)])
def test_nuclear_norm(shape):
    """The sum of the singular values; its gradient is U V^T; shares are diag(U S U^T)."""
    matrix = RANDOM.normal(size=shape)
    shares, total, gradient = with_gradient(matrix)
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    assert total == pytest.approx(values.sum(), rel=1e-5)
    np.testing.assert_allclose(gradient, left @ right, atol=1e-5)
    np.testing.assert_allclose(shares, np.diag(left * values @ left.T), atol=1e-5)


def test_nuclear_norm_of_rank_one_is_the_frobenius_norm():
    """And its gradient is the matrix by its norm: no direction of singular value 0 has a part."""
    matrix = np.outer(RANDOM.normal(size=6), RANDOM.normal(size=4))
    _, total, gradient = with_gradient(matrix)
    norm = np.linalg.norm(matrix)
    assert total == pytest.approx(norm, rel=1e-5)
    np.testing.assert_allclose(gradient, matrix / norm, atol=1e-5)


def test_nuclear_norm_of_nothing_and_of_no_numbers():
    shares, total, gradient = with_gradient(np.zeros((4, 3)))
    assert total == 0 and not shares.any() and not gradient.any()
    equal = with_gradient(np.eye(4, 3))[2]  # equal singular values
    np.testing.assert_allclose(equal, np.eye(4, 3), atol=1e-6)
    assert np.isnan(with_gradient(np.full((3, 3), np.nan))[1])
    with pytest.raises(ValueError, match=r"shape \(3,\); give the difference of logits, \(B, C\)"):
        losses.nuclear_norm(tf.zeros(3))


def test_gradient_alignment():
    """Cosines of whatever length, float32's smallest numbers among them; 0 has none."""
    one, other = RANDOM.normal(size=(2, 5, 3, 3, 1))
    scale = np.array([1, 1e-30, 1e30, 1, 1]).reshape(5, 1, 1, 1)
    first, second = (one * scale).astype("float32"), other.astype("float32")
    first[3], second[4, 0] = 0, np.nan
    cosine, valid = losses.gradient_alignment(first, second)
    flat, against = one.reshape(5, -1), other.reshape(5, -1)
    lengths = np.linalg.norm(flat, axis=1) * np.linalg.norm(against, axis=1)
    expected = (flat * against).sum(1) / lengths
    np.testing.assert_array_equal(valid, [True, True, True, False, False])
    np.testing.assert_allclose(cosine[:3], expected[:3], rtol=1e-4)
    np.testing.assert_array_equal(cosine[3:], 0)


def test_gradient_alignment_of_nothing_has_a_gradient():
    first, second = tf.zeros((2, 4)), tf.constant(RANDOM.normal(size=(2, 4)), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(first)
        cosine, _ = losses.gradient_alignment(first, second)
    np.testing.assert_array_equal(tape.gradient(cosine, first), 0)
    with pytest.raises(ValueError, match="give two gradients at the same images"):
        losses.gradient_alignment(tf.zeros((2, 3)), tf.zeros((2, 4)))
