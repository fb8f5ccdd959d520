"""The gradient attacks against loops written out in NumPy on a linear softmax model."""

import numpy as np
import pytest
import tensorflow as tf

from robust_tf import attacks
from robust_tf.attacks import randomness
from robust_tf.attacks.randomness import as_seed, each, fold
from tests.tiny import CLASSES, SHAPE, Smooth, images

RNG = np.random.default_rng(1)
W = RNG.normal(0, 0.3, (64, CLASSES))
B = np.array([-4.0, -5.0, -4.5])
X = images(8)
Y = (np.arange(8) % CLASSES).astype("int32")
SEED = 11


def network(x):
    return tf.reshape(x, [-1, 64]) @ W.astype("float32") + B.astype("float32")


def logits_of(x):
    return np.asarray(x, "float64").reshape(len(x), 64) @ W + B


def softmax(logits):
    e = np.exp(logits - logits.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def to_image(logit_gradient):
    return (logit_gradient @ W.T).reshape(-1, *SHAPE)


def ce_gradient(x, y):
    return to_image(softmax(logits_of(x)) - np.eye(CLASSES)[y])


def kl_gradient(x, direction):
    """Of KL(p(X) || p(x)), or of KL(p(x) || p(X))."""
    p, q = softmax(logits_of(X)), softmax(logits_of(x))
    if direction == "clean_adv":
        return to_image(q - p)
    ratio = np.log(q / p)
    return to_image(q * (ratio - (q * ratio).sum(1, keepdims=True)))


def margin_gradient(x, y):
    """Of max_{j != y} z_j - z_y."""
    logits = logits_of(x)
    others = np.where(np.eye(CLASSES)[y] > 0, -np.inf, logits)
    return to_image(np.eye(CLASSES)[others.argmax(1)] - np.eye(CLASSES)[y])


def start_of(attack, seed=SEED):
    """Where the attack's first run starts."""
    bounds = attack.threat.bounds(tf.constant(X))
    return np.asarray(attack.start(attack.threat, bounds, fold(as_seed(seed), 0)), "float64")


def ascend(x, gradient, eps, step_size, steps):
    for _ in range(steps):
        x = x + step_size * np.sign(gradient(x))
        x = np.clip(np.clip(x, X - np.float64(eps), X + np.float64(eps)), 0, 1)
    return x


LOOPS = {
    "PGD": (attacks.PGD(0.3, 0.07, 6), lambda x: ce_gradient(x, Y)),
    "BIM": (attacks.BIM(0.3, 0.07, 6), lambda x: ce_gradient(x, Y)),
    "PGD targeted": (attacks.PGD(0.3, 0.07, 6, targeted=True), lambda x: -ce_gradient(x, Y)),
    "CW": (attacks.CW(0.3, 0.07, 6), lambda x: margin_gradient(x, Y)),
    "TRADES": (attacks.TRADESAttack(0.3, 0.07, 6), lambda x: kl_gradient(x, "clean_adv")),
    "TRADES of ADR": (
        attacks.TRADESAttack(0.3, 0.07, 6, "adv_clean", "uniform"),
        lambda x: kl_gradient(x, "adv_clean"),
    ),
}


@pytest.mark.parametrize("name", LOOPS)
def test_the_loop(name):
    attack, gradient = LOOPS[name]
    expected = ascend(start_of(attack), gradient, 0.3, 0.07, 6)
    np.testing.assert_allclose(attack(network, X, Y, seed=SEED), expected, rtol=0, atol=2e-6)


def test_fgsm():
    expected = np.clip(X + 0.1 * np.sign(ce_gradient(X, Y)), 0, 1)
    np.testing.assert_allclose(attacks.FGSM(0.1)(network, X, Y), expected, rtol=0, atol=1e-7)
    attack = attacks.FGSM(0.1, random_start=True)
    start = start_of(attack)
    assert np.std(start - X) > 0.03
    expected = ascend(start, lambda x: ce_gradient(x, Y), 0.1, 0.1, 1)
    np.testing.assert_allclose(attack(network, X, Y, seed=SEED), expected, rtol=0, atol=1e-6)


def test_l2_loop():
    attack, x = attacks.BIM(1.0, 0.4, 5, norm="L2"), X.astype("float64")
    for _ in range(5):
        gradient = ce_gradient(x, Y)
        x = x + 0.4 * gradient / np.sqrt((gradient**2).sum((1, 2, 3), keepdims=True))
        length = np.sqrt(((x - X) ** 2).sum((1, 2, 3), keepdims=True))
        x = np.clip(X + (x - X) * np.minimum(1, 1 / length), 0, 1)
    np.testing.assert_allclose(attack(network, X, Y), x, rtol=0, atol=1e-5)


# The gradient of a linear model hardly turns; that of this one does.
CURVED = Smooth(4)


def curved_gradient(x, y):
    hidden = np.tanh((x - 0.5).reshape(-1, 64) @ CURVED.first)
    back = (softmax(hidden @ CURVED.second) - np.eye(CLASSES)[y]) @ CURVED.second.T
    return ((back * (1 - hidden**2)) @ CURVED.first.T).reshape(-1, *SHAPE)


def test_momentum_travels_from_step_to_step():
    x, momentum = X.astype("float64"), np.zeros_like(X, "float64")
    for _ in range(6):
        gradient = curved_gradient(x, Y)
        momentum = 0.9 * momentum + gradient / np.abs(gradient).mean((1, 2, 3), keepdims=True)
        x = np.clip(np.clip(x + 0.1 * np.sign(momentum), X - 0.3, X + 0.3), 0, 1)
    mim = attacks.MIM(0.3, 0.1, 6, decay=0.9)(CURVED, X, Y)
    np.testing.assert_allclose(mim, x, rtol=0, atol=2e-6)
    bim = attacks.BIM(0.3, 0.1, 6)(CURVED, X, Y).numpy()
    assert (np.abs(mim - bim).max((1, 2, 3)) > 0.05).any()
    without = attacks.MIM(0.3, 0.1, 6, decay=0.0)(CURVED, X, Y)
    np.testing.assert_array_equal(without, bim)


def test_margin_of_logits_of_any_sign():
    logits = tf.constant([[-5.0, -1.0, -3.0], [-5.0, -1.0, -3.0], [2.0, 0.0, 7.0]])
    y = tf.constant([1, 0, 2])
    values = attacks.Margin(confidence=np.inf).values(logits, y, None)
    np.testing.assert_array_equal(values, [-2, 4, -5])
    aimed = attacks.Margin(targeted=True, confidence=np.inf).values(logits, y, None)
    np.testing.assert_array_equal(aimed, [2, -4, 5])
    hinged = attacks.Margin(confidence=3.0).values(logits, y, None)
    np.testing.assert_array_equal(hinged, [-2, 3, -5])


def lead(logits, y):
    """z_y - max_{j != y} z_j."""
    return logits[np.arange(len(y)), y] - np.where(np.eye(CLASSES)[y] > 0, -np.inf, logits).max(1)


def one_target_after_the_other(at_target, score, y):
    """Each example at every other class, until it is broken; the image of the lowest margin."""
    worst = X.astype("float64")
    for n in range(len(X)):
        lowest = lead(score(worst), y)[n]
        for offset in range(1, CLASSES):
            x = at_target((y + offset) % CLASSES)
            if lowest < 0:
                break
            if lead(score(x), y)[n] < lowest:
                worst[n], lowest = x[n], lead(score(x), y)[n]
    return worst


def test_multi_targeted_is_the_worst_of_its_targets():
    attack = attacks.MultiTargeted(attacks.BIM(0.02, 0.01, 4))
    y = np.argmax(logits_of(X), axis=1).astype("int32")
    y[-1] = (y[-1] + 1) % CLASSES

    def at_target(t):
        return ascend(X.astype("float64"), lambda x: -ce_gradient(x, t), 0.02, 0.01, 4)

    expected = one_target_after_the_other(at_target, logits_of, y)
    moved = np.abs(expected - X).max((1, 2, 3)) > 0
    broken = lead(logits_of(expected), y) < 0
    assert not moved[-1] and moved[:-1].all() and 0 < broken[:-1].sum() < len(X) - 1, broken
    np.testing.assert_allclose(attack(network, X, y), expected, rtol=0, atol=1e-6)


def curved_logits(x):
    return np.tanh((np.asarray(x, "float64") - 0.5).reshape(-1, 64) @ CURVED.first) @ CURVED.second


def curved_difference_gradient(x, t, y):
    """Of z_t - z_y."""
    hidden = np.tanh((x - 0.5).reshape(-1, 64) @ CURVED.first)
    back = (np.eye(CLASSES)[t] - np.eye(CLASSES)[y]) @ CURVED.second.T
    return ((back * (1 - hidden**2)) @ CURVED.first.T).reshape(-1, *SHAPE)


def test_multi_targeted_on_differences_of_logits():
    y = np.argmax(curved_logits(X), axis=1).astype("int32")

    def at_target(t):
        def gradient(x):
            return curved_difference_gradient(x, t, y)

        return ascend(X.astype("float64"), gradient, 0.04, 0.02, 4)

    expected = one_target_after_the_other(at_target, curved_logits, y)
    broken = lead(curved_logits(expected), y) < 0
    assert 0 < broken.sum() < len(X), broken
    bim = attacks.BIM(0.04, 0.02, 4)
    x_adv = attacks.MultiTargeted(bim, logits=True)(CURVED, X, y)
    np.testing.assert_allclose(x_adv, expected, rtol=0, atol=2e-6)
    assert np.abs(attacks.MultiTargeted(bim)(CURVED, X, y) - x_adv).max() > 0.01


def test_scale_shrinks_ball_and_step():
    attack = attacks.BIM(0.3, 0.07, 3)
    half = attack(network, X, Y, scale=0.5)
    expected = ascend(X.astype("float64"), lambda x: ce_gradient(x, Y), 0.15, 0.035, 3)
    np.testing.assert_allclose(half, expected, rtol=0, atol=1e-6)


def test_seeds_of_examples_stages_and_restarts_never_meet():
    seeds = set()
    for seed in range(3):
        for stage in range(4):
            rows = each(fold(as_seed(seed), stage), tf.range(100))
            for target in range(5):
                for restart in range(5):
                    folded = fold(fold(rows, target), restart)
                    seeds |= {tuple(row) for row in folded.numpy().tolist()}
            seeds |= {tuple(row) for row in rows.numpy().tolist()}
    assert len(seeds) == 3 * 4 * 100 * 26


def test_draws_of_an_example_depend_on_its_seed_alone():
    rows = each(as_seed(3), tf.constant([5, 9, 2]))
    for draw in (randomness.uniform, randomness.normal):
        whole = draw(rows, [3, 4, 2]).numpy()
        np.testing.assert_array_equal(draw(rows[1:2], [1, 4, 2]).numpy()[0], whole[1])
        assert len(np.unique(whole)) == whole.size
        assert draw(rows[:0], [0, 4, 2]).shape == (0, 4, 2)
    values = randomness.uniform(each(as_seed(0), tf.range(2000)), [2000, 3], -1.0, 1.0).numpy()
    assert abs(values.mean()) < 0.05 and abs(np.corrcoef(values[:-1, 0], values[1:, 0])[0, 1]) < 0.1
