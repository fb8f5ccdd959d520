"""Keras' callbacks and ways to run a step, each with a training method."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from robust_tf import attacks, methods
from robust_tf.training import WeightPerturbation
from tests.tiny import labelled, same_bits, tiny_network

BIM = attacks.BIM(0.1, 0.05, 2)
X, Y = labelled(24)
RUN_EVALUATE = {"batch_size": 12, "verbose": 0}
RUN = {"batch_size": 12, "shuffle": False, "verbose": 0}


def built(**compiled):
    attack = attacks.PGD(0.1, 0.05, 2)
    model = methods.AdversarialTraining(tiny_network(dropout=0.3), attack, 0.5)
    compiled = {"evaluation_attack": BIM, "seed": 3, **compiled}
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), **compiled)
    return model


def rate(model):
    return float(np.asarray(model.optimizer.learning_rate))


def weights(model):
    return model.network.get_weights()


def same(one, other):
    for a, b in zip(weights(one), weights(other), strict=True):
        same_bits(a, b)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_callbacks_that_change_the_rate(policy):
    keras.mixed_precision.set_global_policy(policy)
    model = built()
    schedule = keras.callbacks.LearningRateScheduler(lambda epoch: 0.1 / 2**epoch)
    model.fit(X, Y, epochs=3, callbacks=[schedule], **RUN)
    assert rate(model) == pytest.approx(0.025)
    plateau = keras.callbacks.ReduceLROnPlateau("val_loss", 0.1, patience=1, min_delta=100.0)
    before = weights(model)
    model.fit(X, Y, epochs=3, validation_data=(X, Y), callbacks=[plateau], **RUN)
    assert rate(model) == pytest.approx(2.5e-4)
    assert any((a != b).any() for a, b in zip(before, weights(model), strict=True))


def test_early_stopping_restores_weights_and_not_what_numbers_are_drawn_from():
    model = built()
    kept = []
    stop = keras.callbacks.EarlyStopping(
        "val_robust_accuracy", mode="max", min_delta=2.0, patience=2, restore_best_weights=True
    )
    keep = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: kept.append(weights(model)))
    model.fit(X, Y, epochs=9, validation_data=(X, Y), callbacks=[keep, stop], **RUN)
    assert len(kept) == 3
    for a, b in zip(weights(model), kept[0], strict=True):
        same_bits(a, b)
    assert int(model.batches) == 6


class Stopped(Exception):
    pass


def test_backup_and_restore_goes_on_to_the_bit(tmp_path):
    straight, stopped, again = built(), built(), built()
    straight.fit(X, Y, epochs=4, **RUN)

    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise Stopped

    def backup():
        return keras.callbacks.BackupAndRestore(str(tmp_path / "backup"))

    with pytest.raises(Stopped):
        stopped.fit(X, Y, epochs=4, callbacks=[backup(), Stop()], **RUN)
    again.fit(X, Y, epochs=4, callbacks=[backup()], **RUN)
    assert int(again.batches) == 8
    same(straight, again)


def test_model_checkpoint_of_weights(tmp_path):
    path = str(tmp_path / "{epoch}.weights.h5")
    model, other = built(), built()
    save = keras.callbacks.ModelCheckpoint(path, save_weights_only=True)
    model.fit(X, Y, epochs=2, callbacks=[save], **RUN)
    other.load_weights(path.format(epoch=2))
    same(model, other)


def test_tensorboard(tmp_path):
    board = keras.callbacks.TensorBoard(str(tmp_path), histogram_freq=1, update_freq=1)
    built().fit(X, Y, epochs=2, validation_data=(X, Y), callbacks=[board], **RUN)
    assert list(tmp_path.rglob("events*"))


def test_several_steps_in_an_execution():
    x, y = labelled(30)
    one, several = built(), built(steps_per_execution=2)
    histories = [model.fit(x, y, epochs=2, **RUN).history for model in (one, several)]
    for name, values in histories[0].items():
        np.testing.assert_allclose(histories[1][name], values, rtol=1e-5)
    for a, b in zip(weights(one), weights(several), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    results = [model.evaluate(x, y, **RUN_EVALUATE) for model in (one, several)]
    np.testing.assert_allclose(*results, rtol=1e-5)


class InTheBall(methods.AdversarialTraining):
    """Its images are watched: how far the adversary went."""

    def generate_adversarial(self, x, y, seed, scale):
        moved = super().generate_adversarial(x, y, seed, scale)
        self.farthest.assign(tf.maximum(self.farthest, tf.reduce_max(tf.abs(moved - x))))
        self.outside.assign(tf.maximum(self.outside, tf.reduce_max(tf.abs(moved - 0.5))))
        return moved


@pytest.mark.parametrize("how", ["run_eagerly", "jit_compile"])
def test_other_ways_to_run_a_step(how):
    attack, made = attacks.BIM(0.1, 0.05, 3), []
    for settings in ({}, {how: True}):
        model = InTheBall(tiny_network(), attack, 0.5)
        model.farthest, model.outside = (tf.Variable(0.0, trainable=False) for _ in range(2))
        model.compile(keras.optimizers.SGD(0.1), evaluation_attack=BIM, **settings)
        made.append(model)
    one, other = made
    histories = [model.fit(X, Y, epochs=3, **RUN).history for model in (one, other)]
    for name, values in histories[0].items():
        np.testing.assert_allclose(histories[1][name], values, rtol=1e-2, atol=1e-3, err_msg=name)
    for a, b in zip(weights(one), weights(other), strict=True):
        np.testing.assert_allclose(a, b, atol=5e-3)
    results = [model.evaluate(X, Y, **RUN_EVALUATE) for model in (one, other)]
    np.testing.assert_allclose(*results, rtol=1e-2)
    for model in made:
        assert 0.09 < float(model.farthest) <= 0.1 + 1e-7 and float(model.outside) <= 0.5


@pytest.mark.parametrize("perturbed", [False, True])
def test_frozen_weights_stay(perturbed):
    network = tiny_network()
    network.trainable = False
    before = network.get_weights()
    model = methods.TRADES(network, attacks.TRADESAttack(0.1, 0.05, 2))
    settings = {"weight_decay": 0.1}
    if perturbed:
        settings["weight_perturbation"] = WeightPerturbation(0.1)
    model.compile(keras.optimizers.SGD(0.1), **settings)
    with pytest.warns(UserWarning, match="no weight is trainable"):
        history = model.fit(X, Y, epochs=2, **RUN).history
    assert np.isfinite(history["loss"]).all() and int(model.batches) == 4
    for a, b in zip(network.get_weights(), before, strict=True):
        same_bits(a, b)


def test_a_frozen_half_stays_and_the_other_learns():
    model = built()
    model.network.generator.trainable = False
    model.compile(keras.optimizers.SGD(0.1), weight_decay=0.1)
    frozen, learns = model.network.generator.get_weights(), model.network.classifier.get_weights()
    model.fit(X, Y, epochs=1, **RUN)
    for a, b in zip(model.network.generator.get_weights(), frozen, strict=True):
        same_bits(a, b)
    for a, b in zip(model.network.classifier.get_weights(), learns, strict=True):
        assert (a != b).any()
