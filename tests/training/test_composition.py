"""Weight perturbation, weight averages, early stopping: with any method, by one setting."""

import functools

import gin
import keras
import numpy as np
import pytest
import tensorflow as tf

from robust_tf import attacks, compat, methods, training
from robust_tf.attacks import BIM
from robust_tf.models import forward_mode
from tests.tiny import labelled, tiny_network, two_replicas, weights_of
from tests.training.runs import Stopped, digits, model_weights, recipe, rows, thirds, trainer

X, Y = labelled()
AWP = training.WeightPerturbation(gamma=0.05)


def model_of(method=methods.Standard, batch_norm=True, rate=0.1, attack=None, **compiled):
    model = method(tiny_network(batch_norm=batch_norm), attack)
    model.compile(keras.optimizers.SGD(rate), **compiled)
    return model


def step(model, times=1):
    model.fit(X, Y, batch_size=12, epochs=times, shuffle=False, verbose=0)
    return model


def gradient(network, mode):
    with forward_mode(batch_norm=mode), tf.GradientTape() as tape:
        logits = network(X, training=True)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(Y, logits))
    return tape.gradient(loss, [compat.raw(v) for v in network.trainable_variables])


@pytest.mark.parametrize("decay", [0.0, 0.2])
def test_a_perturbed_step_line_by_line(decay):
    network = tiny_network(batch_norm=True)
    variables = [compat.raw(v) for v in network.trainable_variables]
    before = [v.numpy() for v in variables]
    for v, w, g in zip(variables, before, gradient(network, "batch"), strict=True):
        if w.ndim > 1:
            v.assign(w + 0.05 * np.linalg.norm(w) / np.linalg.norm(g) * g)
    # The penalty has no part in the move; its gradient is taken at the moved weights.
    expected = [
        w - 0.1 * (g.numpy() + decay * moved.numpy() * (w.ndim > 1))
        for w, g, moved in zip(before, gradient(network, "training"), variables, strict=True)
    ]
    model = step(model_of(weight_perturbation=AWP, weight_decay=decay))
    for v, w in zip(model.network.trainable_variables, expected, strict=True):
        np.testing.assert_allclose(compat.raw(v), w, rtol=0, atol=2e-6)
    # Moving averages come from the forward at the moved weights, and from that alone.
    for mine, theirs in zip(
        model.network.non_trainable_variables, network.non_trainable_variables, strict=True
    ):
        np.testing.assert_allclose(compat.raw(mine), compat.raw(theirs), rtol=1e-4, atol=1e-6)


def test_weights_are_put_back_and_wait_for_their_step():
    still = step(model_of(rate=0.0, batch_norm=False, weight_perturbation=AWP))
    for mine, first in zip(weights_of(still), weights_of(tiny_network()), strict=True):
        np.testing.assert_array_equal(mine, first)
    later = training.WeightPerturbation(gamma=0.05, from_step=2)
    runs = [
        step(model_of(weight_perturbation=perturbation), times)
        for times in (2, 3)
        for perturbation in (None, later)
    ]
    same, other = (
        [np.abs(a - b).max() for a, b in zip(weights_of(one), weights_of(two), strict=True)]
        for one, two in (runs[:2], runs[2:])
    )
    assert max(same) == 0 and max(other) > 1e-4


@pytest.mark.parametrize("decay", [0.8, None])
def test_averages_line_by_line(decay):
    average = training.WeightAverage(decay, from_step=2, every=2)
    model = model_of(batch_norm=False, weight_average=average)
    history = [weights_of(model.network)]
    expected = history[0]
    for number in range(1, 8):
        step(model)
        now = weights_of(model.network)
        if number <= 2:
            expected = now
        elif number % 2 == 0:
            rate = 1 - decay if decay else 2 / (number - 2)
            expected = [old + rate * (new - old) for old, new in zip(expected, now, strict=True)]
        for mine, other in zip(weights_of(model.averaged), expected, strict=True):
            np.testing.assert_allclose(mine, other, rtol=0, atol=1e-6)
    np.testing.assert_allclose(model(X), model.averaged(X))
    assert np.abs(model(X) - model.network(X)).max() > 1e-4


BIM_KL = attacks.TRADESAttack(0.1, 0.05, 1)
COMPOSED = {
    "weight_perturbation": AWP,
    "weight_average": training.WeightAverage(0.9),
    "evaluation_attack": BIM(0.1, 0.05, 1),
}


def test_saved_with_its_average(tmp_path):
    first = step(model_of(methods.TRADES, attack=BIM_KL, **COMPOSED), 2)
    path = str(tmp_path / "model.keras")
    first.save(path)
    second = keras.models.load_model(path)
    assert second.settings == first.settings and second.settings.weight_perturbation == AWP
    for model in (first, second):
        step(model)
    for one, other in zip(weights_of(first), weights_of(second), strict=True):
        np.testing.assert_array_equal(one, other)
    assert first.evaluate(X, Y, verbose=0) == second.evaluate(X, Y, verbose=0)


def test_two_replicas_take_the_step_of_one():
    # Half the batch each, without batch norm: the move is along the gradient of the whole.
    arguments = {"batch_norm": False, "attack": BIM(0.1, 0.05, 1), **COMPOSED}
    alone = step(model_of(methods.AdversarialTraining, **arguments), 3)
    strategy = two_replicas()
    with strategy.scope():
        shared = model_of(methods.AdversarialTraining, **arguments)
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(len(X)).repeat(3)
    run = tf.function(lambda batch: strategy.run(shared.train_step, (batch,)))
    for batch in strategy.experimental_distribute_dataset(data):
        run(batch)
    for one, other in zip(weights_of(alone), weights_of(shared), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=2e-5)


