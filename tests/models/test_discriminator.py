"""Discriminators: shapes, files, dtype policies, and what their networks compute."""

import gin
import keras
import numpy as np
import pytest
import tensorflow as tf

from robust_tf import compat
from robust_tf.models import Discriminator, MLPDiscriminator, WideDiscriminator, forward_mode
from robust_tf.models.wide_resnet import wide_trunk
from tests.models.reference import randomize, relu

BUILDERS = {
    "wide": lambda: WideDiscriminator(6, 4, depth=10, width=1),
    "mlp": lambda: MLPDiscriminator(6, 4, hidden=(5, 7)),
}
every_builder = pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS.keys())
Z = np.random.default_rng(0).normal(0, 2, (8, 6)).astype("float32")


@every_builder
def test_files_give_the_same_judgement(build, tmp_path):
    model = build()
    randomize(model)
    model.save(str(tmp_path / "model.keras"))
    again = keras.models.load_model(str(tmp_path / "model.keras"))
    assert (again.input_size, again.num_classes, again.name) == (6, 4, model.name)
    for before, after in zip(model(Z), again(Z), strict=True):
        np.testing.assert_array_equal(before, after)


@every_builder
def test_heads_are_float32_under_mixed_bfloat16(build, mixed_bfloat16):
    model = build()
    assert model.trunk(Z).dtype == tf.bfloat16
    natural, classes = model(Z)
    assert (natural.dtype, classes.dtype) == (tf.float32, tf.float32)
    assert (natural.shape, classes.shape) == ((8,), (8, 4))
    assert model(Z).natural is not None


