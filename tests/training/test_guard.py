"""What a check measures and costs, and the callback that does it in `fit`."""

import dataclasses
import functools
import math
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from robust_tf import attacks, compat, data, methods, models
from robust_tf.attacks import FGSM, PGD
from robust_tf.attacks.network import Passes
from robust_tf.data import Split
from robust_tf.methods.reduction import Share
from robust_tf.training import CollapseGuard
from robust_tf.training.guard import (
    SHARE,
    Guard,
    accuracy_under,
    check_passes,
    interval,
    watching_attacks,
)
from robust_tf.training.overfitting import Gap
from robust_tf.training.run_guard import settings_of
from tests.tiny import Smooth, labelled, plain_network, tiny_network
from tests.training.runs import points_recipe

NO_STRATEGY = tf.distribute.get_strategy()


def compiled(method=methods.AdversarialTraining, attack=None, network=None, **arguments):
    model = method(network or tiny_network(), attack or PGD(0.1, 0.2, 1), **arguments)
    model.compile(keras.optimizers.SGD(0.1), seed=3)
    return model


@pytest.mark.parametrize(
    "attack, steps", [(FGSM(0.1), 1), (PGD(0.1, 0.2, 1), 1), (PGD(0.1, 0.05, 2), 2)]
)
def test_passes_of_a_check_are_counted(attack, steps):
    """By a count of forwards and backwards in the graphs that are run."""
    network, passes = Smooth(), Passes()
    counted = passes.counting(network)
    x, y = labelled(7)
    model = lambda images, training=False: counted(images)  # noqa: E731

    @tf.function(autograph=False)
    def check():
        share = Share.of(tf.constant(x), tf.constant(y), None)
        seeds = tf.stack([tf.zeros([7], tf.int32), tf.range(7)], 1)
        for one in watching_attacks(attack):
            accuracy_under(one, model, share, seeds, tf.constant(1.0))

    check()
    total = int(passes.forwards.numpy()) + int(passes.gradients.numpy())
    assert total == check_passes(steps, 7)


class Counted(keras.layers.Layer):
    """Passes images on, and counts them, forwards and backwards."""

    def __init__(self):
        super().__init__(name="counted")
        self.passed = tf.Variable(0, dtype=tf.int64, trainable=False)

    def call(self, x):
        @tf.custom_gradient
        def count(x):
            self.passed.assign_add(tf.shape(x, tf.int64)[0])

            def gradient(upstream):
                self.passed.assign_add(tf.shape(upstream, tf.int64)[0])
                return upstream

            return tf.identity(x), gradient

        return count(x)


@pytest.mark.parametrize("replays", [1, 3])
def test_checks_of_free_go_by_its_updates(replays):
    """2 passes of each image for each replay, none for an attack; a check is of one step."""
    network = tiny_network()
    free = functools.partial(methods.Free, replays=replays)
    model = compiled(free, FGSM(0.1), network)
    split = Split(*labelled(24))
    dataset = data.Data("thirds", split, split, split, num_classes=3)
    settings = settings_of(points_recipe(batch_size=12), model, dataset)
    check, step = 24 * (3 + 11), 12 * 2 * replays
    assert settings["every"] == math.ceil(check / (0.04 * step))
    assert settings["share_of_passes"] == pytest.approx(
        check / (settings["every"] * step), abs=1e-6
    )


@pytest.mark.parametrize("steps, replays", [(1, 0), (2, 0), (1, 3)])
def test_passes_of_a_training_step_are_counted(steps, replays):
    """In front of the network's first layer with weights, so that both gradients pass it."""
    layer = Counted()
    network = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(1, 1),
            layer,
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )
    method = functools.partial(methods.Free, replays=replays) if replays else None
    attack = FGSM(0.1) if replays else PGD(0.1, 0.1, steps)
    model = compiled(method or methods.AdversarialTraining, attack, network)
    x, y = labelled(12)
    layer.passed.assign(0)
    tf.function(model.train_step)((tf.constant(x), tf.constant(y)))
    assert int(layer.passed.numpy()) == 12 * model.passes_per_image


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("images, batch", [(128, 128), (128, 64), (256, 1024), (13, 10)])
def test_checks_cost_less_than_five_percent(steps, images, batch):
    check, step = check_passes(steps, images), batch * (2 * steps + 2)
    every = interval(check, step)
    cost = check / (every * step)
    assert cost <= SHARE < 0.05
    assert every == 1 or cost * every / (every - 1) > SHARE  # and no more rarely than that asks for


def by_hand(model, attack, x, y, seed=3):
    """Accuracy under an attack, eagerly, with a seed for each image."""
    seeds = tf.stack([tf.fill([len(y)], seed), tf.range(len(y))], 1)
    x_adv = attack(model.network, x, y, seed=seeds)
    return np.mean(np.argmax(model.network(x_adv, training=False), 1) == y)


def test_measures_both_accuracies_and_changes_nothing():
    """On a network of Keras' own layers with moving averages, of an attack in training mode."""
    attack = PGD(0.2, 0.3, 1, batch_norm="training")
    model = compiled(attack=attack, network=plain_network(dropout=0.3))
    x, y = labelled(21)
    for _ in range(30):
        model.train_on_batch(x[:12], y[:12])
    before = [compat.raw(v).numpy() for v in model.network.variables]
    guard = Guard(model, Split(x, y), 64, 10, NO_STRATEGY)
    gap = guard.measure()
    for old, variable in zip(before, model.network.variables, strict=True):
        np.testing.assert_array_equal(old, compat.raw(variable).numpy())
    running = dataclasses.replace(attack, batch_norm="running")
    short = PGD(0.2, 0.05, 5)
    expected = Gap(by_hand(model, running, x, y), by_hand(model, short, x, y), 21)
    assert gap == pytest.approx(expected, abs=1e-6) and 0 < gap.training < 1
    assert guard.measure() == gap


