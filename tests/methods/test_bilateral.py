"""Bilateral against its formulas, written out in float64 on a network with batch norm."""

import gin
import keras
import numpy as np
import pytest
import tensorflow as tf

from robust_tf import attacks, losses, methods
from robust_tf.attacks.randomness import fold
from robust_tf.methods.bilateral import most_confusing, perturbed_labels
from robust_tf.models import SplitClassifier
from tests.methods import reference_step
from tests.tiny import labelled, tiny_network

EPS, RATE = 0.1, 0.5
X, Y = labelled()
FGSM = attacks.FGSM(EPS, random_start=True)
PGD = attacks.PGD(EPS, 0.04, 3)
RANDOM = np.random.default_rng(6)


def model_of(attack=PGD, **arguments):
    return reference_step.built(methods.Bilateral, attack, rate=RATE, **arguments)


def numpy_labels(logits, y, b=9.0, g=0.01):
    """The closed form, one class of one example at a time."""
    labels = np.zeros_like(logits)
    for i, (row, true) in enumerate(zip(logits, y, strict=True)):
        probabilities = np.exp(row - row.max()) / np.exp(row - row.max()).sum()
        loss = -np.log(probabilities)
        wrong = [k for k in range(len(row)) if k != true]
        m, largest = min(loss[k] for k in wrong), max(loss[k] for k in wrong)
        total = sum(loss[k] - m + g for k in wrong)
        delta = 1 / (1 + b * (largest - m + g) / total)
        for k in wrong:
            labels[i, k] = delta * (loss[k] - m + g) / total
        labels[i, true] = 1 - delta
    return labels


def numpy_aims(logits, y):
    return [
        max((k for k in range(len(row)) if k != true), key=lambda k: row[k])
        for row, true in zip(logits, y, strict=True)
    ]


def perturbed(model, seed, steps, step_size):
    """x', by running averages, towards the most confusing class; and y'."""
    w, x = reference_step.weights(model.network), X.astype("float64")
    logits = reference_step.forward(w, x, training=False)[0].numpy()
    aims = tf.one_hot(numpy_aims(logits, Y), logits.shape[1], dtype=tf.float64)
    start = tf.random.stateless_uniform(X.shape, fold(seed, 0), -1.0, 1.0).numpy()
    moved = np.clip(x + EPS * start.astype("float64"), 0, 1)

    def nearness(point):
        log_p = reference_step.log_softmax(reference_step.forward(w, point, training=False)[0])
        return tf.reduce_sum(aims * log_p, 1)

    low, high = np.clip(x - EPS, 0, 1), np.clip(x + EPS, 0, 1)
    moved = reference_step.ascend(nearness, moved, step_size, steps, low, high)
    return moved, numpy_labels(logits, Y, model.multiplier, model.gap)


CASES = {
    "one step": (FGSM, 1, EPS, {}),
    "three steps": (PGD, 3, 0.04, {"multiplier": 4.0, "gap": 0.1}),
}


