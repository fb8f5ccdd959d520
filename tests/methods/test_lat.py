"""LAT, two steps written out in float64, cut before and after batch normalisation."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from robust_tf import attacks, compat, methods
from robust_tf.models import SplitClassifier
from tests.methods import reference_step
from tests.methods.reference_step import DECAY, EPSILON, elu, log_softmax
from tests.tiny import SHAPE, labelled, same_bits, tiny_network

BIM = attacks.BIM(0.1, 0.06, 2)
LATENT = attacks.BIM(0.2, 0.08, 3)
X, Y = labelled()
RATE, LATENT_RATE, MOMENTUM = 0.1, 0.05, 0.9


def cut_early():
    """The tiny network cut after its convolution: batch normalisation is the classifier's."""
    layers = tiny_network(batch_norm=True)
    conv = layers.generator.get_layer("conv")
    generator = keras.Sequential([keras.Input(SHAPE), conv])
    rest = [layers.generator.get_layer(name) for name in ("bn", "elu", "flatten")]
    rest += [layers.classifier.get_layer(name) for name in ("hidden", "logits")]
    classifier = keras.Sequential([keras.Input(generator.output_shape[1:]), *rest])
    return SplitClassifier(generator, classifier)


def variables_of(network):
    """By name; and the names of the classifier's."""
    layers = {layer.name: layer for layer in compat.layers_of(network)}
    bn, hidden, logits = (layers[name] for name in ("bn", "hidden", "logits"))
    named = {
        "conv": layers["conv"].kernel,
        "gamma": bn.gamma,
        "beta": bn.beta,
        "hidden": hidden.kernel,
        "hidden_bias": hidden.bias,
        "logits": logits.kernel,
        "logits_bias": logits.bias,
        "mean": bn.moving_mean,
        "variance": bn.moving_variance,
    }
    return {name: compat.raw(variable) for name, variable in named.items()}


class ByHand:
    """Weights in float64, and what a step makes of them."""

    def __init__(self, network, early, latent_mode="running"):
        self.early, self.latent_mode = early, latent_mode
        named = variables_of(network)
        self.w = {name: tf.constant(v.numpy(), tf.float64) for name, v in named.items()}
        upper = ["hidden", "hidden_bias", "logits", "logits_bias"]
        self.upper = ["gamma", "beta", *upper] if early else upper
        self.speed = dict.fromkeys(self.upper, tf.constant(0.0, tf.float64))

    def norm(self, w, h, mode):
        mean, variance = w["mean"], w["variance"]
        if mode != "running":
            values = tf.reshape(h, [-1, h.shape[-1]])
            mean, variance = tf.reduce_mean(values, 0), tf.math.reduce_variance(values, 0)
            count = int(values.shape[0])
            self.seen = {"mean": mean, "variance": variance * count / (count - 1)}
        return w["gamma"] * (h - mean) / tf.sqrt(variance + EPSILON) + w["beta"]

    def features(self, w, x, mode):
        h = tf.nn.conv2d(tf.cast(x, tf.float64), w["conv"], 2, "VALID")
        return h if self.early else tf.reshape(elu(self.norm(w, h, mode)), [len(x), -1])

    def log_p(self, w, z, mode):
        if self.early:
            z = tf.reshape(elu(self.norm(w, z, mode)), [len(z), -1])
        hidden = elu(z @ w["hidden"] + w["hidden_bias"])
        logits = log_softmax(hidden @ w["logits"] + w["logits_bias"])
        return tf.gather(logits, Y, batch_dims=1)

    def image_step(self):
        w, x = self.w, tf.constant(X, tf.float64)

        def running(images):
            return -self.log_p(w, self.features(w, images, "running"), "running")

        low, high = tf.maximum(x - 0.1, 0.0), tf.minimum(x + 0.1, 1.0)
        x_adv = reference_step.ascend(running, x, 0.06, 2, low, high)

        def loss_of(w):
            loss = -tf.reduce_mean(self.log_p(w, self.features(w, x_adv, "training"), "training"))
            seen = self.seen.items()
            return loss, {name: DECAY * w[name] + (1 - DECAY) * v for name, v in seen}

        loss, self.w, _ = reference_step.descend(w, loss_of, RATE)
        return loss

    def latent_step(self):
        w = self.w
        z = self.features(w, X, "batch")
        axes = [0, 1, 2] if self.early else [0]
        low, high = tf.reduce_min(z, axes), tf.reduce_max(z, axes)
        radius, step = 0.2 * (high - low), 0.08 * (high - low)
        near, far = tf.maximum(z - radius, low), tf.minimum(z + radius, high)
        self.z = z
        self.z_adv = reference_step.ascend(
            lambda z: -self.log_p(w, z, self.latent_mode), z, step, 3, near, far
        )
        upper = {name: w[name] for name in self.upper}
        with tf.GradientTape() as tape:
            tape.watch(upper)
            loss = -tf.reduce_mean(self.log_p({**w, **upper}, self.z_adv, "batch"))
        for name, gradient in tape.gradient(loss, upper).items():
            self.speed[name] = MOMENTUM * self.speed[name] - LATENT_RATE * gradient
            self.w[name] = w[name] + self.speed[name]
        return float(loss)


