"""A step of squeeze training against one written out in float64; what is refused."""

import gin
import keras
import numpy as np
import pytest
import tensorflow as tf

from robust_tf import attacks, compat, methods
from robust_tf.methods.squeeze import SqueezeBatch, SqueezeImages
from robust_tf.models import Outputs
from robust_tf.training import WeightPerturbation
from tests.methods import reference_step
from tests.tiny import labelled, tiny_network

EPS, SIZE, STEPS, BETA, RATE = 0.1, 0.03, 3, 3.0, 0.1
X, Y = labelled()
SETTINGS = [
    {"outer_order": "st"},
    {"outer_order": "rst", "regularizer": "js", "start": "uniform"},
    {"regularizer": "l2"},
    {"start": "uniform", "detach_targets": False},
]


def build(batch_norm=True, outer_order="st", beta=BETA, optimizer=None, **of_attack):
    attack = attacks.SqueezeAttack(EPS, SIZE, STEPS, **of_attack)
    settings = {"rate": RATE, "batch_norm": batch_norm, "optimizer": optimizer}
    return reference_step.built(methods.SqueezeTraining, attack, beta, outer_order, **settings)


def distance(attack, upper, lower):
    """R of two predictions of one example."""
    log_p, log_q = (reference_step.log_softmax(z[None])[0] for z in (upper, lower))
    p, q = tf.exp(log_p), tf.exp(log_q)
    if attack.regularizer == "l2":
        return tf.reduce_sum((p - q) ** 2)
    if attack.regularizer == "js":
        log_m = tf.math.log((p + q) / 2)
        return tf.reduce_sum(p * (log_p - log_m) + q * (log_q - log_m)) / 2
    stop = tf.stop_gradient if attack.detach_targets else tf.identity
    to_p = tf.reduce_sum(stop(q) * (stop(log_q) - log_p))
    return (to_p + tf.reduce_sum(stop(p) * (stop(log_p) - log_q))) / 2


def extremes(logits, y):
    """Names of the candidates of smallest and of largest p_y, for each example."""
    names = []
    for i in range(len(y)):
        own = {name: float(tf.nn.softmax(z[i])[y[i]]) for name, z in logits.items()}
        names.append((min(own, key=own.get), max(own, key=own.get)))
    return names


def total_distance(attack, logits, names):
    parts = [
        distance(attack, logits[upper][i], logits[lower][i])
        for i, (upper, lower) in enumerate(names)
    ]
    return tf.add_n(parts) / len(parts)


def search(attack, forward, x, y, x_adv, x_col):
    """The inner problem, an image at a time; and how often roles were not as the step before."""
    low, high = np.maximum(x - EPS, 0), np.minimum(x + EPS, 1)
    unusual = 0
    for _ in range(STEPS):
        images = {
            name: tf.constant(np.array(value), tf.float64)
            for name, value in (("clean", x), ("col", x_col), ("adv", x_adv))
        }
        with tf.GradientTape() as tape:
            tape.watch(images)
            logits = {name: forward(image) for name, image in images.items()}
            names = extremes(logits, y)
            total = total_distance(attack, logits, names)
        gradients = tape.gradient(total, images, unconnected_gradients="zero")
        x_adv, x_col = np.zeros_like(x_adv), np.zeros_like(x_col)
        for i, roles in enumerate(names):
            for target, name in zip((x_adv, x_col), roles, strict=True):
                target[i] = images[name][i] + SIZE * np.sign(gradients[name][i])
            unusual += roles != ("adv", "col")
        x_adv, x_col = np.clip(x_adv, low, high), np.clip(x_col, low, high)
    return x_adv, x_col, unusual


def starts(model):
    bounds = attacks.Linf(EPS).bounds(tf.constant(X))
    return [s.numpy() for s in model.attack.starts(bounds, reference_step.adversary_seed(model))]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("batch_norm", ["batch", "running"])
def test_perturbations(settings, batch_norm):
    model = build(**settings, batch_norm=True)
    if batch_norm == "running":
        attack = {**model.attack.get_config(), "batch_norm": "running"}
        model.attack = attacks.SqueezeAttack(**attack)
    w = reference_step.weights(model.network)

    def forward(x):
        return reference_step.forward(w, x, training=batch_norm == "batch")[0]

    x_adv, x_col, unusual = search(model.attack, forward, X, Y, *starts(model))
    assert unusual > 3
    adversarial = reference_step.generated(model, X, Y)
    for ours, expected in ((adversarial.x_adv, x_adv), (adversarial.x_col, x_col)):
        # A sign may turn where a gradient is zero but for rounding.
        assert np.mean(np.abs(ours - expected) > 1e-5) < 0.005


