"""Cross-entropy and conditional entropy against NumPy, and what they refuse."""

import numpy as np
import pytest
import tensorflow as tf

from robust_tf import losses

LOGITS = np.random.default_rng(0).normal(size=(6, 4), scale=3.0)
Y = np.array([0, 3, 1, 1, 2, 0])


def numpy_probabilities(logits):
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def numpy_entropy(logits):
    p = numpy_probabilities(logits)
    return np.array([-sum(pc * np.log(pc) for pc in row) for row in p])


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("label_dtype", ["uint8", "int32", "int64"])
def test_cross_entropy_is_minus_log_p_of_the_label(dtype, label_dtype):
    logits = LOGITS.astype(dtype)
    value = losses.cross_entropy(tf.constant(logits), tf.constant(Y.astype(label_dtype)))
    p = numpy_probabilities(logits.astype("float64"))
    expected = [-np.log(p[i, Y[i]]) for i in range(len(Y))]
    assert value.dtype == tf.float32
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)


def test_conditional_entropy_and_its_gradient():
    logits = tf.constant(LOGITS, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = losses.conditional_entropy(logits)
    np.testing.assert_allclose(value, numpy_entropy(LOGITS), rtol=1e-5, atol=1e-6)
    # Through both factors: d H / d logit_k = -p_k (log p_k + H)
    p = numpy_probabilities(LOGITS)
    expected = -p * (np.log(p) + numpy_entropy(LOGITS)[:, None])
    np.testing.assert_allclose(tape.gradient(value, logits), expected, rtol=1e-4, atol=1e-6)


def test_entropy_is_log_c_when_uniform_and_zero_when_saturated():
    logits = tf.constant([[7.0] * 10, [1e4] + [-1e4] * 9, [0.0] * 9 + [300.0]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = losses.conditional_entropy(logits)
    np.testing.assert_allclose(value, [np.log(10), 0, 0], atol=1e-6)
    assert np.isfinite(tape.gradient(value, logits)).all()


def test_bfloat16_logits_are_computed_in_float32():
    logits = tf.cast(LOGITS, tf.bfloat16)
    wide = tf.cast(logits, tf.float32)
    for value, expected in (
        (losses.cross_entropy(logits, Y), losses.cross_entropy(wide, Y)),
        (losses.conditional_entropy(logits), losses.conditional_entropy(wide)),
    ):
        assert value.dtype == tf.float32
        np.testing.assert_array_equal(value, expected)


def test_unknown_batch_size_is_traced_once():
    step = tf.function(
        lambda logits, y: (losses.cross_entropy(logits, y), losses.conditional_entropy(logits)),
        input_signature=[tf.TensorSpec([None, 4]), tf.TensorSpec([None], tf.int64)],
    )
    for count in (6, 1, 3):
        cross_entropy, entropy = step(LOGITS[:count].astype("float32"), Y[:count])
        assert cross_entropy.shape == entropy.shape == (count,)
    assert step.experimental_get_tracing_count() == 1


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (np.eye(4)[Y], "argmax"),
        (Y[:, None], "squeeze"),
        (Y.astype("float32"), "tf.int64"),
        (Y[:5], "5 labels for a batch of 6"),
    ],
)
def test_wrong_labels_are_refused_with_the_way_out(y, words):
    with pytest.raises(ValueError, match=words):
        losses.cross_entropy(tf.constant(LOGITS), tf.constant(y))


def test_wrong_logits_are_refused():
    with pytest.raises(ValueError, match=r"\(batch, classes\)"):
        losses.conditional_entropy(tf.zeros([2, 3, 4]))
    with pytest.raises(ValueError, match="floating"):
        losses.conditional_entropy(tf.zeros([2, 3], tf.int32))
