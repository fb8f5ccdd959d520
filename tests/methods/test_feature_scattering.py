"""Feature Scattering against its formulas, written out in float64 on a network with batch norm."""

import dataclasses
import json

import gin
import keras
import numpy as np
import pytest
import tensorflow as tf

from robust_tf import compat, methods
from tests.harness_attacks import AttackCase, assert_inside
from tests.methods import reference_step
from tests.tiny import (
    CLASSES,
    Smooth,
    images,
    labelled,
    same_bits,
    tiny_network,
    two_replicas,
    weights_of,
)

EPS, RATE = 0.1, 0.5
X, Y = labelled()
ATTACK = methods.ScatteringAttack(EPS)


def model_of(attack=ATTACK, smoothing=0.5):
    return reference_step.built(methods.FeatureScattering, attack, smoothing, rate=RATE)


def cosine(a, b):
    return tf.tensordot(a, b, 1) / (tf.norm(a) * tf.norm(b))


def transport(z, z_adv, regularizer=0.01, max_iterations=100, tolerance=0.1):
    """sum_ij T_ij C_ij, entry by entry."""
    n = len(z)
    costs = tf.stack(
        [tf.stack([tf.maximum(1 - cosine(z[i], z_adv[j]), 0) for j in range(n)]) for i in range(n)]
    )
    u = v = tf.zeros(n, tf.float64)
    share = tf.math.log(tf.constant(1 / n, tf.float64))
    for _ in range(max_iterations):
        before = u
        m = (-costs + u[:, None] + v[None, :]) / regularizer
        u = regularizer * (share - tf.math.log(tf.reduce_sum(tf.exp(m), 1) + 1e-6)) + u
        m = (-costs + u[:, None] + v[None, :]) / regularizer
        v = regularizer * (share - tf.math.log(tf.reduce_sum(tf.exp(m), 0) + 1e-6)) + v
        if tf.reduce_sum(tf.abs(u - before)) < tolerance:
            break
    return tf.reduce_sum(tf.exp((-costs + u[:, None] + v[None, :]) / regularizer) * costs)


def scattered(model, steps, step_size, space, seed, x=X):
    """x' of one batch, by running averages."""
    w, x, at = reference_step.weights(model.network), x.astype("float64"), ("logits", "features")
    clean = reference_step.forward(w, x, training=False)[at.index(space)]
    noise = tf.random.stateless_uniform(x.shape, seed, -1.0, 1.0).numpy().astype("float64")
    moved = x + EPS * noise
    assert moved.min() < 0  # not clipped where the gradient is taken

    def distance(point):
        return transport(clean, reference_step.forward(w, point, training=False)[at.index(space)])

    low, high = np.clip(x - EPS, 0, 1), np.clip(x + EPS, 0, 1)
    return reference_step.ascend(distance, moved, step_size, steps, low, high)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"step_size": 0.03},
        {"step_size": 0.04, "steps": 3},
        {"space": "features", "step_size": 0.04, "steps": 2},
    ],
    ids=lambda arguments: " ".join(arguments) or "default",
)
def test_perturbation(arguments):
    """In the graph of a step, and eagerly."""
    model = model_of(methods.ScatteringAttack(EPS, **arguments))
    seed = reference_step.adversary_seed(model)
    full = {"steps": 1, "step_size": EPS, "space": "logits", **arguments}
    expected = scattered(model, seed=seed, **full)
    eager = model.attack(model.network, X, Y, seed=seed)
    for x_adv in (reference_step.generated(model, X, Y), eager):
        np.testing.assert_allclose(x_adv, expected, rtol=0, atol=1e-6)


def smoothed(y, smoothing):
    targets = np.full((len(y), CLASSES), smoothing / (CLASSES - 1))
    targets[np.arange(len(y)), y] = 1 - smoothing
    return targets


@pytest.mark.parametrize("smoothing", [0.5, 0.0])
def test_state_after_a_step(smoothing):
    model = model_of(smoothing=smoothing)
    w = reference_step.weights(model.network)
    x_adv = scattered(model, 1, EPS, "logits", reference_step.adversary_seed(model))
    loss, expected, gradients = reference_step.after_step(w, x_adv, smoothed(Y, smoothing), RATE)
    accuracy = np.mean(np.argmax(reference_step.forward(w, x_adv, True)[0], 1) == Y)
    logs = model.train_on_batch(X, Y, return_dict=True)
    assert set(logs) == {"loss", "adversarial", "robust_accuracy"}
    assert float(logs["adversarial"]) == pytest.approx(loss, rel=1e-5)
    assert float(logs["loss"]) == pytest.approx(loss, rel=1e-5)
    assert float(logs["robust_accuracy"]) == pytest.approx(accuracy)
    for name, value in reference_step.weights(model.network).items():
        np.testing.assert_allclose(value, expected[name], rtol=0, atol=2e-6, err_msg=name)
    assert all(np.abs(gradient).max() > 1e-4 for gradient in gradients.values())


def test_each_replica_scatters_its_own_share():
    strategy = two_replicas()
    with strategy.scope():
        model = model_of()
    w, total = reference_step.weights(model.network), 0.0
    for replica in (0, 1):
        share = slice(6 * replica, 6 * replica + 6)
        seed = reference_step.adversary_seed(model, replica)
        x_adv = scattered(model, 1, EPS, "logits", seed, X[share])
        total += reference_step.after_step(w, x_adv, smoothed(Y[share], 0.5), RATE)[0] / 2
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(12)
    step = tf.function(lambda batch: strategy.run(model.train_step, (batch,)))
    for batch in strategy.experimental_distribute_dataset(data):
        step(batch)
    assert float(model.step_metrics["adversarial"].result()) == pytest.approx(total, rel=1e-5)