def mixed(model):
    """What the model generates, changed: clean images are extreme too, and roles exchanged."""
    adv, col = (np.array(part) for part in reference_step.generated(model, X, Y))
    adv[::3], col[::3] = col[::3], adv[::3].copy()
    adv[1::3] = (X[1::3] + col[1::3]) / 2
    return SqueezeImages(tf.constant(adv), tf.constant(col))


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_step(settings):
    model = build(**settings)
    w = reference_step.weights(model.network)
    adversarial = mixed(model)
    model.generate_adversarial = lambda *args: adversarial
    images = {"clean": X, "col": adversarial.x_col, "adv": adversarial.x_adv}
    trained = {name: w[name] for name in reference_step.TRAINED}
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(trained)
        outputs = {n: reference_step.forward({**w, **trained}, x, True) for n, x in images.items()}
        logits = {name: output[0] for name, output in outputs.items()}
        log_p = reference_step.log_softmax(logits["clean"])
        clean = -tf.reduce_mean(tf.gather(log_p, Y, batch_dims=1))
        names = extremes(logits, Y)
        squeeze = total_distance(model.attack, logits, names)
    assert len(set(names)) >= 3
    averages = {name: w[name] for name in ("mean", "variance")}
    for name in ("clean", "adv") if model.outer_order == "st" else ("adv", "clean"):
        averages = reference_step.forward({**w, **averages}, images[name], True)[2]
    logs = model.train_on_batch(X, Y, return_dict=True)
    assert logs["clean"] == pytest.approx(float(clean), rel=1e-4)
    assert logs["squeeze"] == pytest.approx(float(squeeze), rel=1e-3, abs=1e-6)
    assert logs["loss"] == pytest.approx(float(clean + BETA * squeeze), rel=1e-4)
    of_clean, of_squeeze = (tape.gradient(term, trained) for term in (clean, squeeze))
    after = reference_step.weights(model.network)
    for name in reference_step.TRAINED:
        moved = w[name] - RATE * (of_clean[name] + BETA * of_squeeze[name])
        assert np.abs(of_squeeze[name]).max() > 0
        np.testing.assert_allclose(after[name], moved, rtol=0, atol=2e-5, err_msg=name)
    for name, expected in averages.items():
        np.testing.assert_allclose(after[name], expected, rtol=1e-5, err_msg=name)


def test_gradient_reaches_all_that_are_chosen_and_no_others():
    model = build(batch_norm=False)
    logits = {
        name: tf.constant(np.random.default_rng(k).normal(size=(12, 3)), tf.float32)
        for k, name in enumerate(("clean", "col", "adv"))
    }
    with tf.GradientTape() as tape:
        tape.watch(logits)
        outputs = {name: Outputs(z, z) for name, z in logits.items()}
        batch = SqueezeBatch(Y, **outputs)
        values = model.terms(batch)["squeeze"]()
    gradients = tape.gradient(values, logits)
    for i, roles in enumerate(extremes(logits, Y)):
        for name, gradient in gradients.items():
            assert np.any(gradient[i]) == (name in roles)


@pytest.mark.parametrize("batch_norm, passes", [(False, 1), (True, 3)])
def test_forwards_of_a_step(batch_norm, passes, monkeypatch):
    model = build(batch_norm)
    seen = []
    forward = type(model.network).forward

    def counting(self, x, training=False):
        seen.extend([x.shape[0]] if training else [])
        return forward(self, x, training)

    monkeypatch.setattr(type(model.network), "forward", counting)
    tf.function(lambda x, y: model.train_step((x, y)))(tf.constant(X), tf.constant(Y))
    assert seen == [3 * len(X) // passes] * passes


def test_averages_move_once_under_a_weight_perturbation():
    model = build()
    averages = [v for v in model.network.weights if "moving_mean" in v.name]
    assert len(averages) == 1
    before = reference_step.weights(model.network)["mean"]
    model.compile(keras.optimizers.SGD(0.0), seed=3, weight_perturbation=WeightPerturbation(0.005))
    adversarial = reference_step.generated(model, X, Y)
    model.train_on_batch(X, Y)
    w = reference_step.weights(model.network)
    moved = {"mean": before}
    for images in (X, adversarial.x_adv):
        moved = {"mean": reference_step.forward({**w, **moved}, images, True)[2]["mean"]}
    # The weights of that forward were moved by half a percent, the averages not twice as far.
    np.testing.assert_allclose(w["mean"], moved["mean"], rtol=0, atol=2e-3)
    assert np.abs(w["mean"] - before).max() > 2e-2


def test_gin_and_config():
    gin.parse_config("""
        SqueezeTraining.attack = @SqueezeAttack()
        SqueezeTraining.beta = 4.0
        SqueezeTraining.outer_order = 'rst'
        SqueezeAttack.eps = 0.031
        SqueezeAttack.step_size = 0.007
        SqueezeAttack.steps = 10
        SqueezeAttack.start = 'uniform'
    """)
    model = methods.SqueezeTraining(tiny_network())
    assert model.attack == attacks.SqueezeAttack(0.031, 0.007, 10, "uniform")
    assert (model.beta, model.outer_order) == (4.0, "rst")
    again = methods.SqueezeTraining.from_config(model.get_config())
    assert (again.attack, again.beta, again.outer_order) == (model.attack, 4.0, "rst")


def test_mixed_bfloat16(mixed_bfloat16):
    for batch_norm in (False, True):
        model = build(batch_norm)
        logs = model.train_on_batch(X, Y, return_dict=True)
        assert all(np.isfinite(value) for value in logs.values())
        assert all(np.isfinite(compat.raw(v).numpy()).all() for v in model.network.weights)


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"beta": -1.0}, ValueError, r"SqueezeTraining\(beta=-1.0\): must be finite and >= 0"),
        ({"beta": float("nan")}, ValueError, "must be finite and >= 0"),
        ({"outer_order": "nat"}, ValueError, r"outer_order='nat'\): must be one of \('st', 'rst'"),
        ({"attack": attacks.SqueezeAttack(0.0, 0.1, 1)}, ValueError, "eps=0.* nothing to squeeze"),
        ({"attack": attacks.BIM(0.1, 0.1, 1)}, TypeError, "must be a SqueezeAttack, which gives"),
        ({"attack": None}, TypeError, "must be a SqueezeAttack"),
    ],
)
def test_constructor_refuses(arguments, error, message):
    usual = {"attack": attacks.SqueezeAttack(EPS, SIZE, STEPS)}
    with pytest.raises(error, match=message):
        methods.SqueezeTraining(tiny_network(), **{**usual, **arguments})