def test_eps_is_what_a_warm_up_has_come_to():
    model = compiled()
    model.compile(keras.optimizers.SGD(0.0), eps_warmup_steps=10**6)
    x, y = labelled(30)
    clean = np.mean(np.argmax(model.network(x), 1) == y)
    gap = Guard(model, Split(x, y), 30, 10, NO_STRATEGY).measure()
    assert gap == pytest.approx((clean, clean, 30))


def test_images_are_drawn_class_by_class():
    """From a split that is sorted by class, as a folder of images is."""
    x, y = labelled(90)
    order = np.argsort(y, kind="stable")
    guard = Guard(compiled(), Split(x[order], y[order]), 30, 10, NO_STRATEGY)
    _, drawn, _ = next(iter(guard._distributed()))
    assert np.bincount(drawn).tolist() == [10, 10, 10]


@pytest.mark.parametrize(
    "attack, training",
    [
        (attacks.ScatteringAttack(0.1), FGSM(0.1, random_start=True)),
        (attacks.ManifoldAttack(0.1), FGSM(0.1, random_start=True)),
        (attacks.TRADESAttack(0.1, 0.1, 1), attacks.TRADESAttack(0.1, 0.1, 1)),
        (FGSM(0.5, norm="L2"), FGSM(0.5, norm="L2")),
    ],
)
def test_attacks_of_a_check(attack, training):
    own, short = watching_attacks(attack)
    assert own == training
    eps, norm = attack.eps, attack.norm
    expected = PGD(eps, eps / 4, 5, norm=norm).composition()
    assert (short if hasattr(short, "objective") and not hasattr(short, "targeted")
            else short.composition()) == expected  # fmt: skip


def test_methods_with_a_discriminator_are_watched_on_the_network():
    model = compiled(
        methods.ATLD,
        attacks.ManifoldAttack(0.1),
        discriminator=lambda **sizes: models.MLPDiscriminator(**sizes, batch_norm=False),
    )
    x, y = labelled(12)
    gap = Guard(model, Split(x, y), 12, 10, NO_STRATEGY).measure()
    assert gap.training == by_hand(model, FGSM(0.1, random_start=True), x, y)


# ---- the callback --------------------------------------------------------------------------------


def fitted(gaps, on_collapse, monkeypatch, **arguments):
    """`fit` of 12 batches in 3 epochs; what checks find is given."""
    found = iter(gaps)
    monkeypatch.setattr(Guard, "measure", lambda self: next(found))
    model, (x, y) = compiled(), labelled(24)
    model.compile(keras.optimizers.SGD(0.1), **arguments)
    guard = CollapseGuard(x, y, every=3, on_collapse=on_collapse)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        history = model.fit(
            x, y, batch_size=6, epochs=3, verbose=0, callbacks=[guard], shuffle=False
        )
    said = [str(one.message) for one in said if "overfitting" in str(one.message)]
    return guard, history, said, model


BAD = [Gap(0.8, 0.7, 128), Gap(0.9, 0.1, 128), Gap(0.9, 0.1, 128), Gap(0.9, 0.1, 128)]


def test_callback_warns_once(monkeypatch):
    guard, history, said, _ = fitted(BAD, "warn", monkeypatch)
    assert said == [
        "catastrophic overfitting at batch 6: of 128 held-out images 10.0% withstand PGD-5 (best "
        "70.0%) and 90.0% the training attack"
    ]
    assert guard.gaps == dict(zip([3, 6, 9, 12], BAD, strict=True)) and guard.found == 6
    assert len(history.history["loss"]) == 3


@pytest.mark.parametrize("execution", [1, 2])
def test_callback_stops(execution, monkeypatch):
    guard, history, said, model = fitted(BAD, "stop", monkeypatch, steps_per_execution=execution)
    assert guard.found == 6 and len(said) == 1
    assert len(history.history["loss"]) == 2 and int(model.batches) < 12


def test_callback_measures_for_itself():
    model, (x, y) = compiled(), labelled(24)
    guard = CollapseGuard((255 * x).astype("uint8"), y, every=2)
    model.fit(x, y, batch_size=12, epochs=2, verbose=0, callbacks=[guard])
    assert set(guard.gaps) == {2, 4} and guard.gaps[4].images == 24


def test_callback_refuses():
    x, y = labelled(6)
    with pytest.raises(ValueError, match="on_collapse='rollback'.*train.on_collapse"):
        CollapseGuard(x, y, on_collapse="rollback")
    with pytest.raises(ValueError, match="every=0"):
        CollapseGuard(x, y, every=0)
    for model in (methods.Standard(tiny_network()), tiny_network()):
        model.compile("sgd", **({} if hasattr(model, "attack") else {"loss": "mse"}))
        with pytest.raises(ValueError, match="CollapseGuard: .* has no training attack"):
            model.fit(x, y, verbose=0, callbacks=[CollapseGuard(x, y)])
