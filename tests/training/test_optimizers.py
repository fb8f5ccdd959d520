"""Optimisers and schedules by name: Keras' on both stacks, tensorflow-addons' on its own."""

import gin
import keras
import numpy as np
import pytest
import tensorflow as tf

from robust_tf import compat, methods, training
from robust_tf.training import Adam, cosine, optimizers, piecewise, polyline
from robust_tf.training.checkpoints import Checkpoints
from tests.tiny import labelled, same_bits, tiny_network, two_replicas, weights_of

X, Y = labelled()
addons_only = pytest.mark.skipif(compat.KERAS_3, reason="tensorflow-addons is on the other stack")


def made(text, rate=0.01):
    """The optimiser of a gin text."""
    gin.parse_config(text)
    return training.Recipe().optimizer(learning_rate=rate)


def compiled(optimizer, **arguments):
    model = methods.Standard(tiny_network())
    model.compile(optimizer, **arguments)
    return model


def fit(model, steps):
    model.fit(X, Y, batch_size=12, epochs=steps, shuffle=False, verbose=0)
    return model


# ---- learning rates ----------------------------------------------------------------------------


@pytest.mark.parametrize("boundaries", [(), (1,), (1, 2.5), (0.1, 1 / 3, 2.05), (2, 2, 4)])
@pytest.mark.parametrize("steps", [1, 7, 30])
def test_piecewise_rates_at_every_step(boundaries, steps):
    rate = piecewise(0.1, steps_per_epoch=steps, epochs=5, boundaries=boundaries, factor=0.2)
    for step in range(5 * steps):
        # In float32, as version 0.1 had it.
        epoch = np.float32(step) / np.float32(steps)
        expected = np.float32(0.1)
        for boundary in boundaries:
            if epoch >= np.float32(boundary):
                expected = expected * np.float32(0.2)
        same_bits(rate(tf.constant(step, tf.int64)), expected)


LINES = ((0, 0), (0.25, 1), (0.5, 0.5), (0.5, 0.05), (1, 0.05))


@pytest.mark.parametrize("points", [((0, 0), (0.4, 1), (1, 0)), LINES, ((0, 1), (1, 0))])
def test_polyline_rates_at_every_step(points):
    """As NumPy interpolates; a jump is made at its step. It is read again from a file."""
    rate = polyline(0.2, steps_per_epoch=7, epochs=4, points=points)
    again = compat.deserialize(compat.serialize(rate))
    parts = np.array(points, "float64")
    parts[1:][parts[1:, 0] == parts[:-1, 0], 0] += 1e-9
    got = [float(rate(tf.constant(step, tf.int64))) for step in range(31)]
    place = np.minimum((np.arange(31) + 1e-7) / 28, 1.0)
    np.testing.assert_allclose(got, 0.2 * np.interp(place, *parts.T), rtol=1e-5, atol=1e-7)
    assert got == [float(again(step)) for step in range(31)]


@pytest.mark.parametrize(
    "points", [(), ((0, 0),), ((0, 0), (0.5, 1)), ((0, 0), (2, 1)), ((0, -1), (1, 0)), "up", 3]
)
def test_polyline_refuses(points):
    # What is not even a list is refused by its type.
    pairs = "a list" if isinstance(points, (str, int)) else "pairs of parts of the run"
    with pytest.raises(ValueError, match=rf"polyline\(points=.*must be {pairs}"):
        polyline(0.1, 10, 10, points)


