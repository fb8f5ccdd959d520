"""Triplet losses and their choices against NumPy, one anchor at a time."""

import numpy as np
import pytest
import tensorflow as tf

from robust_tf import losses

RNG = np.random.default_rng(0)
A, P, N = (RNG.normal(size=(6, 2, 3)) for _ in range(3))


def cosine(a, b):
    a, b = a.ravel(), b.ravel()
    return a @ b / np.sqrt((a @ a) * (b @ b))


def numpy_triplet(a, p, n, margin):
    values = []
    for i in range(len(a)):
        near, far = 1 - abs(cosine(a[i], p[i])), 1 - abs(cosine(a[i], n[i]))
        values.append(max(0.0, near - far + margin))
    return np.array(values)


def test_cosine_triplet_and_its_gradients():
    tensors = [tf.constant(z, tf.float32) for z in (A, P, N)]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        value = losses.cosine_triplet(*tensors, margin=0.2)
    expected = numpy_triplet(A, P, N, 0.2)
    assert (expected == 0).any() and (expected > 0).any()
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)
    for index, gradient in enumerate(tape.gradient(value, tensors)):
        slope, step = np.zeros_like(A), 1e-5
        for place in np.ndindex(A.shape):
            sides = []
            for sign in (1, -1):
                moved = [A.copy(), P.copy(), N.copy()]
                moved[index][place] += sign * step
                sides.append(numpy_triplet(*moved, 0.2).sum())
            slope[place] = (sides[0] - sides[1]) / (2 * step)
        np.testing.assert_allclose(gradient, slope, rtol=1e-3, atol=1e-4)


def test_opposite_features_are_as_near_as_equal_ones():
    a = tf.constant([[1.0, 0.0]])
    np.testing.assert_allclose(losses.cosine_triplet(a, -3 * a, [[0.0, 2.0]], 1.5), [0.5])
    np.testing.assert_allclose(losses.cosine_triplet(a, [[0.0, 2.0]], -3 * a, 1.5), [2.5])


def test_features_that_are_zero_have_no_gradient():
    tensors = [tf.zeros([1, 4]), tf.constant([[1.0, 0, 0, 0]]), tf.constant([[0, 1.0, 0, 0]])]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        value = losses.cosine_triplet(*tensors, margin=0.1)
    np.testing.assert_allclose(value, [0.1], rtol=1e-6)
    for gradient in tape.gradient(value, tensors):
        np.testing.assert_array_equal(gradient, np.zeros((1, 4)))


def test_triplet_norms_in_bfloat16_too():
    expected = [np.mean(a * a + p * p + n * n) for a, p, n in zip(A, P, N, strict=True)]
    value = losses.triplet_norms(*(tf.constant(z, tf.float32) for z in (A, P, N)))
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    narrow = losses.triplet_norms(*(tf.cast(z, tf.bfloat16) for z in (A, P, N)))
    assert narrow.dtype == tf.float32
    np.testing.assert_allclose(narrow, expected, rtol=1e-2)


def test_hardest_negative_is_the_most_alike_of_another_class():
    pool = RNG.normal(size=(9, 6))
    y, pool_y = np.array([0, 1, 2, 0]), np.array([0, 0, 1, 1, 2, 2, 0, 1, 2])
    anchors = RNG.normal(size=(4, 6))
    anchors[3] = -pool[4]  # opposite, hence of the smallest cosine
    rows, exist = losses.hardest_negative(
        tf.constant(anchors, tf.float32), y, tf.constant(pool, tf.float32), pool_y
    )
    for i in range(4):
        best, row = -2.0, None
        for j in range(9):
            if pool_y[j] != y[i] and cosine(anchors[i], pool[j]) > best:
                best, row = cosine(anchors[i], pool[j]), j
        assert int(rows[i]) == row
    assert np.asarray(exist).all() and int(rows[3]) != 4


def test_hardest_negative_when_all_cosines_are_negative():
    rows, exist = losses.hardest_negative(
        tf.constant([[1.0, 0.0]]),
        [0],
        tf.constant([[1.0, 0.1], [-1.0, 2.0], [-1.0, 0.0]]),
        [0, 1, 2],
    )
    assert (int(rows[0]), bool(exist[0])) == (1, True)


def test_other_positive_is_any_other_of_the_class():
    pool_y = np.array([0, 1, 0, 0, 1, 2])
    y = pool_y[:3]
    choose = tf.function(lambda seed: losses.other_positive(y, pool_y, seed)[0])
    chosen = np.array([choose(tf.constant([5, k])) for k in range(300)])
    for anchor, others in enumerate(((2, 3), (4,), (0, 3))):
        values, counts = np.unique(chosen[:, anchor], return_counts=True)
        assert tuple(values) == others
        assert counts.min() > 300 / len(others) * 0.8
    np.testing.assert_array_equal(choose(tf.constant([5, 7])), chosen[7])


def test_who_has_none():
    z = tf.constant(RNG.normal(size=(3, 4)), tf.float32)
    rows, exist = losses.hardest_negative(z, [1, 1, 1], z, [1, 1, 1])
    assert np.asarray(rows).tolist() == [0, 0, 0] and not np.asarray(exist).any()
    rows, exist = losses.other_positive([0, 1, 0], [0, 1, 0], (0, 1))
    assert np.asarray(exist).tolist() == [True, False, True]
    assert np.asarray(rows).tolist() == [2, 0, 0]


def test_an_empty_batch():
    y, z = tf.zeros([0], tf.int32), tf.zeros([0, 4])
    for rows, exist in (losses.hardest_negative(z, y, z, y), losses.other_positive(y, y, (0, 1))):
        assert len(rows) == len(exist) == 0


def test_refusals():
    z, y = tf.zeros([2, 3]), tf.constant([0, 1])
    with pytest.raises(ValueError, match="floating"):
        losses.cosine_triplet(tf.zeros([2, 3], tf.int32), z, z)
    with pytest.raises(ValueError, match="argmax"):
        losses.hardest_negative(z, tf.one_hot(y, 2), z, y)
    with pytest.raises(ValueError, match="3 labels for a batch of 2"):
        losses.hardest_negative(z, y, z, tf.constant([0, 1, 2]))
    with pytest.raises(ValueError, match="tf.int64"):
        losses.other_positive(y, tf.constant([0.0, 1.0]), (0, 1))
