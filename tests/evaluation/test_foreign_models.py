"""Models that nobody here made: one from keras.applications, and a function around it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from robust_tf import attacks
from robust_tf.evaluation import evaluate

EPS = 4 / 255
ATTACK = attacks.BIM(EPS, EPS / 2, 3)
X = np.random.default_rng(1).random((13, 32, 32, 3), np.float32)


@pytest.fixture(scope="module")
def mobile_net():
    """MobileNet with fresh weights; its logits are centered, so that it predicts three classes."""
    keras.utils.set_random_seed(0)
    body = keras.applications.MobileNet(
        (32, 32, 3), alpha=0.25, include_top=False, weights=None, pooling="avg"
    )
    features = np.asarray(body(X, training=False))
    head = keras.layers.Dense(3)
    model = keras.Sequential([keras.Input((32, 32, 3)), body, head])
    kernel = np.linalg.qr(np.random.default_rng(0).normal(size=(features.shape[1], 3)))[0]
    scale = 1 / np.std(features @ kernel - np.mean(features @ kernel, axis=0))
    head.set_weights([scale * kernel, -scale * np.mean(features @ kernel, axis=0)])
    return model


def test_a_keras_application_in_uneven_batches(mobile_net):
    y = np.argmax(mobile_net(X, training=False), 1)
    assert len(np.unique(y)) == 3
    y[:2] = (y[:2] + 1) % 3
    result = evaluate(mobile_net, (X, y), ATTACK, batch_size=5, checks=False)
    assert result.natural.tolist() == [False] * 2 + [True] * 11
    # By hand, with Keras and a tape alone.
    clean, labels = X[2:], y[2:]
    adversarial = clean.copy()
    for _ in range(3):
        with tf.GradientTape() as tape:
            at = tf.constant(adversarial)
            tape.watch(at)
            logits = mobile_net(at, training=False)
            loss = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
        moved = adversarial + EPS / 2 * np.sign(tape.gradient(loss, at))
        adversarial = np.clip(np.clip(moved, clean - EPS, clean + EPS), 0, 1)
    expected = np.argmax(mobile_net(adversarial, training=False), 1) == labels
    # A pixel whose gradient rounds to the other sign may change a verdict, but hardly two.
    [found] = result.robust.values()
    assert expected.sum() < 11 and (found[2:] != expected).sum() <= 1


def test_a_function_around_it(mobile_net):
    y = np.argmax(mobile_net(X, training=False), 1)

    def mirrored(x):
        return mobile_net(tf.reverse(x, [2]), training=False)

    plain = evaluate(mobile_net, (X, y), ATTACK, batch_size=5, checks=False)
    same = evaluate(mirrored, (X[:, :, ::-1].copy(), y), ATTACK, batch_size=4, checks=False)
    assert same.natural.all() and plain.natural.all()
    assert abs(same.worst_case_accuracy - plain.worst_case_accuracy) <= 1 / 13
