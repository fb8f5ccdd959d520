"""Distances of two predictions against NumPy and finite differences; extremes and their ties."""

import numpy as np
import pytest
import tensorflow as tf

from robust_tf import losses

RANDOM = np.random.default_rng(4)
P = RANDOM.normal(size=(5, 4), scale=2.0)
Q = P + RANDOM.normal(size=P.shape)


def softmax(logits):
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def kl(p, q):
    return (p * np.log(p / q)).sum(-1)


def symmetric_kl(p, q, fixed_p, fixed_q):
    return 0.5 * kl(fixed_p, q) + 0.5 * kl(fixed_q, p)


def js(p, q, *_):
    return 0.5 * kl(p, (p + q) / 2) + 0.5 * kl(q, (p + q) / 2)


def l2(p, q, *_):
    return ((p - q) ** 2).sum(-1)


REFERENCES = {"symmetric_kl": symmetric_kl, "js": js, "l2": l2}


@pytest.mark.parametrize(
    "name, detach", [("symmetric_kl", True), ("symmetric_kl", False), ("js", True), ("l2", True)]
)
def test_values_and_gradients(name, detach):
    p, q = tf.constant(P, tf.float32), tf.constant(Q, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch([p, q])
        values = losses.squeeze_regularizer(name, detach)(p, q)
    gradients = tape.gradient(values, [p, q])

    def reference(p, q):
        targets = (softmax(P), softmax(Q)) if detach else (softmax(p), softmax(q))
        return REFERENCES[name](softmax(p), softmax(q), *targets)

    assert values.shape == (5,) and values.dtype == tf.float32
    np.testing.assert_allclose(values, reference(P, Q), rtol=1e-4, atol=1e-6)
    for side, gradient in enumerate(gradients):
        for c in range(P.shape[1]):
            step = np.zeros_like(P)
            step[:, c] = 1e-5
            up, down = (
                reference(*[z + sign * step * (k == side) for k, z in enumerate((P, Q))])
                for sign in (1, -1)
            )
            np.testing.assert_allclose(gradient[:, c], (up - down) / 2e-5, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", REFERENCES)
def test_symmetric_zero_where_equal_finite_where_saturated(name):
    distance = losses.squeeze_regularizer(name)
    p = tf.constant([[1.0, 2, 3], [1e4, -1e4, 0], [0, 0, 1e4]])
    q = tf.constant([[1.0, 2, 3], [-1e4, 1e4, 0], [0, 0, 1e4]])
    with tf.GradientTape() as tape:
        tape.watch([p, q])
        values = distance(p, q)
    most = {"symmetric_kl": 2e4, "js": np.log(2), "l2": 2}[name]
    np.testing.assert_allclose(values, [0, most, 0], atol=1e-6)
    np.testing.assert_allclose(values, distance(q, p), atol=1e-6)
    gradients = tape.gradient(values, [p, q])
    assert all(np.isfinite(g).all() for g in gradients)
    np.testing.assert_allclose(gradients[0][::2], np.zeros([2, 3]), atol=1e-6)


@pytest.mark.parametrize("name", REFERENCES)
def test_bfloat16_is_computed_in_float32(name):
    p, q = tf.cast(P, tf.bfloat16), tf.cast(Q, tf.bfloat16)
    distance = losses.squeeze_regularizer(name)
    assert distance(p, q).dtype == tf.float32
    wide = distance(tf.cast(p, tf.float32), tf.cast(q, tf.float32))
    np.testing.assert_array_equal(distance(p, q), wide)


def test_pair_is_that_of_numpy():
    candidates, y = RANDOM.normal(size=(3, 40, 5)).astype("float32"), RANDOM.integers(0, 5, 40)
    own = softmax(candidates.astype("float64"))[:, np.arange(40), y]
    upper, lower = losses.squeeze_pair(list(candidates), y)
    np.testing.assert_array_equal(upper, own.argmin(0))
    np.testing.assert_array_equal(lower, own.argmax(0))
    assert upper.dtype == lower.dtype == tf.int32
    assert set(upper.numpy()) == set(lower.numpy()) == {0, 1, 2}


def test_the_first_of_equals_is_taken():
    low, mid, high = ([z, 0.0] for z in (-1, 0, 1))
    rows = [  # clean, collaborative, adversarial; upper, lower
        (mid, mid, mid, 0, 0),
        (low, low, high, 0, 2),
        (high, low, low, 1, 0),
        (low, high, high, 0, 1),
        (high, low, high, 1, 0),
        (mid, high, low, 2, 1),
    ]
    candidates = [tf.constant([row[k] for row in rows]) for k in range(3)]
    upper, lower = losses.squeeze_pair(candidates, np.zeros(len(rows), "int32"))
    np.testing.assert_array_equal(upper, [row[3] for row in rows])
    np.testing.assert_array_equal(lower, [row[4] for row in rows])


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match=r"regularizer='kl': must be one of \('symmetric_kl', 'js"):
        losses.squeeze_regularizer("kl")
    for distance in (losses.jensen_shannon, losses.squared_l2, losses.symmetric_kl):
        with pytest.raises(ValueError, match="same batch and classes"):
            distance(tf.zeros([6, 4]), tf.zeros([1, 4]))
        with pytest.raises(ValueError, match=r"\(batch, classes\) is needed"):
            distance(tf.zeros([4]), tf.zeros([4]))
    with pytest.raises(ValueError, match="one-hot labels become class ids"):
        losses.squeeze_pair([tf.zeros([2, 3])], np.eye(2, 3, dtype="int32"))
