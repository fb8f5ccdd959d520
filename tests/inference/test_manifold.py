"""T(u): against NumPy, its gate and gradients, files, and what is refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from robust_tf import compat, export, inference
from robust_tf.evaluation import loading
from robust_tf.models import forward_mode
from robust_tf.models.discriminator import WideDiscriminator
from tests import tiny
from tests.inference import fakes

EPS = 8 / 255
X = tiny.images(6)


def weights_of(model):
    return [compat.raw(v).numpy() for v in model.weights]


def sigmoid(value):
    return 1 / (1 + np.exp(-value))


def reference_step(model, x):
    """D0, its log's gradient: of linear logits under a layer of tanh units, in float64."""
    weights, bias = (np.asarray(v, "float64") for v in model.network.get_weights())
    first, first_bias, heads, heads_bias = (
        np.asarray(v, "float64") for v in model.discriminator.get_weights()
    )
    hidden = np.tanh((x.reshape(len(x), -1) @ weights + bias) @ first + first_bias)
    d0 = sigmoid(hidden @ heads[:, 0] + heads_bias[0])
    slope = (1 - hidden**2) * heads[:, 0] @ first.T @ weights.T
    return d0, (1 - d0)[:, None] * slope


@pytest.fixture(scope="module")
def linear():
    """A network and discriminator whose D0 is spread over (0, 1)."""
    rng = np.random.default_rng(3)
    network = fakes.linear_network(rng.normal(size=(4, tiny.CLASSES)))
    discriminator = fakes.Discriminator()
    shapes = [w.shape for w in discriminator.get_weights()]
    discriminator.set_weights([0.8 * rng.normal(size=shape) for shape in shapes])
    x = rng.random((64, 4, 1, 1)).astype("float32")
    x[:8, 0], x[:8, 1] = 0, 1
    return network, discriminator, x


def test_is_the_step_of_the_paper(linear):
    network, discriminator, x = linear
    model = inference.ManifoldTransformation(network, discriminator)
    d0, gradient = reference_step(model, x)
    assert np.abs(gradient).min() > 1e-5  # no sign is a matter of rounding
    expected = np.clip(x + EPS * np.sign(gradient).reshape(x.shape), 0, 1)
    np.testing.assert_allclose(model.transform(x), expected, atol=1e-7)
    np.testing.assert_allclose(model.natural_probability(x), d0, atol=1e-5)
    np.testing.assert_allclose(model(x), network(expected), atol=1e-5)
    assert (expected == 0).any() and (expected == 1).any()


@pytest.mark.parametrize("gated_delta", [None, 0.01, 0.0])
def test_the_gate_shortens_the_step_where_the_discriminator_is_unsure(linear, gated_delta):
    network, discriminator, x = linear
    model = inference.ManifoldTransformation(
        network, discriminator, delta=0.1, gate=(0.3, 0.7), gated_delta=gated_delta
    )
    d0, gradient = reference_step(model, x)
    unsure = (d0 > 0.3) & (d0 < 0.7)
    assert 5 < unsure.sum() < 59
    reach = np.where(unsure, 0.05 if gated_delta is None else gated_delta, 0.1)
    expected = np.clip(x + (reach[:, None] * np.sign(gradient)).reshape(x.shape), 0, 1)
    np.testing.assert_allclose(model.transform(x), expected, atol=1e-6)


def test_a_sure_discriminator_moves_images_all_the_same(linear):
    """Where log D0 is 0 to the last bit, and so is its gradient in float32."""
    network, discriminator, x = linear
    sure = fakes.Discriminator()
    first, bias, heads, heads_bias = discriminator.get_weights()
    sure.set_weights([first, bias, heads, heads_bias + 200])
    moved = inference.ManifoldTransformation(network, sure).transform(x)
    tiny.same_bits(moved, inference.ManifoldTransformation(network, discriminator).transform(x))


def test_a_discriminator_without_a_slope_leaves_the_image_as_it_is():
    model = fakes.defended()
    model.discriminator.set_weights([0 * w for w in model.discriminator.get_weights()])
    tiny.same_bits(model.transform(X), X)
    np.testing.assert_allclose(model.natural_probability(X), 0.5)
    gated = fakes.defended(gate=(0.3, 0.7))
    tiny.same_bits(gated.smooth_transform(0 * X[:0], 1.0), X[:0])


def test_features_are_what_the_discriminator_sees():
    model = fakes.defended(disc_input="features")
    z = model.network.features(X)
    np.testing.assert_allclose(
        model.natural_logits(X), model.discriminator(z).natural, rtol=1e-5, atol=1e-6
    )
    assert np.any(model.transform(X) != X)