def test_the_attack_keeps_its_promises():
    model, x = Smooth(), images()
    y = np.argmax(model(x), axis=1).astype("int32")
    case = AttackCase(methods.ScatteringAttack)
    for eps in (0.3, 8 / 255):
        assert_inside(case, x, ATTACK(model, x, y), 0.1)
        assert_inside(case, x, methods.ScatteringAttack(eps)(model, x, y), eps)
    first, again, other = (ATTACK(model, x, y, seed=s) for s in (1, 1, 2))
    same_bits(first, again)
    assert (first.numpy() != other.numpy()).any()
    same_bits(ATTACK(model, x, (y + 1) % CLASSES, seed=1), first)  # labels are ignored
    same_bits(methods.ScatteringAttack(0.0)(model, x, y), x)
    same_bits(ATTACK(model, x, y, scale=0.0), x)
    alone = ATTACK(model, x[:1], y[:1])
    assert_inside(case, x[:1], alone, EPS)
    assert (alone.numpy() != x[:1]).mean() > 0.9
    assert ATTACK(model, x[:0], y[:0]).shape == x[:0].shape
    config = json.loads(json.dumps(compat.serialize(ATTACK)))
    assert compat.deserialize(config) == ATTACK


def test_it_raises_the_distance():
    model = model_of()
    w = reference_step.weights(model.network)

    def distance(x):
        at = [reference_step.forward(w, images, training=False)[0] for images in (X, x)]
        return float(transport(*at))

    noisy = np.clip(X + EPS * np.sign(np.random.default_rng(0).normal(size=X.shape)), 0, 1)
    assert distance(ATTACK(model.network, X, Y)) > 2 * distance(noisy)


@pytest.mark.parametrize("mode", ["running", "batch", "training"])
def test_batch_norm_mode(mode):
    model = model_of(dataclasses.replace(ATTACK, batch_norm=mode))
    before = weights_of(model.network)
    model.attack(model.network, X, Y)
    after = weights_of(model.network)
    changed = sum((old != new).any() for old, new in zip(before, after, strict=True))
    assert changed == (2 if mode == "training" else 0)


def test_bfloat16_features(mixed_bfloat16):
    for space in ("logits", "features"):
        model = model_of(methods.ScatteringAttack(EPS, space=space))
        logs = model.train_on_batch(X, Y, return_dict=True)
        assert all(np.isfinite(value) for value in logs.values())
        x_adv = reference_step.generated(model, X, Y)
        assert x_adv.dtype == tf.float32 and np.abs(x_adv - X).max() > 0.9 * EPS


def test_gin():
    gin.parse_config("""
        FeatureScattering.attack = @ScatteringAttack()
        FeatureScattering.label_smoothing = 0.25
        ScatteringAttack.eps = 0.2
        ScatteringAttack.regularizer = 0.02
    """)
    model = methods.FeatureScattering(tiny_network())
    assert model.attack == methods.ScatteringAttack(0.2, regularizer=0.02)
    again = methods.FeatureScattering.from_config(model.get_config())
    assert (again.attack, again.label_smoothing) == (model.attack, 0.25)


def one_class():
    generator = tiny_network().generator
    shape = generator.output_shape[1:]
    classifier = keras.Sequential([keras.Input(shape), keras.layers.Dense(1)])
    return methods.FeatureScattering(type(tiny_network())(generator, classifier), ATTACK)


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: methods.FeatureScattering(tiny_network(), None), ValueError, "give the training"),
        (
            lambda: model_of(smoothing=1.0),
            ValueError,
            r"label_smoothing=1.0\): must be in \[0, 0\.\d+\); so that of",
        ),
        (one_class, ValueError, "the network has one class; .* two or more"),
        (lambda: methods.ScatteringAttack(-0.1), ValueError, r"ScatteringAttack\(eps=-0.1\)"),
        (lambda: methods.ScatteringAttack(0.1, 0.0), ValueError, r"step_size=0.0\): must be in"),
        (lambda: methods.ScatteringAttack(0.1, steps=0), ValueError, r"steps=0\): must be an int"),
        (
            lambda: methods.ScatteringAttack(0.1, regularizer=0.0),
            ValueError,
            r"ScatteringAttack\(regularizer=0.0\)",
        ),
        (lambda: methods.ScatteringAttack(0.1, max_iterations=0), ValueError, "max_iterations=0"),
        (lambda: methods.ScatteringAttack(0.1, tolerance=-1.0), ValueError, "tolerance=-1.0"),
        (
            lambda: methods.ScatteringAttack(0.1, space="pixels"),
            ValueError,
            r"space='pixels'\): must be 'logits' or 'features'",
        ),
        (lambda: methods.ScatteringAttack(0.1, batch_norm="eval"), ValueError, "batch_norm='eval'"),
        (
            lambda: methods.ScatteringAttack(0.1, space="features")(Smooth(), X, Y),
            TypeError,
            "on a Smooth: it takes a SplitClassifier",
        ),
    ],
)
def test_what_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()
