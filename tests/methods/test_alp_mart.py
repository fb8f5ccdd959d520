"""ALP and MART, their steps written out in float64 with batch normalisation."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from robust_tf import attacks, losses, methods
from robust_tf.models import Outputs, SplitClassifier
from tests.methods import reference_step
from tests.tiny import CLASSES, labelled, tiny_network

EPS, SIZE = 0.1, 0.06
BIM = attacks.BIM(EPS, SIZE, 2)
X, Y = labelled()
RATE = 0.1
ROWS = np.arange(len(Y))


def built(method, *args, **kwargs):
    return reference_step.built(method, BIM, *args, rate=RATE, **kwargs)


def perturbed(w):
    """Two signed steps up the cross-entropy by running averages."""

    def loss_of(x):
        log_p = reference_step.log_softmax(reference_step.forward(w, x, training=False)[0])
        return -tf.gather(log_p, Y, batch_dims=1)

    low, high = np.clip(X - EPS, 0, 1), np.clip(X + EPS, 0, 1)
    return reference_step.ascend(loss_of, X, SIZE, 2, low.astype("float64"), high.astype("float64"))


def alp_terms(outputs, outputs_adv):
    """Each (B,)."""
    clean, adv = outputs[0], outputs_adv[0]
    log_p, log_q = reference_step.log_softmax(clean), reference_step.log_softmax(adv)
    return {
        "clean": -tf.gather(log_p, Y, batch_dims=1),
        "adversarial": -tf.gather(log_q, Y, batch_dims=1),
        "pairing": tf.reduce_sum((clean - adv) ** 2, 1) / CLASSES,
    }


def mart_terms(outputs, outputs_adv):
    """As in the paper, 1 - p_k taken literally."""
    p = tf.exp(reference_step.log_softmax(outputs[0]))
    q = tf.exp(reference_step.log_softmax(outputs_adv[0]))
    wrong = tf.reduce_max(q * (1 - tf.one_hot(Y, CLASSES, dtype=tf.float64)), 1)
    divergence = tf.reduce_sum(p * (tf.math.log(p) - tf.math.log(q)), 1)
    return {
        "boosted": -tf.math.log(tf.gather(q, Y, batch_dims=1)) - tf.math.log(1 - wrong),
        "divergence": divergence * (1 - tf.gather(p, Y, batch_dims=1)),
    }


@pytest.mark.parametrize(
    "method, argument, terms_of, weights",
    [
        (methods.ALP, 0.0, alp_terms, {"clean": 0.5, "adversarial": 0.5}),
        (methods.ALP, 2.0, alp_terms, {"clean": 0.5, "adversarial": 0.5, "pairing": 2.0}),
        (methods.MART, 0.0, mart_terms, {"boosted": 1.0}),
        (methods.MART, 5.0, mart_terms, {"boosted": 1.0, "divergence": 5.0}),
    ],
)
def test_step(method, argument, terms_of, weights):
    model = built(method, argument)
    x_adv = perturbed(reference_step.weights(model.network))
    np.testing.assert_allclose(reference_step.generated(model, X, Y), x_adv, rtol=0, atol=1e-6)
    reference_step.check_step(model, X, Y, x_adv, terms_of, weights, RATE)


LOGITS = np.random.default_rng(0).normal(size=(12, CLASSES), scale=2.0)


def numpy_boosted(logits):
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    wrong = [max(p[i, k] for k in range(CLASSES) if k != Y[i]) for i in ROWS]
    return -np.log(p[ROWS, Y]) - np.log(1 - np.array(wrong))


def test_boosted_cross_entropy_and_its_gradient():
    logits = tf.constant(LOGITS, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = losses.boosted_cross_entropy(logits, Y)
    np.testing.assert_allclose(value, numpy_boosted(LOGITS), rtol=1e-5)
    slope, step = np.zeros_like(LOGITS), 1e-5
    for k in range(CLASSES):
        move = step * np.eye(CLASSES)[k]
        slope[:, k] = (numpy_boosted(LOGITS + move) - numpy_boosted(LOGITS - move)) / (2 * step)
    np.testing.assert_allclose(tape.gradient(value, logits), slope, rtol=1e-3, atol=1e-5)


def test_boosted_cross_entropy_of_a_network_that_is_sure():
    logits = tf.constant([[200.0, 0.0, -50.0], [1e4, -1e4, 0.0], [0.0, 0.0, 0.0]])
    y = [1, 0, 2]
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = losses.boosted_cross_entropy(logits, y)
    # Of the second class by 200 nats: the true one has p = e^-200 and 1 - p_0 = e^-200 as well.
    np.testing.assert_allclose(value, [400, 0, np.log(3) - np.log(2 / 3)], rtol=1e-6, atol=1e-6)
    gradient = tape.gradient(value, logits)
    np.testing.assert_allclose(gradient[0], [2, -2, 0], atol=1e-6)
    assert np.isfinite(gradient).all()
    two = losses.boosted_cross_entropy(tf.constant([[1.0, -2.0]], tf.bfloat16), [0])
    assert two.dtype == tf.float32  # and with two classes 1 - p_k is p_y
    np.testing.assert_allclose(two, [2 * np.log(1 + np.exp(-3))], rtol=1e-6)


def test_gradients_stay_finite_where_the_clean_image_is_surely_right():
    logits = tf.constant([[80.0, 0.0, 0.0]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        batch = methods.Batch(None, [0], None, *(2 * [Outputs(logits, logits)]), None)
        value = built(methods.MART).terms(batch)["divergence"]()
    assert float(value[0]) == 0
    assert np.isfinite(tape.gradient(value, logits)).all()


def one_class():
    generator = tiny_network().generator
    inputs = keras.Input(generator.output_shape[1:])
    classifier = keras.Model(inputs, keras.layers.Dense(1)(inputs))
    return SplitClassifier(generator, classifier)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: methods.ALP(tiny_network(), BIM, -1.0), r"ALP\(weight=-1.0\): .* >= 0"),
        (lambda: methods.ALP(tiny_network(), BIM, float("inf")), r"ALP\(weight=inf\): .*finite"),
        (lambda: methods.ALP(tiny_network(), None), "give the training adversary"),
        (lambda: methods.MART(tiny_network(), BIM, -6), r"MART\(beta=-6\): .* >= 0; 5 or 6"),
        (lambda: methods.MART(tiny_network(), BIM, float("nan")), r"MART\(beta=nan\)"),
        (lambda: methods.MART(tiny_network(), None), "give the training adversary"),
        (lambda: methods.MART(one_class(), BIM), "has one class; it needs two or more"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(ValueError, match=message):
        make()