@pytest.mark.parametrize("disc_input", ["logits", "features"])
def test_no_example_sees_another_and_every_mode_is_that_of_inference(disc_input):
    model = fakes.defended(batch_norm=True, disc_input=disc_input, gate=(0.3, 0.7), delta=0.05)
    whole = model.transform(X).numpy()
    alone = np.concatenate([model.transform(X[k : k + 1]) for k in range(len(X))])
    np.testing.assert_allclose(whole, alone, atol=1e-7)
    before = weights_of(model)
    with forward_mode(batch_norm="batch"):
        tiny.same_bits(model.transform(X), whole)
    tiny.same_bits(model(X, training=True), model(X))
    for old, new in zip(before, weights_of(model), strict=True):
        tiny.same_bits(old, new)
    assert model.transform(X[:0]).shape == (0, *tiny.SHAPE)
    assert model(X[:0]).shape == (0, tiny.CLASSES)


def test_in_a_graph_of_free_batch_size():
    model = fakes.defended(gate=(0.3, 0.7))
    spec = tf.TensorSpec([None, *tiny.SHAPE], tf.float32)
    graph = tf.function(model.transform, input_signature=[spec])
    for size in (6, 1, 0):
        np.testing.assert_allclose(graph(X[:size]), model.transform(X[:size]), atol=1e-7)


def test_bfloat16_networks_move_float32_images(mixed_bfloat16):
    model = fakes.defended(batch_norm=True)
    moved = model.transform(X).numpy()
    assert moved.dtype == np.float32 and model(X).dtype == tf.float32
    inside = (X > EPS) & (X < 1 - EPS)
    steps = np.abs(moved - X)[inside]
    assert np.all((steps < 1e-7) | (np.abs(steps - EPS) < 1e-6))
    assert np.mean(steps > 0) > 0.5


def gradient_of(function, x):
    with tf.GradientTape() as tape:
        x = tf.convert_to_tensor(x)
        tape.watch(x)
        value = function(x)
    return tape.gradient(value, x).numpy()


def test_its_gradient_is_the_networks_at_the_moved_image_where_the_clip_lets_it_through():
    model = fakes.defended(gate=(0.3, 0.7))
    found = gradient_of(lambda u: model(u)[:, 0], X)
    moved = model.transform(X)
    expected = gradient_of(lambda u: model.network(u)[:, 0], moved)
    natural = gradient_of(model.natural_logits, X)
    cut = ((X == 0) & (natural < 0)) | ((X == 1) & (natural > 0))
    free = (X > EPS) & (X < 1 - EPS)
    assert cut.sum() > 5 and free.sum() > 50
    tiny.same_bits(found[cut], 0 * found[cut])
    np.testing.assert_allclose(found[free], expected[free], atol=1e-6)


def in_float64(model, u, tau):
    """The smooth transformation of `reference_step`'s kind of model, before the clip."""
    _, gradient = reference_step(model, u)
    mean = np.abs(gradient).mean(1, keepdims=True)
    return u + model.delta * np.tanh(gradient / (tau * mean)).reshape(u.shape)


@pytest.mark.parametrize("tau", [1.0, 0.1])
def test_the_smooth_surrogate_and_its_double_backward_pass(linear, tau):
    network, discriminator, x = linear
    x = 0.2 + 0.6 * x[:8]  # far from the clip
    model = inference.ManifoldTransformation(network, discriminator, delta=0.1)
    np.testing.assert_allclose(model.smooth_transform(x, tau), in_float64(model, x, tau), atol=1e-5)
    weights = np.random.default_rng(1).normal(size=x.shape)
    found = gradient_of(lambda u: tf.reduce_sum(weights * model.smooth_transform(u, tau)), x)
    expected = np.zeros(x.shape)
    for pixel in range(4):
        step = np.zeros(x.shape)
        step[:, pixel] = 1e-5
        high, low = (in_float64(model, x.astype("float64") + s, tau) for s in (step, -step))
        expected[:, pixel, 0, 0] = (weights * (high - low)).sum((1, 2, 3)) / 2e-5
    assert np.abs(expected - weights).max() > 0.05  # it is not the identity's
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3)


def test_the_surrogate_nears_the_sign():
    model = fakes.defended(batch_norm=True, gate=(0.3, 0.7))
    near, far = (np.abs(model.smooth_transform(X, t) - model.transform(X)) for t in (1e-4, 1.0))
    assert near.mean() < 1e-3 < far.mean()
    assert np.isfinite(gradient_of(lambda u: model.smooth_transform(u, 0.1), X)).all()


