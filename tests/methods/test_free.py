"""Free: delta, replay by replay, and what is carried from batch to batch."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from robust_tf import attacks, methods
from robust_tf.models import BatchNormalization
from tests.tiny import SHAPE, labelled, tiny_network, two_replicas

EPS = 0.1
X, Y = labelled()
X = 0.3 + 0.4 * X  # away from the box


def built(replays=2, rate=0.0, network=None, **attack):
    network = network or tiny_network()
    model = methods.Free(network, attacks.FGSM(EPS, **attack), replays)
    model.compile(keras.optimizers.SGD(rate))
    return model


def signs(network, x, y):
    """Of the gradient of the cross-entropy, by plain TensorFlow."""
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        logits = network(x, training=False)
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits)
    return np.sign(tape.gradient(loss, x).numpy())


def delta_of(model):
    return model.counters.delta.numpy()


def test_delta_moves_by_eps_in_each_replay():
    """At rate 0; the second gradient is taken at the images that the first has moved."""
    model = built()
    model.train_on_batch(X, Y)
    first = EPS * signs(model.network, X, Y)
    second = np.clip(first + EPS * signs(model.network, X + first, Y), -EPS, EPS)
    np.testing.assert_allclose(delta_of(model), second[None], atol=1e-7)
    assert (first != second).any()


def test_both_gradients_are_at_the_weights_before_the_update():
    """One replay of SGD written out: the same pass gives delta and the update."""
    model, rate = built(replays=1, rate=0.5), 0.5
    twin = tiny_network()
    model.train_on_batch(X, Y)  # at delta 0, which moves it
    with tf.GradientTape() as tape:
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(Y, twin(X, training=True))
        loss = tf.reduce_mean(loss)
    expected = [
        v - rate * g
        for v, g in zip(
            twin.trainable_variables, tape.gradient(loss, twin.trainable_variables), strict=True
        )
    ]
    for weight, value in zip(model.network.trainable_variables, expected, strict=True):
        np.testing.assert_allclose(weight, value, atol=1e-6)
    np.testing.assert_allclose(delta_of(model)[0], EPS * signs(tiny_network(), X, Y), atol=1e-7)


def test_a_short_batch_leaves_the_other_rows():
    """And begins with what its rows had; a longer one later begins with 0 in the new rows."""
    model = built(replays=1)
    model.train_on_batch(X[:8], Y[:8])
    before = delta_of(model)[0]
    model.train_on_batch(X[8:11], Y[8:11])
    after = delta_of(model)[0]
    moved = np.clip(
        before[:3] + EPS * signs(model.network, X[8:11] + before[:3], Y[8:11]), -EPS, EPS
    )
    np.testing.assert_array_equal(after[3:], before[3:])
    np.testing.assert_allclose(after[:3], moved, atol=1e-7)
    model.train_on_batch(X, Y)
    start = np.concatenate([after, np.zeros((4, *SHAPE), "float32")])
    moved = np.clip(start + EPS * signs(model.network, X + start, Y), -EPS, EPS)
    np.testing.assert_allclose(delta_of(model)[0], moved, atol=1e-7)


def test_a_pixel_outside_of_the_box_has_no_gradient():
    """As in the program, whose images are clipped inside the pass; delta itself is not boxed."""
    model = built(replays=1)
    black = np.zeros_like(X)
    model.counters.delta.assign(np.full((1, *X.shape), -EPS / 2, "float32"))
    model.train_on_batch(black, Y)
    np.testing.assert_array_equal(delta_of(model)[0], np.float32(-EPS / 2))


def test_l2_ball():
    model = built(norm="L2")
    model.train_on_batch(X, Y)
    lengths = np.linalg.norm(delta_of(model)[0].reshape(len(X), -1), axis=1)
    assert lengths.max() <= EPS * (1 + 1e-6) and lengths.min() > 0.1 * EPS


def test_replicas_have_rows_of_their_own():
    """5 images are 3 and 2: the rows of each replica are those that it moved, in every copy."""
    with two_replicas().scope():
        model = built(replays=1)
    model.fit(X[:5], Y[:5], batch_size=5, shuffle=False, verbose=0)
    delta = delta_of(model)
    moved = EPS * signs(tiny_network(), X[:5], Y[:5])
    np.testing.assert_allclose(delta[0], moved[:3], atol=1e-7)
    np.testing.assert_allclose(delta[1, :2], moved[3:], atol=1e-7)
    assert delta.shape == (2, 3, *SHAPE) and not delta[1, 2].any()


def test_updates_and_statistics():
    """m updates on a batch; batch normalization sees adversarial images alone, m times."""
    model = built(replays=3, network=tiny_network(batch_norm=True), rate=0.1)
    model.train_on_batch(X, Y)
    assert model.updates_per_batch == 3 and int(model.optimizer.iterations) == 3
    assert int(model.batches) == 1 and model.attack_steps == 1
    (layer,) = (
        one for one in model.network.generator.layers if isinstance(one, BatchNormalization)
    )
    start = tiny_network(batch_norm=True)
    (fresh,) = (one for one in start.generator.layers if isinstance(one, BatchNormalization))
    assert not np.allclose(layer.moving_mean, fresh.moving_mean)
    assert model.train_names == ["loss", "adversarial", "robust_accuracy"]


@pytest.mark.parametrize(
    "attack",
    [attacks.PGD(0.1, 0.05, 2), attacks.CW(0.1, 0.1, 1), attacks.NFGSM(0.1), None],
    ids=lambda attack: type(attack).__name__,
)
def test_takes_one_step_of_cross_entropy(attack):
    with pytest.raises(ValueError, match=r"Free\(attack=.*must be one step of cross-entropy"):
        methods.Free(tiny_network(), attack)


def test_refuses_no_replays():
    with pytest.raises(ValueError, match=r"Free\(replays=0\): must be an integer >= 1"):
        methods.Free(tiny_network(), attacks.FGSM(0.1), 0)
