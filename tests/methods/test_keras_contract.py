"""What Keras promises of a step, against plain Keras and NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from robust_tf import attacks, compat, methods
from robust_tf.attacks.network import input_gradient, logits_of
from robust_tf.attacks.objectives import CrossEntropy
from robust_tf.evaluation.loading import load_model
from robust_tf.models import SplitClassifier
from robust_tf.training import WeightAverage, WeightPerturbation
from robust_tf.training.checkpoints import Checkpoints
from tests.methods.test_every_method import CASES
from tests.methods.test_methods_step import Distance, numpy_terms
from tests.tiny import cross_entropies, labelled, plain_network, same_bits, tiny_network

BIM = attacks.BIM(0.1, 0.05, 2)
X, Y = labelled(12)
WEIGHTS = np.linspace(0.0, 2.0, 12).astype("float32")
QUIET = {"verbose": 0}
ONE_BATCH = {"batch_size": 12, "shuffle": False, "verbose": 0}


def standard(network=None, rate=0.1, **compiled):
    model = methods.Standard(network or tiny_network())
    model.compile(keras.optimizers.SGD(rate), **compiled)
    return model


def plain(network, rate=0.1):
    """The same network as plain Keras trains it; a copy."""
    copy = compat.deserialize(compat.serialize(network))
    copy.set_weights(network.get_weights())
    inputs = keras.Input(X.shape[1:])
    model = keras.Model(inputs, copy.classifier(copy.generator(inputs)))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(rate), loss, metrics=["accuracy"])
    return model


# ---- losses of layers ----------------------------------------------------------------------------


@keras.saving.register_keras_serializable("tests")
class Adds(keras.layers.Layer):
    """Adds the mean square of what passes to the losses."""

    def call(self, inputs):
        self.add_loss(tf.reduce_mean(tf.square(inputs)))
        return inputs


def regularized():
    l2 = keras.regularizers.L2
    dense, conv = keras.layers.Dense, keras.layers.Conv2D
    generator = keras.Sequential(
        [keras.Input(X.shape[1:]), conv(2, 3, 2, kernel_regularizer=l2(0.5)), Adds()]
    )
    shape = generator.output_shape[1:]
    layers = [keras.layers.Flatten(), dense(3, kernel_regularizer=l2(0.1), bias_regularizer=l2(2))]
    return SplitClassifier(generator, keras.Sequential([keras.Input(shape), *layers]))


@pytest.mark.parametrize("perturbed", [False, True])
def test_losses_of_layers_are_those_of_plain_keras(perturbed):
    network = regularized()
    reference = plain(network, 0.01)
    still = WeightPerturbation(1e-12) if perturbed else None
    model = standard(network, 0.01, weight_perturbation=still)
    expected = reference.fit(X, Y, epochs=3, **ONE_BATCH).history["loss"]
    history = model.fit(X, Y, epochs=3, **ONE_BATCH).history
    np.testing.assert_allclose(history["loss"], expected, rtol=1e-5)
    assert np.subtract(history["loss"], history["cross_entropy"]).min() > 0.1
    for a, b in zip(network.get_weights(), reference.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    ours, theirs = (m.evaluate(X, Y, return_dict=True, **QUIET) for m in (model, reference))
    assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5)


def test_several_forwards_regularize_once():
    network = tiny_network(batch_norm=True)
    regularizer = keras.regularizers.L2(0.5)
    config = compat.serialize(network)
    for layer in config["config"]["classifier"]["config"]["layers"]:
        if layer["config"].get("name") == "hidden":
            layer["config"]["kernel_regularizer"] = compat.serialize(regularizer)
    network = compat.deserialize(config)
    kernel = compat.raw(network.classifier.get_layer("hidden").kernel).numpy()
    attack = attacks.SqueezeAttack(0.1, 0.05, 2)
    model = methods.SqueezeTraining(network, attack, beta=3.0)
    model.compile(keras.optimizers.SGD(0.0), weight_perturbation=WeightPerturbation(0.01))
    logs = model.train_on_batch(X, Y, return_dict=True)
    logs_at_moved = logs["clean"] + 3 * logs["squeeze"]
    # The penalty is taken where the loss is, at the moved weights, whose length is near the old.
    penalty = logs["loss"] - logs_at_moved
    assert penalty == pytest.approx(0.5 * np.sum(kernel**2), rel=0.03)


# ---- sample weights ------------------------------------------------------------------------------


def triples():
    return tf.data.Dataset.from_tensor_slices((X, Y, WEIGHTS)).batch(12)


@pytest.mark.parametrize("how", ["argument", "dataset", "class_weight"])
def test_weights_are_those_of_plain_keras(how):
    network = tiny_network()
    reference, model = plain(network), standard(network)
    arguments = {
        "argument": {"x": X, "y": Y, "sample_weight": WEIGHTS, **ONE_BATCH},
        "dataset": {"x": triples(), "shuffle": False, **QUIET},
        "class_weight": {"x": X, "y": Y, "class_weight": {0: 0.0, 1: 1.0, 2: 5.0}, **ONE_BATCH},
    }[how]
    ours, theirs = (m.fit(epochs=2, **arguments).history for m in (model, reference))
    np.testing.assert_allclose(ours["loss"], theirs["loss"], rtol=1e-5)
    np.testing.assert_allclose(ours["natural_accuracy"], theirs["accuracy"])
    for a, b in zip(network.get_weights(), reference.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    if how == "argument":
        weighted = {"sample_weight": WEIGHTS, "batch_size": 5, "return_dict": True, **QUIET}
        ours, theirs = (m.evaluate(X, Y, **weighted) for m in (model, reference))
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5)
        assert ours["natural_accuracy"] == pytest.approx(theirs["accuracy"])


def test_adversarial_terms_are_weighed_by_example():
    model = methods.TRADES(tiny_network(), BIM, 3.0)
    model.compile(keras.optimizers.SGD(0.0))
    one = [numpy_terms(model, X[[k]], Y[[k]]) for k in range(12)]
    logs = model.train_on_batch(X, Y, sample_weight=WEIGHTS, return_dict=True)
    for term in ("clean", "divergence"):
        expected = np.mean([w * terms[term] for w, terms in zip(WEIGHTS, one, strict=True)])
        assert logs[term] == pytest.approx(expected, rel=1e-4)
    assert logs["loss"] == pytest.approx(logs["clean"] + 3 * logs["divergence"], rel=1e-5)
    for name in ("natural_accuracy", "robust_accuracy"):
        assert logs[name] == pytest.approx(np.mean([terms[name] for terms in one]))


# ATLD's s is of the weighted loss, so that its invariance is no sum over examples; Free moves an
# image of weight 0 nowhere, and remembers where the others went.
SUMS = [name for name in CASES if " " not in name and name not in ("ATLD", "Free")]


@pytest.mark.parametrize("name", SUMS)
def test_every_loss_is_a_sum_over_examples(name):
    model = CASES[name]().build()
    for optimizer in (model.optimizer, *(o for o, _ in model.auxiliary_optimizers().values())):
        optimizer.learning_rate = 0.0

    def loss(weights):
        model.counters.batches.assign(0)  # the same draws
        logs = model.train_on_batch(X, Y, sample_weight=weights, return_dict=True)
        return {key: logs[key] for key in ("loss", "latent") if key in logs}

    whole, part, rest = (loss(w) for w in (2 + 0 * WEIGHTS, WEIGHTS, 2 - WEIGHTS))
    for key, value in whole.items():
        assert value == pytest.approx(part[key] + rest[key], rel=1e-4)
        assert abs(part[key] - rest[key]) > 1e-4


# ---- reports -------------------------------------------------------------------------------------


# Without an attack the method has no part in it.
LABELLED = [(n, BIM) for n in CASES if " " not in n] + [("TRADES", None)]


@pytest.mark.parametrize(("name", "attack"), LABELLED)
def test_evaluate_labels_its_values(name, attack):
    model = CASES[name]().build(compiled={"evaluation_attack": attack})
    names = ["loss", "natural_accuracy"] + ["robust_accuracy"] * (attack is not None)
    results = model.evaluate(X, Y, return_dict=True, **QUIET)
    assert set(results) == set(names) and model.metrics_names == names
    assert results == dict(zip(names, model.evaluate(X, Y, **QUIET), strict=True))
    history = model.fit(X, Y, epochs=2, validation_data=(X, Y), **ONE_BATCH).history
    assert set(history) == {*model.train_names, *(f"val_{name}" for name in names)}


def test_the_loss_of_a_ragged_epoch_is_the_mean():
    model = methods.AdversarialTraining(tiny_network(), BIM, 0.25)
    model.compile(keras.optimizers.SGD(0.0))
    history = model.fit(X, Y, batch_size=11, shuffle=False, **QUIET).history
    adv = BIM(model.network, X, Y)
    clean, attacked = (cross_entropies(model.network, images, Y).mean() for images in (X, adv))
    assert history["loss"][0] == pytest.approx(0.25 * clean + 0.75 * attacked, rel=1e-5)


# ---- batches are counted -------------------------------------------------------------------------


@pytest.mark.skipif(not compat.KERAS_3, reason="Keras 2 has no gradient_accumulation_steps")
def test_accumulated_gradients_are_of_different_draws_and_warm_ups_count_batches(tmp_path):
    def build(method, attack, **compiled):
        model = method(tiny_network(), attack)
        optimizer = keras.optimizers.SGD(1e-9, gradient_accumulation_steps=4)
        model.compile(optimizer, **compiled)
        return model

    model = build(Distance, attacks.FGSM(0.08), eps_warmup_steps=4)
    losses = model.fit(np.clip(X, 0.1, 0.9), Y, epochs=6, **ONE_BATCH).history["loss"]
    np.testing.assert_allclose(losses, [0.02, 0.04, 0.06, 0.08, 0.08, 0.08], rtol=1e-5)
    average = WeightAverage(0.9, from_step=3)
    model = build(methods.AdversarialTraining, attacks.PGD(0.1, 0.01, 1), weight_average=average)
    losses = model.fit(X, Y, epochs=5, **ONE_BATCH).history["loss"]
    assert len(set(losses)) == 5 and int(model.optimizer.iterations) == 1
    assert int(model.batches) == 5
    model.save(tmp_path / "model.keras")
    assert int(keras.models.load_model(tmp_path / "model.keras").batches) == 5


def test_checkpoints_and_files_without_a_number_of_batches_count_updates(tmp_path):
    model = methods.AdversarialTraining(tiny_network(), attacks.PGD(0.1, 0.01, 1))
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9))
    model.fit(X, Y, epochs=3, **ONE_BATCH)
    checkpoints = Checkpoints(str(tmp_path / "now"), model)
    checkpoints.save_last()
    old = tf.train.Checkpoint(**checkpoints._parts)
    tf.train.CheckpointManager(old, str(tmp_path / "old" / "last"), 1).save(3)
    saved = {}
    model.save_own_variables(saved)
    assert saved.pop("batches") == 3
    for folder in ("now", "old"):
        other = methods.AdversarialTraining(tiny_network(), attacks.PGD(0.1, 0.01, 1))
        other.compile(keras.optimizers.SGD(0.1, momentum=0.9))
        assert Checkpoints(str(tmp_path / folder), other).restore_last()
        other.load_own_variables(saved)
        assert int(other.batches) == 3
        assert int(other.optimizer.iterations) == 3


@pytest.mark.parametrize("compiled", [True, False])
def test_a_saved_method_is_loaded_as_its_network(tmp_path, compiled):
    model = standard() if compiled else methods.Standard(tiny_network())
    path = str(tmp_path / "method.keras")
    model.save(path)
    bare = keras.models.load_model(path, compile=False)
    for loaded in (bare.network, load_model(path)):
        same_bits(loaded(X), model.network(X))


def test_another_optimizer_begins_anew_and_the_same_goes_on():
    model = standard()
    model.fit(X, Y, epochs=2, **ONE_BATCH)
    model.compile(model.optimizer, evaluation_attack=BIM)
    assert int(model.batches) == 2
    model.compile("sgd")
    assert int(model.batches) == 0


# ---- data ----------------------------------------------------------------------------------------


def test_dicts_are_batches():
    one, other = standard(), standard()
    other.network.set_weights(one.network.get_weights())
    named = {"image": X, "label": Y, "id": np.arange(12)}
    data = tf.data.Dataset.from_tensor_slices(named).batch(12)
    history = one.fit(data, validation_data=data, **QUIET).history
    expected = other.fit(X, Y, validation_data=(X, Y), **ONE_BATCH).history
    assert history == expected
    same_bits(one.network.get_weights()[0], other.network.get_weights()[0])


@pytest.mark.parametrize(
    "parts, message",
    [
        ((X,), r"a batch is float32 \(None, 8, 8, 1\); expected \(images, labels\)"),
        ((X, Y, Y, Y), r"a batch is \(float32 \(None, 8, 8, 1\), int32 \(None,\), int32"),
        ({"picture": X, "label": Y}, r"a batch is {'picture': float32 .*write dataset.map"),
        (({"a": X}, Y), r"a batch is \({'a': float32"),
        ((X, Y, np.ones((12, 2), "float32")), r"sample weights have shape \(None, 2\)"),
    ],
)
@pytest.mark.parametrize("call", ["fit", "evaluate"])
def test_other_structures_are_said(call, parts, message):
    data = tf.data.Dataset.from_tensor_slices(parts if len(parts) > 1 else parts[0]).batch(12)
    with pytest.raises(ValueError, match=message):
        getattr(standard(), call)(data, **QUIET)


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
def test_weights_are_checked_as_the_step_runs(bad):
    weights = WEIGHTS.copy()
    weights[3] = bad
    with pytest.raises(tf.errors.InvalidArgumentError, match="weights must be finite and >= 0"):
        standard().fit(X, Y, sample_weight=weights, **ONE_BATCH)


def test_a_term_is_a_vector():
    class Scalar(methods.Standard):
        def terms(self, batch):
            return {"cross_entropy": lambda: tf.reduce_mean(batch.clean.logits)}

    model = Scalar(tiny_network())
    model.compile("sgd")
    with pytest.raises(ValueError, match=r"term 'cross_entropy' has shape \(\): must give one"):
        model.fit(X, Y, **ONE_BATCH)


# ---- float16 -------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy_of_the_method", ["mixed_float16", "float32"])
@pytest.mark.parametrize("method", ["Standard", "LAT"])
def test_gradients_below_float16_reach_the_weights(method, policy_of_the_method):
    """Weights of 1e-7 and rates of 1e7, so that gradients are too small for float16 unscaled."""

    def trained(policy, small):
        keras.mixed_precision.set_global_policy(policy)
        network = tiny_network()
        keras.mixed_precision.set_global_policy(policy_of_the_method if "16" in policy else policy)
        arguments = {} if method == "Standard" else {"attack": BIM, "latent_attack": BIM}
        if method == "LAT":
            arguments["latent_rate"] = 0.01 / small
        model = getattr(methods, method)(network, **arguments)
        model.compile(keras.optimizers.SGD(0.1 / small))
        weights = np.full(12, small, "float32")
        model.fit(X, Y, epochs=3, sample_weight=weights, **ONE_BATCH)
        return network.get_weights()

    for a, b in zip(trained("float32", 1.0), trained("mixed_float16", 1e-7), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-3)


def test_float16_on_a_network_of_keras_own_layers():
    """Normalization, a skip and dropout of Keras: the first loss, and that it falls."""
    first, last = [], []
    for policy in ("float32", "mixed_float16"):
        keras.mixed_precision.set_global_policy(policy)
        model = methods.AdversarialTraining(plain_network(dropout=0.3), BIM)
        model.compile(keras.optimizers.SGD(0.02))
        losses = [model.train_on_batch(X, Y, return_dict=True)["loss"] for _ in range(12)]
        first.append(losses[0])
        last.append(losses[-1])
    np.testing.assert_allclose(first[1], first[0], rtol=0.01)
    assert last[0] < first[0] and last[1] < first[1]


def test_attacks_in_float16_see_the_gradient_of_images_that_are_sure():
    gradients, y = [], np.zeros(12, "int32")
    for policy in ("float32", "mixed_float16"):
        keras.mixed_precision.set_global_policy(policy)
        network = tiny_network()
        weights = network.get_weights()
        weights[-1] += np.array([20, 0, 0], "float32")  # p_y is 1 - 1e-9
        network.set_weights(weights)
        gradient_at = input_gradient(logits_of(network, "running"), CrossEntropy().values)
        gradients.append(np.reshape(gradient_at(tf.constant(X), tf.constant(y), None)[0], (12, -1)))
    full, half = gradients
    assert 0 < np.abs(full).max() < 6e-8
    norms = np.linalg.norm(full, axis=1) * np.linalg.norm(half, axis=1)
    assert (np.sum(full * half, 1) / norms).min() > 0.999
    np.testing.assert_allclose(np.linalg.norm(half, axis=1), np.linalg.norm(full, axis=1), rtol=0.1)