@pytest.mark.parametrize("steps, epochs", [(1, 5), (7, 3), (391, 2)])
def test_cosine_rates_at_every_step(steps, epochs):
    rate = cosine(0.1, steps_per_epoch=steps, epochs=epochs)
    got = [float(rate(tf.constant(step, tf.int64))) for step in range(steps * epochs + 3)]
    done = np.minimum(np.arange(steps * epochs + 3) / (steps * epochs), 1.0)
    np.testing.assert_allclose(got, 0.05 * (1 + np.cos(np.pi * done)), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(
    "old, new",
    [
        ({"boundaries": [1, 2.5], "factor": 0.1}, lambda: piecewise(0.1, 10, 5, (1, 2.5))),
        ({"cosine_epochs": 4.0}, lambda: cosine(0.1, 10, 4)),
    ],
)
def test_the_schedule_of_version_0_1_is_read(old, new):
    config = {"learning_rate": 0.1, "steps_per_epoch": 10, "boundaries": [], "factor": 0.1}
    config = {**config, "cosine_epochs": 0.0, **old}
    name = {"module": "robust_tf.training.optimizers", "class_name": "EpochSchedule"}
    file = {**name, "config": config, "registered_name": "robust_tf>EpochSchedule"}
    assert compat.deserialize(file).get_config() == new().get_config()


def test_schedules_are_saved_with_their_optimizer():
    optimizer = Adam(piecewise(0.1, 10, 5, (1, 2.5)))
    copy = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert copy.get_config() == optimizer.get_config()


@pytest.mark.parametrize(
    "wrong, message",
    [
        *[({"boundaries": b}, "ascending epochs > 0") for b in ((3, 2), (0, 1))],
        *[({"boundaries": b}, "must be a list, each a finite number") for b in (5, ("a",))],
        ({"boundaries": (1,), "factor": 0}, r"piecewise\(factor=0\): must be a finite number > 0"),
        ({"learning_rate": -0.1}, r"piecewise\(learning_rate=-0.1\): must be"),
    ],
)
def test_piecewise_refuses(wrong, message):
    with pytest.raises(ValueError, match=message):
        piecewise(**{"learning_rate": 0.1, "steps_per_epoch": 10, "epochs": 5, **wrong})


# ---- Keras -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["AdamW", "Lion", "RMSprop", "Nadam", "Adagrad", "Adafactor"])
def test_keras_optimizers_by_gin_name(name):
    optimizer = made(f"train.optimizer = @{name}\n{name}.clipnorm = 0.5")
    assert type(optimizer) is getattr(keras.optimizers, name)
    assert optimizer.clipnorm == 0.5
    assert float(tf.convert_to_tensor(optimizer.learning_rate)) == pytest.approx(0.01)


def test_our_names_stay():
    assert made("train.optimizer = @SGD").momentum == 0.9
    adam = made("train.optimizer = @Adam\nAdam.beta_1 = 0.7\nAdam.epsilon = 1e-5")
    assert (adam.beta_1, adam.beta_2, adam.epsilon) == (0.7, 0.999, 1e-5)


def test_a_step_of_adamw():
    optimizer = made("train.optimizer = @AdamW\nAdamW.weight_decay = 0.3")
    model = fit(compiled(optimizer), 1)
    network = tiny_network()
    with tf.GradientTape() as tape:
        logits = network(X, training=True)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(Y, logits))
    variables = [compat.raw(v) for v in network.trainable_variables]
    for gradient, old, new in zip(
        tape.gradient(loss, variables), variables, model.network.trainable_variables, strict=True
    ):
        g, w = gradient.numpy().astype("float64"), old.numpy().astype("float64")
        # The first step of Adam: moments of 0.1 g and 0.001 g^2, corrected at the rate.
        moved = w * (1 - 0.01 * 0.3) - 0.01 * g / (np.abs(g) + 1e-7 / np.sqrt(0.001))
        np.testing.assert_allclose(compat.raw(new), moved, rtol=0, atol=1e-5)


@pytest.mark.skipif(not compat.KERAS_3, reason="Keras 2 has no loss_scale_factor")
def test_a_loss_scale_factor_changes_nothing():
    plain, scaled = (
        fit(compiled(keras.optimizers.SGD(0.1, loss_scale_factor=factor)), 2)
        for factor in (None, 64.0)  # a power of two: no rounding
    )
    for one, other in zip(weights_of(plain), weights_of(scaled), strict=True):
        same_bits(one, other)


