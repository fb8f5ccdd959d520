"""What every builder promises: files, float32 logits, low precision, loops, replicas."""

import gin
import keras
import numpy as np
import pytest
import tensorflow as tf

from robust_tf import compat
from robust_tf.models import (
    CNN,
    MLP,
    PreActResNet18,
    ResNet,
    ResNet18,
    WideResNet,
    forward_mode,
)
from tests.models.reference import randomize

BUILDERS = {
    "CNN": lambda: CNN((18, 18, 1), 4, filters=3, hidden=5),
    "CNN-2conv": lambda: CNN((18, 18, 1), 4, filters=3, hidden=5, cut="2conv"),
    "ResNet": lambda: ResNet((8, 8, 3), 4, filters=(4, 4, 8), units=1),
    "ResNet18": lambda: ResNet18((8, 8, 3), 4, widths=(4, 8, 12, 16)),
    "PreActResNet18": lambda: PreActResNet18(
        (8, 8, 3),
        4,
        shortcut="raw3x3",
        activation="silu",
        padding="same",
        widths=(4, 4, 6, 8),
    ),
    "WideResNet": lambda: WideResNet((8, 8, 3), 4, depth=10, width=1),
    "MLP": lambda: MLP((2,), 4, hidden=(6, 5)),
}
WITH_BATCH_NORM = ("ResNet", "ResNet18", "PreActResNet18", "WideResNet")


every_builder = pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS.keys())
batch_norm_builder = pytest.mark.parametrize(
    "build", [BUILDERS[name] for name in WITH_BATCH_NORM], ids=WITH_BATCH_NORM
)


def images(model, batch=4, seed=0):
    shape = (batch, *model.image_shape)
    return np.random.default_rng(seed).uniform(0, 1, shape).astype("float32")


def ascend(model, x, mode, steps=3):
    """An attack in small: `steps` gradients through the network, in a loop of the graph."""

    def body(x):
        with tf.GradientTape() as tape, forward_mode(batch_norm=mode, seed=(0, 1)):
            tape.watch(x)
            loss = tf.reduce_sum(model(x, training=True) ** 2)
        return (x + 0.01 * tape.gradient(loss, x),)

    return tf.while_loop(lambda x: True, body, (x,), maximum_iterations=steps)[0]


def statistics(model):
    return [np.asarray(v).copy() for v in model.non_trainable_variables]


@every_builder
def test_keras_file_gives_the_same_network(build, tmp_path):
    model = build()
    randomize(model)
    path = str(tmp_path / "model.keras")
    model.save(path)
    again = keras.models.load_model(path)
    for before, after in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    x = tf.constant(images(model))
    for before, after in zip(model.forward(x), again.forward(x), strict=True):
        np.testing.assert_array_equal(before, after)
    assert again.image_shape == model.image_shape
    assert again.has_batch_norm == model.has_batch_norm == ("bn" in str(variable_names(model)))


def variable_names(model):
    return [getattr(v, "path", v.name) for v in model.variables]


@every_builder
def test_variable_names_are_unique_and_those_of_every_build(build):
    names = variable_names(build())
    assert len(set(names)) == len(names)
    assert names == variable_names(build())


@every_builder
def test_every_trainable_variable_gets_a_gradient(build):
    model = build()
    randomize(model)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(tf.constant(images(model)), training=True) ** 2)
    variables = [compat.raw(v) for v in model.trainable_variables]
    for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
        assert gradient is not None, variable.name
        assert np.isfinite(gradient).all(), variable.name


@every_builder
def test_logits_are_float32_under_mixed_bfloat16(build, mixed_bfloat16, tmp_path):
    model = build()
    randomize(model)
    x = tf.constant(images(model))
    logits, features = model.forward(x)
    assert (logits.dtype, features.dtype) == (tf.float32, tf.bfloat16)
    assert model.classifier(features).dtype == tf.float32
    assert all(v.dtype == "float32" for v in model.variables)
    for mode in ("running", "batch", "training"):
        moved = tf.function(ascend)(model, x, mode)
        assert moved.dtype == tf.float32
        assert np.isfinite(moved).all()
        assert np.abs(moved - x).max() > 0
    model.save(str(tmp_path / "model.keras"))
    again = keras.models.load_model(str(tmp_path / "model.keras"))
    np.testing.assert_array_equal(model(x), again(x))