def built(network, latent_attack=LATENT, rate=LATENT_RATE, compiled=(), **kwargs):
    rng = np.random.default_rng(5)
    named = variables_of(network)
    for name, low in (("gamma", 0.5), ("beta", -0.5), ("mean", -0.2), ("variance", 0.2)):
        named[name].assign(rng.uniform(low, low + 0.6, 4).astype("float32"))
    model = methods.LAT(network, BIM, latent_attack, rate, MOMENTUM, **kwargs)
    model.compile(keras.optimizers.SGD(RATE), **dict(compiled))
    return model


@pytest.mark.parametrize("mode", ["running", "batch"])
@pytest.mark.parametrize("early", [True, False], ids=["early", "late"])
def test_two_steps(early, mode):
    network = cut_early() if early else tiny_network(batch_norm=True)
    model = built(network, attacks.BIM(0.2, 0.08, 3, batch_norm=mode))
    hand = ByHand(network, early, mode)
    for _ in range(2):
        image, latent = hand.image_step(), hand.latent_step()
        logs = model.train_on_batch(X, Y, return_dict=True)
        assert set(logs) == {"loss", "adversarial", "robust_accuracy", "latent"}
        assert logs["loss"] == logs["adversarial"] == pytest.approx(image, rel=1e-4)
        assert logs["latent"] == pytest.approx(latent, rel=1e-4)
        for name, value in variables_of(network).items():
            np.testing.assert_allclose(
                value.numpy(), hand.w[name], rtol=1e-4, atol=2e-6, err_msg=name
            )


def attacked(model, seed=0, scale=1.0, x=X, y=Y):
    run = tf.function(lambda x, y, seed, scale: model.attack_features(x, y, seed, scale))
    return run(x, y, tf.constant([seed, 1]), tf.constant(scale)).numpy()


@pytest.mark.parametrize("early", [True, False], ids=["early", "late"])
def test_perturbed_features(early):
    network = cut_early() if early else tiny_network(batch_norm=True)
    model = built(network)
    hand = ByHand(network, early)
    hand.latent_step()
    np.testing.assert_allclose(attacked(model), hand.z_adv, rtol=0, atol=1e-5)
    z = hand.z.numpy()
    axes = (0, 1, 2) if early else (0,)
    low, high = z.min(axes), z.max(axes)
    model = built(network, attacks.PGD(0.2, 0.08, 1))
    draws = [attacked(model, seed) for seed in (0, 0, 1)]
    same_bits(draws[0], draws[1])
    assert np.abs(draws[0] - draws[2]).max() > 0
    for z_adv in draws:
        assert (np.abs(z_adv - z) <= 0.2 * (high - low) + 1e-5).all()
        assert (z_adv >= low - 1e-5).all() and (z_adv <= high + 1e-5).all()
    half = np.abs(attacked(model, scale=0.5) - z)
    assert (half <= 0.1 * (high - low) + 1e-5).all() and half.max() > 0.09 * (high - low).min()


def test_what_does_not_vary_is_not_moved():
    model = built(tiny_network(batch_norm=True), attacks.PGD(0.2, 0.08, 3))
    x = np.repeat(X[:1], 4, 0)
    z = attacked(model, x=x, y=Y[:4])
    np.testing.assert_array_equal(z, np.repeat(z[:1], 4, 0))
    logs = model.train_on_batch(X[:1], Y[:1], return_dict=True)
    assert all(np.isfinite(value) for value in logs.values())


def test_eager_steps_are_those_of_the_graph():
    one, other = built(cut_early()), built(cut_early(), compiled={"run_eagerly": True})
    for model in (one, other):
        model.fit(X, Y, batch_size=len(X), epochs=2, shuffle=False, verbose=0)
    for name, value in variables_of(one.network).items():
        np.testing.assert_allclose(value, variables_of(other.network)[name], rtol=0, atol=1e-5)


def test_momentum_of_the_second_optimiser_is_saved(tmp_path):
    model = built(cut_early())
    model.train_on_batch(X, Y)
    path = str(tmp_path / "model.keras")
    model.save(path)
    again = keras.models.load_model(path)
    kept = [compat.raw(v).numpy() for v in model.latent_optimizer.variables]
    assert sum(np.abs(v).max() > 0 for v in kept) > len(model.auxiliary_optimizers()["latent"][1])
    for old, new in zip(kept, again.latent_optimizer.variables, strict=True):
        same_bits(old, compat.raw(new).numpy())
    assert again.latent_attack == model.latent_attack


def test_bfloat16_network(mixed_bfloat16):
    logs = built(cut_early()).train_on_batch(X, Y, return_dict=True)
    assert all(np.isfinite(value) for value in logs.values())


def test_default_latent_attack_is_the_programs():
    model = methods.LAT(tiny_network(), BIM)
    assert model.latent_attack == attacks.PGD(8 / 255, 1 / 255, 20, batch_norm="batch")
    optimizer, variables = model.auxiliary_optimizers()["latent"]
    assert float(compat.raw(optimizer.learning_rate)) == pytest.approx(2.5e-4)
    assert len(variables) == len(model.network.classifier.trainable_variables)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"attack": None}, "give the training adversary"),
        ({"latent_attack": attacks.PGD(0.0, 0.1, 2)}, r"latent_attack.eps=0.0\): .* > 0; a frac"),
        ({"latent_attack": attacks.Square(0.1, 5)}, "must be a gradient attack, e.g."),
        ({"latent_rate": 0.0}, r"latent_rate=0.0\): .* > 0; 2.5e-4"),
        ({"latent_momentum": 1.0}, r"latent_momentum=1.0\): must be in \[0, 1\)"),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises(ValueError, match=message):
        methods.LAT(tiny_network(), **{"attack": BIM, **arguments})