@pytest.mark.skipif(not compat.KERAS_3, reason="tensorflow-addons is on this stack")
@pytest.mark.parametrize("name", [*optimizers.ADDONS, "Lookahead"])
def test_addons_are_missed_in_one_sentence(name):
    with pytest.raises(ValueError, match=f"@{name}: it is tensorflow-addons', which is not inst"):
        made(f"train.optimizer = @{name}")


# ---- tensorflow-addons -------------------------------------------------------------------------

ADDONS = {
    "LAMB": "LAMB.weight_decay = 0.01",
    "RectifiedAdam": "RectifiedAdam.sma_threshold = 3.0",
    "SGDW": "SGDW.weight_decay = 1e-3\nSGDW.momentum = 0.9",
    "Lookahead": "Lookahead.sync_period = 2",
    "Lookahead of RectifiedAdam": "Lookahead.optimizer = @RectifiedAdam\nLookahead.sync_period = 3",
    "NovoGrad": "",
}


def of_addons(name):
    text = f"train.optimizer = @{name.split()[0]}\n{ADDONS[name]}"
    return made(text, piecewise(0.01, 2, 3, boundaries=(1,)))


@addons_only
@pytest.mark.parametrize("name", ADDONS)
def test_addons_train_stop_and_continue_to_the_bit(name, tmp_path):
    eager = {"run_eagerly": True, "eps_warmup_steps": 3}  # quicker than a trace each
    first = fit(compiled(of_addons(name), **eager), 3)
    stopped = weights_of(first)
    Checkpoints(str(tmp_path / "checkpoint"), first).save_last()
    first.save(tmp_path / "model.keras")
    second = compiled(of_addons(name), **eager)
    assert Checkpoints(str(tmp_path / "checkpoint"), second).restore_last()
    third = keras.models.load_model(tmp_path / "model.keras")
    third.run_eagerly = True
    assert type(third.optimizer) is type(first.optimizer)
    fit(first, 2)
    assert all((a != b).any() for a, b in zip(stopped, weights_of(first), strict=True))
    for model in (second, third):
        assert int(model.optimizer.iterations) == 3
        fit(model, 2)
        for one, other in zip(weights_of(first), weights_of(model), strict=True):
            same_bits(one, other)


@addons_only
def test_a_step_of_sgdw():
    model, plain = compiled(of_addons("SGDW")), compiled(keras.optimizers.SGD(0.01, momentum=0.9))
    before = [compat.raw(v).numpy() for v in model.network.trainable_variables]
    for one in (model, plain):
        fit(one, 1)
    for old, with_decay, without in zip(before, weights_of(model), weights_of(plain), strict=True):
        np.testing.assert_allclose(with_decay, without - 1e-3 * old, rtol=0, atol=1e-6)


@addons_only
def test_two_steps_of_lookahead():
    model, plain = compiled(of_addons("Lookahead")), compiled(keras.optimizers.SGD(0.01, 0.9))
    before = weights_of(model)
    for one in (model, plain):
        fit(one, 2)
    for slow, fast, got in zip(before, weights_of(plain), weights_of(model), strict=True):
        np.testing.assert_allclose(got, slow + 0.5 * (fast - slow), rtol=0, atol=1e-6)


@addons_only
def test_addons_on_two_replicas():
    alone = fit(compiled(of_addons("Lookahead of RectifiedAdam")), 4)
    strategy = two_replicas()
    with strategy.scope():
        shared = compiled(of_addons("Lookahead of RectifiedAdam"))
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(len(X)).repeat(4)
    run = tf.function(lambda batch: strategy.run(shared.train_step, (batch,)))
    for batch in strategy.experimental_distribute_dataset(data):
        run(batch)
    for one, other in zip(weights_of(alone), weights_of(shared), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=2e-5)


@addons_only
def test_what_an_addon_needs_is_said():
    with pytest.raises(ValueError, match="SGDW: .*weight_decay.*SGDW.ARGUMENT = VALUE"):
        made("train.optimizer = @SGDW")
    with pytest.raises(ValueError, match=r"Lookahead\(slow_step_size=2\): must be in \(0, 1\]"):
        made("train.optimizer = @Lookahead\nLookahead.slow_step_size = 2")