@every_builder
def test_bfloat16_is_close_to_float32(build):
    model = build()
    randomize(model)
    x = tf.constant(images(model))
    want = model(x).numpy()
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    low = build()
    low.set_weights(model.get_weights())
    assert np.abs(low(x) - want).max() < 0.05 * np.abs(want).max()


@batch_norm_builder
@pytest.mark.parametrize("mode", ["running", "batch"])
def test_only_training_moves_the_averages(build, mode):
    model = build()
    randomize(model)
    before = statistics(model)
    tf.function(ascend)(model, tf.constant(images(model)), mode)
    for old, new in zip(before, statistics(model), strict=True):
        np.testing.assert_array_equal(old, new)


@batch_norm_builder
def test_each_pass_of_a_loop_moves_the_averages_once(build):
    model = build()
    randomize(model)
    start = model.get_weights()
    x = tf.constant(images(model))
    looped = tf.function(ascend)(model, x, "training", 3)
    in_loop = statistics(model)
    model.set_weights(start)
    one_by_one = x
    for _ in range(3):
        one_by_one = ascend(model, one_by_one, "training", 1)
    np.testing.assert_allclose(looped, one_by_one, rtol=1e-3, atol=1e-3)
    for old, new in zip(in_loop, statistics(model), strict=True):
        np.testing.assert_allclose(old, new, rtol=1e-3, atol=1e-3)
    moved = [np.abs(a - b).max() for a, b in zip(start, model.get_weights(), strict=True)]
    assert sum(m > 0 for m in moved) == len(in_loop)


@pytest.mark.parametrize("low_precision", [False, True], ids=["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("mode", ["running", "batch", "training"])
def test_loop_and_gradient_in_two_replicas(two_replicas, mode, low_precision, request):
    """Each replica by itself; the averages read afterwards are the mean over the replicas."""
    if low_precision:
        request.getfixturevalue("mixed_bfloat16")
    build = BUILDERS["ResNet"]
    alone = build()
    randomize(alone)
    start = alone.get_weights()
    with two_replicas.scope():
        model = build()
        model.set_weights(start)
    x = images(alone, batch=8)
    per_replica = two_replicas.experimental_distribute_values_from_function(
        lambda context: tf.constant(x[4 * context.replica_id_in_sync_group :][:4])
    )

    def step(x):
        moved = ascend(model, x, mode)
        with tf.GradientTape() as tape, forward_mode(batch_norm=mode):
            loss = tf.reduce_mean(model(moved, training=True) ** 2)
        gradients = tape.gradient(loss, [compat.raw(v) for v in model.trainable_variables])
        return moved, gradients

    @tf.function
    def run():
        return two_replicas.run(step, args=(per_replica,))

    moved, gradients = run()
    shards = two_replicas.experimental_local_results(moved)
    assert len(shards) == 2
    assert all(np.isfinite(g).all() for g in two_replicas.experimental_local_results(gradients[0]))
    averages = []
    tolerance = 0.05 if low_precision else 1e-3
    for index, shard in enumerate(shards):
        alone.set_weights(start)
        want = tf.function(ascend)(alone, tf.constant(x[4 * index :][:4]), mode)
        np.testing.assert_allclose(shard, want, rtol=tolerance, atol=tolerance)
        with forward_mode(batch_norm=mode):
            alone(want, training=True)
        averages.append(statistics(alone))
    for got, first, second in zip(statistics(model), *averages, strict=True):
        np.testing.assert_allclose(got, (first + second) / 2, rtol=tolerance, atol=tolerance)
    changed = any((a != b).any() for a, b in zip(start, model.get_weights(), strict=True))
    assert changed == (mode == "training")


@pytest.mark.parametrize("name", ["CNN", "MLP", "ResNet", "ResNet18", "StridedCNN", "WideResNet"])
def test_gin_binds_by_the_name_of_the_builder(name):
    gin.parse_config(f"{name}.input_shape = (20, 20, 1)\n{name}.num_classes = 7")
    if name == "WideResNet":
        gin.parse_config("WideResNet.depth = 10\nWideResNet.width = 1")
    model = gin.get_configurable(name)()
    assert (model.image_shape, model.num_classes) == ((20, 20, 1), 7)
