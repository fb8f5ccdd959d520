"""What a training step computes, term by term, against NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from robust_tf import attacks, compat, losses, methods
from robust_tf.models import forward_mode
from tests.tiny import CLASSES, labelled, tiny_network, two_replicas

BIM = attacks.BIM(0.1, 0.05, 2)
X, Y = labelled()


def frozen(method, *args, batch_norm=False, **kwargs):
    """A model whose step changes nothing."""
    model = method(tiny_network(batch_norm), *args, **kwargs)
    model.compile(keras.optimizers.SGD(0.0))
    return model


def logs_of(model, x=X, y=Y):
    """Of one training step."""
    return {name: float(value) for name, value in model.train_on_batch(x, y, **AS_DICT).items()}


AS_DICT = {"return_dict": True}


def outputs(model, x):
    """Logits and features (B, m) as the step sees them, in float64."""
    with forward_mode(batch_norm="batch"):
        logits, z = model.network.forward(tf.constant(x), training=True)
    return np.asarray(logits, "float64"), np.asarray(z, "float64").reshape(len(x), -1)


def log_softmax(logits):
    logits = logits - logits.max(1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


def numpy_terms(model, x=X, y=Y):
    x_adv = model.attack(model.network, x, y).numpy() if model.attack else x
    (logits, z), (logits_adv, z_adv) = outputs(model, x), outputs(model, x_adv)
    log_p, log_q = log_softmax(logits), log_softmax(logits_adv)
    rows = np.arange(len(x))
    total = 0.0
    for i in rows:
        for j in rows:
            distance = np.mean(np.abs(z[j] - z_adv[i]))
            total += distance if y[i] == y[j] else (0.99 - 1) / 0.99 * distance
    divergence = np.mean((np.exp(log_p) * (log_p - log_q)).sum(1))
    return {
        "clean": -np.mean(log_p[rows, y]),
        "cross_entropy": -np.mean(log_p[rows, y]),
        "adversarial": -np.mean(log_q[rows, y]),
        "local": np.mean(np.abs(z - z_adv)),
        "global_": total / len(x) ** 2,
        "entropy": -np.mean((np.exp(log_q) * log_q).sum(1)),
        "smoothness": divergence,
        "divergence": divergence,
        "natural_accuracy": np.mean(logits.argmax(1) == y),
        "robust_accuracy": np.mean(logits_adv.argmax(1) == y),
    }


METHODS = {
    "Standard": (lambda **k: frozen(methods.Standard, **k), {"cross_entropy": 1}),
    "AdversarialTraining": (
        lambda **k: frozen(methods.AdversarialTraining, BIM, 0.25, **k),
        {"clean": 0.25, "adversarial": 0.75},
    ),
    "TRADES": (
        lambda **k: frozen(methods.TRADES, BIM, 3.0, **k),
        {"clean": 1, "divergence": 3},
    ),
    "ADR": (
        lambda **k: frozen(methods.ADR, BIM, "code", global_=2.0, entropy=0.5, **k),
        {
            "clean": 0.5,
            "adversarial": 0.5,
            "local": 1,
            "global_": 2,
            "entropy": 0.5,
            "smoothness": 1,
        },
    ),
}


@pytest.mark.parametrize("batch_norm", [False, True], ids=["", "batch norm"])
@pytest.mark.parametrize("name", METHODS)
def test_terms_are_those_of_numpy(name, batch_norm):
    make, weights = METHODS[name]
    model = make(batch_norm=batch_norm)
    expected = numpy_terms(model)
    logs = logs_of(model)
    assert set(logs) >= set(weights)
    for term, value in logs.items():
        if term != "loss":
            assert value == pytest.approx(expected[term], rel=1e-4, abs=1e-6), term
    loss = sum(weight * expected[term] for term, weight in weights.items())
    assert logs["loss"] == pytest.approx(loss, rel=1e-4)


@pytest.mark.parametrize(
    "loss, kwargs",
    [
        ("local_compactness", {"local": 0.0}),
        ("global_compactness", {"global_": 0.0}),
        ("conditional_entropy", {"entropy": 0.0}),
        ("smoothness", {"smoothness": 0.0}),
        ("virtual_adversarial", {"virtual": 0.0}),
    ],
)
def test_terms_of_weight_zero_are_not_built(loss, kwargs, monkeypatch):
    def fail(*args, **kwargs):
        raise AssertionError(loss)

    monkeypatch.setattr(losses, loss, fail)
    weights = dict.fromkeys(("local", "global_", "entropy", "smoothness", "virtual"), 1.0)
    logs_of(frozen(methods.ADR, BIM, **{**weights, **kwargs}))
    with pytest.raises(AssertionError, match=loss):
        logs_of(frozen(methods.ADR, BIM, **weights))


def test_forwards_that_no_term_needs_are_not_made():
    for model, names in (
        (frozen(methods.Standard), {"loss", "cross_entropy", "natural_accuracy"}),
        (
            frozen(methods.AdversarialTraining, BIM),
            {"loss", "adversarial", "robust_accuracy"},
        ),
    ):
        assert set(logs_of(model)) == names


def test_global_compactness_pairs_are_within_a_replica():
    strategy = two_replicas()
    with strategy.scope():
        model = frozen(methods.ADR, BIM, "none", global_=1.0)
    halves = [numpy_terms(model, X[k : k + 6], Y[k : k + 6])["global_"] for k in (0, 6)]
    whole = numpy_terms(model)["global_"]
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(12)
    step = tf.function(lambda batch: strategy.run(model.train_step, (batch,)))
    for batch in strategy.experimental_distribute_dataset(data):
        step(batch)
    value = float(model.step_metrics["global_"].result())
    assert value == pytest.approx(np.mean(halves), rel=1e-4)
    assert abs(value - whole) > 1e-3


@pytest.mark.parametrize("decay_all", [False, True])
def test_weight_decay_is_of_kernels_or_of_all(decay_all):
    def after_one_step(weight_decay):
        model = methods.Standard(tiny_network(batch_norm=True))
        optimizer = keras.optimizers.SGD(1.0)
        model.compile(optimizer, weight_decay=weight_decay, decay_all=decay_all)
        before = [compat.raw(v).numpy() for v in model.trainable_variables]
        logs_of(model)
        return before, [compat.raw(v).numpy() for v in model.trainable_variables], model

    before, without, model = after_one_step(0.0)
    _, with_decay, _ = after_one_step(0.1)
    kernels = 0
    for variable, old, plain, shrunk in zip(
        model.trainable_variables, before, without, with_decay, strict=True
    ):
        kernel = variable.name.split(":")[0].endswith("kernel")
        kernels += kernel
        decayed = kernel or decay_all
        np.testing.assert_allclose(shrunk, plain - 0.1 * old * decayed, rtol=0, atol=1e-6)
    assert kernels == 3


class Distance(methods.AdversarialTraining):
    """Reports how far the adversary went."""

    def terms(self, batch):
        step = tf.abs(batch.x_adv - batch.x)
        return {"adversarial": lambda: tf.reduce_max(step, [1, 2, 3]) + 0 * batch.adv.logits[:, 0]}


def test_eps_rises_over_the_warm_up():
    model = Distance(tiny_network(), attacks.FGSM(0.08))
    model.compile(keras.optimizers.SGD(0.0), eps_warmup_steps=4)
    x = np.clip(X, 0.1, 0.9)
    history = model.fit(x, Y, batch_size=12, epochs=6, verbose=0).history
    np.testing.assert_allclose(history["loss"], [0.02, 0.04, 0.06, 0.08, 0.08, 0.08], rtol=1e-5)


@pytest.mark.parametrize("helpful", [False, True])
def test_robust_accuracy_counts_examples_that_are_right_clean_and_attacked(helpful):
    model = frozen(methods.Standard)
    # Aimed at the label itself, an attack turns wrong predictions into right ones.
    attack = attacks.PGD(0.1, 0.05, 3, targeted=helpful)
    model.compile(keras.optimizers.SGD(0.0), evaluation_attack=attack, seed=5)
    x = np.random.default_rng(3).random((48, *X.shape[1:])).astype("float32")
    predicted = np.argmax(model.network(x), 1)
    y = np.where(np.arange(48) % 2, predicted, (predicted + 1) % CLASSES).astype("int32")
    natural = predicted == y
    attacked = np.argmax(model.network(attack(model.network, x, y, seed=5)), 1) == y
    assert (attacked & ~natural if helpful else natural & ~attacked).sum() > 5
    results = model.evaluate(x, y, batch_size=48, verbose=0, return_dict=True)
    assert results["natural_accuracy"] == pytest.approx(natural.mean())
    assert results["robust_accuracy"] == pytest.approx((natural & attacked).mean())


def test_robust_accuracy_needs_an_attack():
    results = frozen(methods.Standard).evaluate(X, Y, verbose=0, return_dict=True)
    assert "robust_accuracy" not in results


def test_each_step_draws_anew():
    model = frozen(methods.AdversarialTraining, attacks.PGD(0.1, 0.01, 1))
    assert len({logs_of(model)["loss"] for _ in range(3)}) == 3


@pytest.mark.parametrize(
    "name", ["generate_adversarial", "forward", "auxiliary_step", "train_step", "test_step"]
)
def test_autograph_can_read_it(name):
    tf.autograph.to_graph(getattr(methods.RobustModel, name))