@every_builder
def test_one_input_and_maps_of_as_many_values(build):
    model = build()
    whole, alone, maps = model(Z), model(Z[:1]), model(Z.reshape(8, 1, 2, 3))
    for a, b, c in zip(whole, alone, maps, strict=True):
        np.testing.assert_allclose(a[:1], b, atol=1e-6)
        np.testing.assert_array_equal(a, c)


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_mlp_against_numpy(batch_norm, training):
    model = MLPDiscriminator(6, 4, hidden=(5, 7), batch_norm=batch_norm)
    randomize(model)
    layers = {layer.name: layer for layer in model.trunk.layers}
    x = np.float64(Z)
    for name in ("fc1", "fc2"):
        x = x @ np.float64(layers[name].kernel) + np.float64(layers[name].bias)
        if batch_norm:
            bn = layers[f"{name}_bn"]
            gamma, beta, mean, variance = (
                np.float64(compat.raw(v))
                for v in (bn.gamma, bn.beta, bn.moving_mean, bn.moving_variance)
            )
            if training:
                mean, variance = x.mean(0), x.var(0)
            x = gamma * (x - mean) / np.sqrt(variance + 1e-5) + beta
        x = relu(x)
    weights = [np.float64(compat.raw(v)) for v in model.heads.weights]
    with forward_mode(batch_norm="batch" if training else "running"):
        natural, classes = model(Z)
    np.testing.assert_allclose(natural, (x @ weights[0] + weights[1])[:, 0], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(classes, x @ weights[2] + weights[3], rtol=1e-4, atol=1e-4)


def test_a_shift_of_all_logits_tells_a_centered_discriminator_nothing():
    model = MLPDiscriminator(6, 4, hidden=(5, 7), center=True)
    randomize(model)
    plain = MLPDiscriminator(6, 4, hidden=(5, 7))
    plain.set_weights(model.get_weights())
    for shifted, centered in zip(model(Z + 3), plain(Z - Z.mean(1, keepdims=True)), strict=True):
        np.testing.assert_allclose(shifted, centered, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("training", [False, True])
def test_wide_against_numpy(training):
    """On one pixel a padded 3x3 convolution is its centre tap, a matrix."""
    model = BUILDERS["wide"]()
    randomize(model)
    layers = {layer.name: layer for layer in model.trunk.layers}

    def array(value):
        return np.float64(compat.raw(value))

    def activate(x, name):
        bn = layers[f"{name}_bn"]
        mean, variance = array(bn.moving_mean), array(bn.moving_variance)
        if training:
            mean, variance = x.mean(0), x.var(0)
        x = array(bn.gamma) * (x - mean) / np.sqrt(variance + 1e-5) + array(bn.beta)
        return relu(x)

    def matrix(x, name):
        kernel = array(layers[name].kernel)
        return x @ kernel[kernel.shape[0] // 2, kernel.shape[1] // 2]

    x = matrix(np.float64(Z), "stem")
    for stage in (1, 2, 3):
        name = f"stage{stage}_block1"
        activated = activate(x, f"{name}_1")
        skip = x if stage == 1 else matrix(activated, f"{name}_skip_conv")
        x = matrix(activate(matrix(activated, f"{name}_conv1"), f"{name}_2"), f"{name}_conv2")
        x = x + skip
    x = activate(x, "head")
    weights = [array(v) for v in model.heads.weights]
    with forward_mode(batch_norm="batch" if training else "running"):
        natural, classes = model(Z)
    np.testing.assert_allclose(natural, (x @ weights[0] + weights[1])[:, 0], rtol=2e-3, atol=2e-3)
    np.testing.assert_allclose(classes, x @ weights[2] + weights[3], rtol=2e-3, atol=2e-3)


def test_steps_are_those_of_the_programs_kernels():
    """Its 3x3 kernels on a padded pixel learn as the centres alone do; initial spreads agree."""
    wide = WideDiscriminator(6, 4, depth=10, width=1)
    z = keras.Input((6,))
    flatten = keras.layers.Flatten()
    trunk = keras.Model(z, flatten(wide_trunk(keras.layers.Reshape((1, 1, 6))(z), 10, 1)))
    padded = Discriminator(trunk, 4)
    for ours, theirs in zip(wide.trainable_variables, padded.trainable_variables, strict=True):
        centre = np.array(compat.raw(ours))
        if theirs.shape[:2] == (3, 3):
            full = np.random.default_rng(1).normal(size=theirs.shape).astype("float32")
            full[1, 1] = centre[0, 0]
            centre = full
        compat.raw(theirs).assign(centre)

    def learn(model):
        optimizer = keras.optimizers.SGD(0.05, momentum=0.9)
        variables = model.trainable_variables
        for _ in range(3):
            with tf.GradientTape() as tape:
                natural, classes = model(Z, training=True)
                penalty = tf.add_n([tf.nn.l2_loss(compat.raw(v)) for v in variables])
                loss = tf.reduce_mean(natural**2) + tf.reduce_mean(classes**2) + 1e-3 * penalty
            raw = [compat.raw(v) for v in variables]
            optimizer.apply_gradients(zip(tape.gradient(loss, raw), variables, strict=True))
        return model(Z)

    for ours, theirs in zip(learn(wide), learn(padded), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)
    kernels = [v for v in WideDiscriminator(10, 10).trainable_variables if v.shape[-1] == 320]
    spread = max(np.array(compat.raw(v)).std() for v in kernels if v.shape[-2:] == (320, 320))
    assert spread == pytest.approx(np.sqrt(2 / (9 * 320)), rel=0.02)


def test_the_released_size():
    trunk = WideDiscriminator(10, 10).trunk
    assert trunk.output_shape == (None, 320)
    convolutions = [layer for layer in trunk.layers if isinstance(layer, keras.layers.Conv2D)]
    assert len(convolutions) == 1 + 3 * 8 + 3  # stem, twelve blocks of two, three shortcuts


def test_gin_binds_builders():
    gin.parse_config("MLPDiscriminator.hidden = (3,)\nWideDiscriminator.depth = 10")
    gin.parse_config("WideDiscriminator.width = 1")
    assert MLPDiscriminator(4, 2).trunk.output_shape == (None, 3)
    assert WideDiscriminator(inputs=4, num_classes=2).trunk.output_shape == (None, 64)


def images_trunk():
    return keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten()])


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: MLPDiscriminator(0, 3), r"MLPDiscriminator\(inputs=0\): must be 1 or more"),
        (lambda: MLPDiscriminator(3, 3, ()), "one layer or more"),
        (lambda: MLPDiscriminator(3, 3, (0,)), "each of 1 unit or more"),
        (lambda: WideDiscriminator(-1, 3), r"WideDiscriminator\(inputs=-1\)"),
        (lambda: WideDiscriminator(3, 3, depth=11), r"depth=11.*6 \* n \+ 4"),
        (lambda: WideDiscriminator(3, 1, depth=10, width=1), "num_classes=1: must be 2 or more"),
        (lambda: Discriminator(images_trunk(), 3), r"\(None, 4, 4, 1\).*must be \(batch, size\)"),
    ],
)
def test_refuses(build, message):
    with pytest.raises(ValueError, match=message):
        build()