@pytest.mark.parametrize("case", CASES)
def test_image_and_label(case):
    attack, steps, step_size, arguments = CASES[case]
    model = model_of(attack, **arguments)
    x_adv, labels = reference_step.generated(model, X, Y)
    expected_x, expected_labels = perturbed(
        model, reference_step.adversary_seed(model), steps, step_size
    )
    np.testing.assert_allclose(x_adv, expected_x, rtol=0, atol=1e-6)
    np.testing.assert_allclose(labels, expected_labels, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_state_after_a_step(case):
    attack, steps, step_size, arguments = CASES[case]
    model = model_of(attack, **arguments)
    w = reference_step.weights(model.network)
    x_adv, labels = perturbed(model, reference_step.adversary_seed(model), steps, step_size)
    loss, expected, gradients = reference_step.after_step(w, x_adv, labels, RATE)
    accuracy = np.mean(np.argmax(reference_step.forward(w, x_adv, True)[0], 1) == Y)
    logs = model.train_on_batch(X, Y, return_dict=True)
    assert set(logs) == {"loss", "adversarial", "robust_accuracy"}
    assert float(logs["adversarial"]) == pytest.approx(loss, rel=1e-5)
    assert float(logs["loss"]) == pytest.approx(loss, rel=1e-5)
    assert float(logs["robust_accuracy"]) == pytest.approx(accuracy)
    for name, value in reference_step.weights(model.network).items():
        np.testing.assert_allclose(value, expected[name], rtol=0, atol=2e-6, err_msg=name)
    assert all(np.abs(gradient).max() > 1e-4 for gradient in gradients.values())


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("b, g", [(9.0, 0.01), (1.0, 2.0), (30.0, 1e-4)])
def test_labels_are_those_of_the_closed_form(classes, b, g):
    logits = RANDOM.normal(size=(20, classes), scale=4.0)
    y = RANDOM.integers(0, classes, 20)
    labels = perturbed_labels(tf.constant(logits, tf.float32), tf.constant(y), b, g).numpy()
    np.testing.assert_allclose(labels, numpy_labels(logits, y, b, g), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(labels.sum(1), np.ones(20), rtol=1e-5)
    rows, wrong = np.arange(20), labels.copy()
    wrong[rows, y] = 0
    np.testing.assert_allclose(labels[rows, y], b * wrong.max(1), rtol=1e-5)
    assert (labels > 0).all()
    # the most confusing class has the smallest share
    aims = most_confusing(tf.constant(logits, tf.float32), tf.constant(y)).numpy()
    np.testing.assert_array_equal(aims, numpy_aims(logits, y))
    assert (aims != y).all()
    np.testing.assert_array_equal(labels[rows, aims], labels.min(1))


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_classes_that_are_alike_make_label_smoothing(classes):
    y = np.arange(6) % classes
    logits = np.full((6, classes), 3.0, "float32")
    logits[np.arange(6), y] = RANDOM.normal(size=6, scale=5.0)
    smoothing = (classes - 1) / (classes - 1 + 9)
    expected = losses.smooth_labels(tf.constant(y), classes, smoothing)
    np.testing.assert_allclose(perturbed_labels(tf.constant(logits), y), expected, rtol=1e-5)
    assert smoothing == {2: 0.1, 3: 2 / 11, 10: 0.5}[classes]


def test_two_classes_have_the_same_label_whatever_the_logits():
    logits = tf.constant(RANDOM.normal(size=(5, 2), scale=30.0), tf.float32)
    labels = perturbed_labels(logits, np.zeros(5, "int32"), 4.0)
    np.testing.assert_allclose(labels, [[0.8, 0.2]] * 5, rtol=1e-6)
    assert (most_confusing(logits, np.zeros(5, "int32")).numpy() == 1).all()


def test_labels_of_large_logits_are_finite():
    logits = tf.constant([[1e6, -1e6, 0.0], [-1e6, 1e6, 1e6], [0.0, 0.0, 0.0]])
    labels = perturbed_labels(logits, np.array([0, 0, 1])).numpy()
    assert np.isfinite(labels).all()
    np.testing.assert_allclose(labels.sum(1), np.ones(3), rtol=1e-5)


def test_the_attack_is_aimed_here():
    assert model_of().aimed == attacks.PGD(EPS, 0.04, 3, targeted=True)
    assert model_of(attacks.CW(EPS, 0.04, 2)).aimed == attacks.CW(EPS, 0.04, 2, targeted=True)
    with pytest.raises(ValueError, match="it is targeted.*give it with targeted=False"):
        model_of(attacks.PGD(EPS, 0.04, 3, targeted=True))


def test_the_image_nears_its_aim():
    model = model_of()
    logits = model.network(X)
    aims = most_confusing(logits, Y)
    near = losses.cross_entropy(model.network(reference_step.generated(model, X, Y).x_adv), aims)
    assert (near < losses.cross_entropy(logits, aims)).numpy().all()


def test_gin():
    gin.parse_config("""
        Bilateral.attack = @PGD()
        Bilateral.multiplier = 4.0
        Bilateral.gap = 0.05
        PGD.eps = 0.1
        PGD.step_size = 0.04
        PGD.steps = 3
    """)
    model = methods.Bilateral(tiny_network())
    assert (model.attack, model.multiplier, model.gap) == (PGD, 4.0, 0.05)
    again = methods.Bilateral.from_config(model.get_config())
    assert (again.attack, again.aimed) == (PGD, model.aimed)
    assert (again.multiplier, again.gap) == (4.0, 0.05)


def one_class():
    generator = tiny_network().generator
    shape = generator.output_shape[1:]
    classifier = keras.Sequential([keras.Input(shape), keras.layers.Dense(1)])
    return SplitClassifier(generator, classifier)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: model_of(None), r"attack=None\): give the training adversary"),
        (lambda: model_of(attacks.Square(EPS, 10)), "a gradient attack"),
        (lambda: model_of(attacks.TRADESAttack(EPS, 0.04, 2)), "it has no labels"),
        (lambda: model_of(multiplier=0.5), r"Bilateral\(multiplier=0.5\): .* >= 1"),
        (lambda: model_of(multiplier=float("inf")), r"Bilateral\(multiplier=inf\)"),
        (lambda: model_of(gap=0.0), r"Bilateral\(gap=0.0\): .* > 0"),
        (lambda: methods.Bilateral(one_class(), PGD), "one class; it needs two or more"),
    ],
)
def test_what_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
