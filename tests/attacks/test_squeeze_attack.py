"""Roles of the squeeze attack: who takes them, what goes along, and what a step costs."""

import numpy as np
import pytest
import tensorflow as tf

from robust_tf import attacks, losses
from tests.tiny import CLASSES, Smooth, cross_entropies, images, same_bits

EPS, SIZE = 0.1, 0.02
X = images()
MODEL = Smooth()
Y = np.argmax(MODEL(X), axis=1).astype("int32")


def beginning_at(x_adv, x_col, **kwargs):
    """A squeeze attack of one step from these images."""

    class Given(attacks.SqueezeAttack):
        def starts(self, bounds, seed):
            return tf.constant(x_adv), tf.constant(x_col)

    return Given(EPS, SIZE, 1, **kwargs)


def ascended(images, targets):
    """One step of 1/2 KL(targets' prediction, fixed || images' prediction)."""
    images, fixed = tf.constant(images), MODEL(targets)
    with tf.GradientTape() as tape:
        tape.watch(images)
        value = 0.5 * losses.kl_divergence(fixed, MODEL(images))
    moved = images + SIZE * tf.sign(tape.gradient(value, images))
    return np.clip(moved, np.maximum(X - EPS, 0), np.minimum(X + EPS, 1))


@pytest.fixture(scope="module")
def found():
    """Images of high and of low loss, half way to the border of the ball."""
    high = attacks.BIM(EPS / 2, EPS / 8, 6)(MODEL, X, Y).numpy()
    low = attacks.Collaborative(EPS / 2, EPS / 8, 6)(MODEL, X, Y).numpy()
    losses_ = [cross_entropies(MODEL, one, Y) for one in (low, X, high)]
    assert (losses_[0] < losses_[1]).all() and (losses_[1] < losses_[2]).all()
    return high, low


@pytest.mark.parametrize("batch_norm", ["running", "batch"])
def test_swapped_roles_exchange_images_and_gradients(found, batch_norm):
    high, low = found
    x_adv, x_col = beginning_at(low, high, batch_norm=batch_norm).members(MODEL, X, Y)
    np.testing.assert_allclose(x_adv, ascended(high, low), atol=1e-6)
    np.testing.assert_allclose(x_col, ascended(low, high), atol=1e-6)
    # The released program would step from either image along the gradient of the other.
    released = np.clip(high + (ascended(low, high) - low), X - EPS, X + EPS)
    assert (np.abs(x_adv - released) > SIZE / 2).any(axis=(1, 2, 3)).all()
    kept = beginning_at(high, low, batch_norm=batch_norm).members(MODEL, X, Y)
    same_bits(kept[0], x_adv)
    same_bits(kept[1], x_col)


@pytest.mark.parametrize("batch_norm", ["running", "batch"])
def test_a_clean_image_of_extreme_loss_takes_the_role(found, batch_norm):
    high, low = found
    nearly = attacks.BIM(EPS / 8, EPS / 8, 1)(MODEL, X, Y).numpy()
    attack = beginning_at(high, nearly, batch_norm=batch_norm)
    x_adv, x_col = attack.members(MODEL, X, Y)  # the clean images are the collaborative ones
    np.testing.assert_allclose(x_adv, ascended(high, X), atol=1e-6)
    np.testing.assert_allclose(x_col, ascended(X, high), atol=1e-6)
    mixed = low.copy()
    mixed[::2] = nearly[::2]  # in every other example
    x_adv, x_col = beginning_at(high, mixed, batch_norm=batch_norm).members(MODEL, X, Y)
    lowest = low.copy()
    lowest[::2] = X[::2]
    np.testing.assert_allclose(x_adv, ascended(high, lowest), atol=1e-6)
    np.testing.assert_allclose(x_col, ascended(lowest, high), atol=1e-6)


@pytest.mark.parametrize("batch_norm", ["running", "batch"])
def test_where_all_are_equal_both_are_the_clean_image(batch_norm):
    def constant(x):
        return 0 * tf.reshape(x, [-1, 64])[:, :CLASSES]

    attack = attacks.SqueezeAttack(EPS, SIZE, 3, batch_norm=batch_norm)
    for member in attack.members(constant, X, Y):
        same_bits(member, X)


@pytest.mark.parametrize("batch_norm", ["running", "batch"])
def test_cost(batch_norm):
    model, steps, batch = Smooth(), 4, len(X)
    attack = attacks.SqueezeAttack(EPS, SIZE, steps, batch_norm=batch_norm)
    attack(model, X, Y)
    forwards, gradients = attack.passes(model)
    again, gradients_again = forwards - batch * (1 + 2 * steps), gradients - 2 * batch * steps
    if batch_norm == "running":  # once more for the examples that chose their clean image
        assert 0 < again == gradients_again < batch * steps
    else:  # the clean forward is kept; some steps need its gradient
        assert again == 0 and gradients_again in range(batch, batch * steps + 1, batch)


def test_starts():
    x = np.full((4, 8, 8, 1), 0.5, "float32")
    bounds = attacks.Linf(EPS).bounds(tf.constant(x))
    for start, spread in (("gaussian", 0.001), ("uniform", EPS / np.sqrt(3))):
        attack = attacks.SqueezeAttack(EPS, SIZE, 1, start)
        noise = [np.asarray(s) - x for s in attack.starts(bounds, tf.constant([1, 2]))]
        for one in noise:
            assert np.std(one) == pytest.approx(spread, rel=0.15)
        assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.2


def test_members_are_in_the_ball_and_the_attack_is_the_first():
    attack = attacks.SqueezeAttack(EPS, SIZE, 7, "uniform", "l2")
    x_adv, x_col = attack.members(MODEL, X, Y, seed=3)
    same_bits(attack(MODEL, X, Y, seed=3), x_adv)
    for member in (x_adv, x_col):
        after = np.asarray(member, "float64")
        assert (after >= 0).all() and (after <= 1).all() and (np.abs(after - X) <= EPS).all()
    clean = cross_entropies(MODEL, X, Y)
    assert (cross_entropies(MODEL, x_adv, Y) > clean).all()
    assert (cross_entropies(MODEL, x_col, Y) < clean).all()
    half, _ = attack.members(MODEL, X, Y, scale=0.5)
    assert 0 < np.abs(np.asarray(half, "float64") - X).max() <= EPS / 2


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"eps": -0.1}, r"eps=-0.1\): must be in \[0, 1\]"),
        ({"step_size": 0.0}, r"step_size=0.0\): must be in \(0, 1\]"),
        ({"steps": 0}, r"steps=0\): must be an integer >= 1"),
        ({"start": "clean"}, r"start='clean'\): must be one of \('gaussian', 'uniform'\)"),
        ({"regularizer": "kl"}, r"regularizer='kl': must be one of \('symmetric_kl', 'js', 'l2'\)"),
        ({"batch_norm": "eval"}, "batch_norm='eval': must be one of"),
    ],
)
def test_settings(arguments, message):
    with pytest.raises(ValueError, match=message):
        attacks.SqueezeAttack(**{"eps": EPS, "step_size": SIZE, "steps": 2, **arguments})
