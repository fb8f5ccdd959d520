"""FGSM-RS and N-FGSM on linear models, where what one step from noise does is known."""

import numpy as np
import pytest
import tensorflow as tf

from robust_tf import attacks, evaluation, methods, training
from robust_tf.evaluation.attack_names import at_eps, name_of
from tests.tiny import labelled, tiny_network

SHAPE = (64, 64, 1)
W = np.random.default_rng(0).normal(size=SHAPE).astype("float32")


def linear(x):
    """Two classes; the gradient for class 0 has the signs of -W everywhere."""
    lead = tf.reduce_sum((x - 0.5) * W, [1, 2, 3])[:, None]
    return tf.concat([lead, -lead], axis=1)


GRAY = np.full((2, *SHAPE), 0.5, "float32")  # away from the box
ZEROS = np.zeros(2, "int32")


def moved(attack, x=GRAY, seed=0):
    return attack(linear, x, ZEROS, seed=seed).numpy().astype("float64") - x


def test_fgsm_rs_away_from_the_box():
    """5/8 of the pixels at eps, mean |delta| 55/64 eps: |U + 1.25| > 1 for U > -0.25."""
    share, mean = np.mean(np.arange(-1, 1, 1e-5) > -0.25), 55 / 64
    assert share == pytest.approx(0.625, abs=1e-4)
    delta = moved(attacks.FGSMRS(0.1)) / 0.1
    assert np.mean(np.abs(delta) > 1 - 1e-5) == pytest.approx(share, abs=0.02)
    assert np.mean(np.abs(delta)) == pytest.approx(mean, abs=0.01)
    along = delta * -np.sign(W)  # the step goes up the cross-entropy of class 0
    assert along.min() > 0.25 - 1e-5 and along.max() <= 1 + 1e-5


def test_n_fgsm_away_from_the_box():
    """E delta^2 = eps^2 (1 + k^2 / 3), and |delta| goes to (1 + k) eps."""
    for noise in (2.0, 1.0, 0.0):
        delta = moved(attacks.NFGSM(0.05, noise)) / 0.05
        assert np.mean(delta**2) == pytest.approx(1 + noise**2 / 3, rel=0.03)
        assert np.abs(delta).max() == pytest.approx(1 + noise, abs=0.01)
    longer = moved(attacks.NFGSM(0.05, step_size=0.1)) / 0.05
    assert np.mean(longer**2) == pytest.approx(4 + 4 / 3, rel=0.03)


def test_n_fgsm_stays_in_the_box():
    """The start is boxed before the step, too: from 0 the step alone leads below eps + noise."""
    black = np.zeros((2, *SHAPE), "float32")
    delta = moved(attacks.NFGSM(0.1), black)
    up = np.broadcast_to(W < 0, delta.shape)
    assert delta[~up].max() <= 0.1 + 1e-6 and delta.min() == 0  # noise up to 0.2, a step back
    assert np.mean(delta[up] <= 0.1 + 1e-6) == pytest.approx(0.5, abs=0.03)  # noise below 0
    # Not boxed, the step begins below 0: a quarter of the noise is below -0.1, and ends at 0.
    free = moved(attacks.NFGSM(0.1, boxed_start=False), black)
    assert np.mean(free[up] == 0) == pytest.approx(0.25, abs=0.03) and free.min() == 0
    assert np.mean(np.abs(free[up] - 0.1) < 1e-3) < 0.02 and free.max() <= 0.3 + 1e-6


@pytest.mark.parametrize("boxed", [True, False])
def test_start_of_fgsm_rs(boxed):
    """Not boxed it takes the gradient outside of [0, 1], as the program for MNIST does."""
    attack = attacks.FGSMRS(0.1, boxed_start=boxed)
    black = tf.zeros((2, *SHAPE))
    start = attack.start(attack.threat, attack.threat.bounds(black), tf.constant([1, 2])).numpy()
    assert (start.min() == 0) if boxed else (start.min() < -0.09)
    x_adv = attack(linear, black, ZEROS).numpy()
    assert 0 <= x_adv.min() and x_adv.max() <= np.float32(0.1)


def test_steps_go_with_eps():
    """1.25 eps of whatever eps; a step that is said stays."""
    own, said = attacks.FGSMRS(0.2), attacks.FGSMRS(0.2, 0.05)
    assert own.step.step_size == pytest.approx(0.25) and own.steps == 1
    assert own.at(0.1).step.step_size == pytest.approx(0.125)
    assert at_eps(said, 0.1).step_size == pytest.approx(0.025)
    assert attacks.FGSMRS(0.9).step.step_size == pytest.approx(1.125)
    halved = own(linear, GRAY, ZEROS, eps=0.1)
    np.testing.assert_array_equal(halved, attacks.FGSMRS(0.1)(linear, GRAY, ZEROS))
    assert name_of(own) == "FGSM-RS eps=0.2" and name_of(attacks.NFGSM(0.1)) == "N-FGSM eps=0.1"


def test_an_evaluation_refuses_what_leaves_its_ball():
    x, y = labelled()
    with pytest.raises(ValueError, match="NFGSM moves images by more than eps, to train on them"):
        evaluation.evaluate(tiny_network(), (x, y), {"N-FGSM": attacks.NFGSM(0.1)})
    with pytest.raises(ValueError, match="NFGSM moves images by more than eps"):
        training.Recipe(validation_attack=attacks.NFGSM(0.1))
    result = evaluation.evaluate(tiny_network(), (x, y), {"FGSM-RS": attacks.FGSMRS(0.1)})
    assert result.outcomes["FGSM-RS"]


@pytest.mark.parametrize("attack", [attacks.FGSMRS(0.1), attacks.NFGSM(0.1)], ids=type)
def test_training_takes_one_step(attack):
    model = methods.AdversarialTraining(tiny_network(), attack)
    assert model.attack_steps == 1
    labels = tf.one_hot(labelled()[1], 3)  # as mixup gives them
    model.compile("sgd")
    model.train_on_batch(labelled()[0], labels)