@pytest.mark.parametrize("arguments", [{}, {"gate": (0.2, 0.9), "gated_delta": 0.01}])
def test_a_keras_file_has_all_of_it(arguments, tmp_path):
    for disc_input in ("logits", "features"):
        model = fakes.defended(batch_norm=True, delta=0.05, disc_input=disc_input, **arguments)
        path = tmp_path / f"{disc_input}.keras"
        model.save(path)
        again = loading.load_model(path)
        for name in ("gate", "delta", "gated_delta", "disc_input", "name"):
            assert getattr(again, name) == getattr(model, name)
        tiny.same_bits(again(X), model(X))
        tiny.same_bits(again.transform(X), model.transform(X))


def test_a_saved_model_has_the_gradient_in_its_graph(tmp_path):
    model = fakes.defended(batch_norm=True, gate=(0.3, 0.7))
    export.export(model, tmp_path / "exported")
    signatures = tf.saved_model.load(str(tmp_path / "exported")).signatures
    spec = [tf.TensorSpec([None, *tiny.SHAPE], tf.float32)]
    logits, moved = (tf.function(f, spec) for f in (model, model.transform))
    for size in (6, 1, 0):
        x = tf.constant(X[:size])
        tiny.same_bits(signatures["serving_default"](images=x)["logits"], logits(x))
        tiny.same_bits(signatures["transform"](images=x)["images"], moved(x))
    tiny.same_bits(loading.load_model(tmp_path / "exported")(tf.constant(X)), logits(X))


def test_predict_and_evaluate():
    model = fakes.defended()
    x, y = tiny.labelled(12)
    np.testing.assert_allclose(model.predict(x, batch_size=5, verbose=0), model(x), atol=1e-6)
    model.compile(
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"]
    )
    loss, accuracy = model.evaluate(x, y, batch_size=5, verbose=0)
    np.testing.assert_allclose(loss, tiny.cross_entropies(model, x, y).mean(), rtol=1e-4)
    assert accuracy == pytest.approx(np.mean(np.argmax(model(x), 1) == y))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"delta": 0}, r"delta=0: must be > 0, in units of \[0, 1\]"),
        ({"delta": -0.1}, "delta=-0.1"),
        ({"delta": float("nan")}, "delta=nan"),
        ({"gate": (0.7, 0.3)}, r"gate=\(0.7, 0.3\): must be \(low, high\)"),
        ({"gate": (0.3, 1.3)}, "low < high <= 1"),
        ({"gate": 0.3}, "gate=0.3"),
        ({"gate": (0.3, 0.5, 0.7)}, "gate="),
        ({"gated_delta": 0.01}, "without a gate"),
        ({"gate": (0.3, 0.7), "gated_delta": 0.05}, r"must be in \[0, delta="),
        ({"disc_input": "pixels"}, "must be 'logits' or 'features'"),
    ],
)
def test_refuses(arguments, message):
    network, discriminator = tiny.tiny_network(), fakes.Discriminator()
    with pytest.raises(ValueError, match=message):
        inference.ManifoldTransformation(network, discriminator, **arguments)


def test_refuses_parts_that_do_not_fit():
    network = tiny.tiny_network()
    with pytest.raises(ValueError, match="does not take the network's logits: .*disc_input"):
        inference.ManifoldTransformation(network, fakes.Discriminator(width=7))
    with pytest.raises(ValueError, match="does not take the network's features"):
        inference.ManifoldTransformation(network, fakes.Discriminator(), disc_input="features")
    with pytest.raises(ValueError, match="has no `forward`"):
        inference.ManifoldTransformation(
            fakes.linear_network(np.ones((4, 3))),
            fakes.Discriminator(),
            disc_input="features",
        )
    with pytest.raises(TypeError, match="discriminator is NoneType"):
        inference.ManifoldTransformation(network, None)
    for tau in (0, -1.0):
        with pytest.raises(ValueError, match="must be > 0, such as 1"):
            fakes.defended().smooth_transform(X, tau)


@pytest.mark.parametrize("disc_input", ["logits", "features"])
def test_with_the_discriminators_of_the_library(disc_input, tmp_path):
    network = tiny.tiny_network(batch_norm=True)
    inputs = tiny.CLASSES if disc_input == "logits" else network.generator.output_shape[-1]
    discriminator = WideDiscriminator(inputs, tiny.CLASSES, depth=10, width=1)
    model = inference.ManifoldTransformation(
        network, discriminator, gate=(0.3, 0.7), disc_input=disc_input
    )
    moved = model.transform(X)
    assert np.mean(np.abs(moved - X) > 0) > 0.5
    assert model(X[:0]).shape == (0, tiny.CLASSES) and model.transform(X[:1]).shape[0] == 1
    model.save(tmp_path / "model.keras")
    tiny.same_bits(loading.load_model(tmp_path / "model.keras").transform(X), moved)
    with pytest.raises(ValueError, match="does not take the network's"):
        wrong = WideDiscriminator(inputs + 1, tiny.CLASSES, depth=10, width=1)
        inference.ManifoldTransformation(network, wrong, disc_input=disc_input)