def test_statistics_follow_the_network_on_every_replica():
    strategy = two_replicas()
    with strategy.scope():
        shared = model_of(methods.TRADES, attack=BIM_KL, **COMPOSED)
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(len(X)).repeat(2)
    run = tf.function(lambda batch: strategy.run(shared.train_step, (batch,)))
    for batch in strategy.experimental_distribute_dataset(data):
        run(batch)
    layers = [net.generator.get_layer("bn") for net in (shared.averaged, shared.network)]
    means, variances = zip(*[(n.moving_mean, n.moving_variance) for n in layers], strict=True)
    for mine, theirs in (means, variances):
        one, other = (tf.convert_to_tensor(compat.raw(v)).numpy() for v in (mine, theirs))
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)
    assert np.abs(tf.convert_to_tensor(compat.raw(means[1])).numpy()).max() > 1e-4


def settings_with_batch_norm(**changes):
    settings = {
        "network": lambda input_shape, num_classes: tiny_network(batch_norm=True, dropout=0.3),
        "method": functools.partial(methods.TRADES, attack=BIM_KL),
        "weight_perturbation": functools.partial(training.AWP, from_epoch=0.5),
        "weight_average": functools.partial(training.EMA, decay=0.9),
    }
    return recipe(**{**settings, **changes})


def test_a_stopped_run_continues_to_the_bit(stop_after, tmp_path):
    run = trainer(tmp_path / "straight", settings_with_batch_norm(), thirds())
    run.train()
    stop_after("advance", 4)
    with pytest.raises(Stopped):
        trainer(tmp_path / "stopped", settings_with_batch_norm(), thirds()).train()
    again = trainer(tmp_path / "stopped", settings_with_batch_norm(), thirds())
    assert again.resumed
    again.train()
    assert rows(tmp_path / "straight") == rows(tmp_path / "stopped")
    for one, other in zip(weights_of(run.model), weights_of(again.model), strict=True):
        np.testing.assert_array_equal(one, other)
    kept = model_weights(tmp_path / "stopped")
    for one, other in zip(weights_of(run.model.averaged), kept, strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_averaged_network_gets_statistics_of_its_own(tmp_path):
    run = trainer(tmp_path, settings_with_batch_norm(epochs=6, batch_size=60), thirds())
    run.train()
    averaged = run.model.averaged
    with forward_mode(batch_norm="batch"):
        # The first layer's inputs are the images: its statistics are known.
        own = averaged.generator.layers[0](run.dataset.train.images)
    mean, variance = own.numpy().mean((0, 1, 2)), own.numpy().var((0, 1, 2))
    layer = averaged.generator.get_layer("bn")
    trained = run.model.network.generator.get_layer("bn")
    # An epoch is one batch, of all images: shown for the last validation and at the end.
    for mine, first, batch in (
        (layer.moving_mean, trained.moving_mean, mean),
        (layer.moving_variance, trained.moving_variance, variance),
    ):
        expected = 0.81 * compat.raw(first) + 0.19 * batch
        np.testing.assert_allclose(compat.raw(mine), expected, rtol=2e-3, atol=1e-4)


def test_the_best_is_kept_and_patience_ends_the_run(tmp_path):
    settings = {"epochs": 6, "learning_rate": 1e-12, "select": "best", "patience": 2}
    settings |= {"eps_warmup_epochs": 0.0}
    run = trainer(tmp_path, recipe(**settings), digits())
    summary = run.train()
    # Nothing is learnt, so the first validation stays the best.
    assert summary["best_epoch"] == 1 and summary["selected"] == "best"
    assert [row["epoch"] for row in rows(tmp_path)] == [1, 2, 3]
    best = keras.models.load_model(tmp_path / "best.keras").get_weights()
    for one, other in zip(best, model_weights(tmp_path), strict=True):
        np.testing.assert_array_equal(one, other)
    again = trainer(tmp_path, recipe(**settings), digits())
    assert again.finished and again.train() == summary


def test_the_best_needs_validation_images(tmp_path):
    for settings in ({"select": "best"}, {"patience": 2}):
        with pytest.raises(ValueError, match="no validation images to choose by; set data.valid"):
            trainer(tmp_path, recipe(**settings), digits(validation=0))


def test_patience_counts_from_validation_to_validation(tmp_path):
    settings = {"epochs": 8, "learning_rate": 1e-12, "patience": 2, "validate_every": 3}
    trainer(tmp_path, recipe(**settings, eps_warmup_epochs=0.0), digits()).train()
    assert [row["epoch"] for row in rows(tmp_path)] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: training.WeightPerturbation(0.0), r"gamma=0.0\): must be finite and > 0"),
        (lambda: training.WeightPerturbation(0.1, -1), r"from_step=-1\): must be >= 0"),
        (lambda: training.WeightAverage(1.0), r"decay=1.0\): must be in \(0, 1\), or None"),
        (lambda: training.WeightAverage(None, 0, 0), "every=0"),
        (lambda: recipe(select="worst"), r"select='worst': must be 'last' or 'best'"),
        (lambda: recipe(patience=0), r"train\(patience=0\): must be an integer >= 1"),
        (lambda: recipe(weight_average="EMA"), "must be a builder, such as @EMA"),
        (lambda: recipe(extra="more"), r"must be @PseudoLabels\(\), with brackets"),
    ],
)
def test_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_one_line_of_gin():
    gin.parse_config("""
        train.weight_perturbation = @AWP
        AWP.gamma = 0.01
        AWP.from_epoch = 10
        train.weight_average = @SWA
        SWA.from_epoch = 3
    """)
    found = training.Recipe()
    made = found.weight_perturbation(steps_per_epoch=7), found.weight_average(steps_per_epoch=7)
    assert made == (
        training.WeightPerturbation(0.01, 70),
        training.WeightAverage(None, from_step=21, every=7),
    )
