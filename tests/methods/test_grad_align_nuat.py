"""GradAlign and NuAT: what their terms and images are, on models where it can be written out."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from robust_tf import attacks, compat, methods
from robust_tf.attacks.randomness import fold
from robust_tf.methods import AdversarialBatch
from robust_tf.models import BatchNormalization, Outputs, SplitClassifier
from tests.tiny import SHAPE, labelled, tiny_network

EPS = 0.1
X, Y = labelled()


def two_classes(hidden=0):
    """flatten | dense [softplus dense], two classes, weights of a seed."""
    keras.utils.set_random_seed(0)
    generator = keras.Sequential([keras.Input(SHAPE), keras.layers.Flatten()])
    layers = [keras.layers.Dense(hidden, activation="softplus")] if hidden else []
    return SplitClassifier(
        generator, keras.Sequential([keras.Input((64,)), *layers, keras.layers.Dense(2)])
    )


def grad_align(network, weight=1.0, **attack):
    model = methods.GradAlign(network, attacks.FGSM(EPS, **attack), weight)
    model.compile(keras.optimizers.SGD(0.1))
    return model


def alignment(model, x, y):
    """The term's mean, as the step has it, at the noise of a seed that stays."""
    x, y, seed = tf.constant(x), tf.constant(y), tf.constant([1, 2])
    made = model.generate_adversarial(x, y, seed, tf.constant(1.0))
    batch = model.forward(x, y, made, seed)
    return batch, lambda: tf.reduce_mean(model.terms(batch)["alignment"]())


def test_a_linear_model_is_aligned():
    """With two classes the gradient has one direction everywhere, at every length."""
    model = grad_align(two_classes())
    _, value = alignment(model, X, Y % 2)
    assert abs(float(value())) < 1e-6


def test_images_are_those_of_fgsm():
    model = grad_align(tiny_network())
    x, y = tf.constant(X), tf.constant(Y)
    made = model.generate_adversarial(x, y, tf.constant([1, 2]), tf.constant(1.0))
    expected = attacks.FGSM(EPS)(model.network, x, y)
    np.testing.assert_array_equal(made.x_adv, expected)


def softplus_alignment(weights, x, y, noise):
    """1 - mean cos of the gradients at x, fixed at `weights[0]`, and at x + noise, in float64."""

    def gradient(w, x):
        kernel, bias, out = w[0], w[1], w[2]
        before = x @ kernel + bias
        logits = np.log1p(np.exp(before)) @ out + w[3]
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        p[np.arange(len(y)), y] -= 1
        return ((p @ out.T) / (1 + np.exp(-before))) @ kernel.T

    fixed, moving = weights
    one, other = gradient(fixed, x), gradient(moving, x + noise)
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return 1 - np.mean((one * other).sum(1) / lengths)


def test_gradient_of_the_alignment():
    """Against finite differences in float64, through the gradient at x + n alone."""
    model = grad_align(two_classes(hidden=5))
    x, y = X[:4], (Y % 2)[:4]
    trained = [compat.raw(v) for v in model.network.trainable_variables]
    with tf.GradientTape() as tape:
        batch, value = alignment(model, x, y)
        total = value()
    got = tape.gradient(total, trained)
    threat = model.attack.threat
    noise = EPS * threat.random(batch.x, fold(batch.seed, 2)).numpy().reshape(4, 64)
    weights = [v.numpy().astype("float64") for v in trained]
    flat = x.reshape(4, 64).astype("float64")
    assert float(total) == pytest.approx(
        softplus_alignment((weights, weights), flat, y, noise), abs=1e-5
    )
    rng, size = np.random.default_rng(0), 1e-5
    for number in (0, 1, 2):  # the last bias moves nothing but lengths and the softmax
        for _ in range(3):
            place = tuple(rng.integers(0, n) for n in weights[number].shape)
            values = []
            for sign in (1, -1):
                moved = [w.copy() for w in weights]
                moved[number][place] += sign * size
                values.append(softplus_alignment((weights, moved), flat, y, noise))
            expected = (values[0] - values[1]) / (2 * size)
            assert got[number].numpy()[place] == pytest.approx(expected, abs=2e-4, rel=2e-3)


def test_rows_without_a_gradient_are_dropped():
    """The mean is over the others; where there are none the term is 0, and so is its gradient."""
    network = tiny_network()
    model = grad_align(network)
    _, whole = alignment(model, X[:3], Y[:3])
    assert 0 < float(whole()) < 2
    last = network.classifier.layers[-1]
    last.kernel.assign(tf.zeros_like(compat.raw(last.kernel)))
    with tf.GradientTape() as tape:
        total = alignment(model, X, Y)[1]()
    gradients = tape.gradient(total, [compat.raw(v) for v in network.trainable_variables])
    assert float(total) == 0
    assert all(g is None or not np.any(tf.convert_to_tensor(g)) for g in gradients)
    model.train_on_batch(X, Y)  # all finite
    assert all(np.isfinite(np.asarray(v)).all() for v in network.trainable_variables)


def test_one_row_of_two_without_a_gradient():
    """Its own cosine is left out, the other's is not halved."""
    model = grad_align(tiny_network())
    x, y = tf.constant(X[:2]), tf.constant(Y[:2])
    seed = tf.constant([1, 2])
    made = model.generate_adversarial(x, y, seed, tf.constant(1.0))
    full = model.terms(model.forward(x, y, made, seed))["alignment"]().numpy()
    dead = made._replace(gradient=made.gradient * tf.reshape([1.0, 0.0], [2, 1, 1, 1]))
    values = model.terms(model.forward(x, y, dead, seed))["alignment"]().numpy()
    np.testing.assert_allclose(values, [2 * full[0], 0], rtol=1e-5)


def test_grad_align_shows_batch_normalization_three_batches():
    """x, x' and x + n in mode 'training': three steps of the moving average."""
    network = tiny_network(batch_norm=True)
    model = grad_align(network, batch_norm="training")
    (layer,) = (one for one in network.generator.layers if isinstance(one, BatchNormalization))
    layer.moving_mean.assign(tf.fill(tf.shape(compat.raw(layer.moving_mean)), 1e4))
    model.optimizer.learning_rate = 0.0
    model.train_on_batch(X, Y)
    np.testing.assert_allclose(layer.moving_mean, 1e4 * layer.decay**3, rtol=1e-3)


@pytest.mark.parametrize("attack", [attacks.FGSM(0.1, True), attacks.FGSMRS(0.1)], ids=repr)
def test_grad_align_takes_fgsm(attack):
    with pytest.raises(ValueError, match=r"GradAlign\(attack=.*without a random start"):
        methods.GradAlign(tiny_network(), attack)


# ---- NuAT ----------------------------------------------------------------------------------------


def nuat(network=None, weight=2.0, warmup=0, **attack):
    model = methods.NuAT(network or tiny_network(), attacks.NuclearAttack(EPS, **attack), weight)
    model.compile(keras.optimizers.SGD(0.0), term_warmup_steps=warmup)
    return model


def test_loss_of_nuat():
    """CE of the clean images, and the nuclear norm over the number of images."""
    model = nuat()
    logits = np.random.default_rng(0).normal(size=(2, 12, 3)).astype("float32")
    clean, adv = (Outputs(tf.constant(one), None) for one in logits)
    batch = methods.Batch(X, Y, AdversarialBatch(X), clean, adv, None)
    terms = {name: term().numpy().mean() for name, term in model.terms(batch).items()}
    p = np.exp(logits[0]) / np.exp(logits[0]).sum(1, keepdims=True)
    assert terms["clean"] == pytest.approx(-np.log(p[np.arange(12), Y]).mean(), rel=1e-5)
    norm = np.linalg.svd(logits[0] - logits[1], compute_uv=False).sum()
    assert terms["nuclear"] == pytest.approx(norm / 12, rel=1e-5)
    assert model.term_weights == {"clean": 1, "nuclear": 2} and model.attack_steps == 1


def ascended(network, start, y, weight, clean):
    """One signed step of eps on CE + weight * nuclear norm, in plain TensorFlow."""
    x = tf.constant(start)
    with tf.GradientTape() as tape:
        tape.watch(x)
        logits = network(x, training=False)
        loss = tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits))
        loss += weight * tf.reduce_sum(tf.linalg.svd(logits - clean, compute_uv=False))
    return start + EPS * np.sign(tape.gradient(loss, x).numpy())


@pytest.mark.parametrize("steps", [1, 2])
def test_images_of_nuat(steps):
    """Cross-entropy alone, then with the norm, batch by batch; with two steps first with it, then
    without. The weight is the one of this batch."""
    network = tiny_network()
    model = nuat(network, warmup=10, steps=steps)
    clean = network(X, training=False)
    seed, low, high = tf.constant([3, 4]), np.clip(X - EPS, 0, 1), np.clip(X + EPS, 0, 1)
    bounds = model.attack.threat.bounds(tf.constant(X))
    made = {}
    for batch in (0, 1, 2):
        model.counters.batches.assign(batch)
        made[batch] = model.generate_adversarial(X, Y, seed, tf.constant(1.0)).numpy()
        start = model.attack.start(model.attack.threat, bounds, fold(seed, 0)).numpy()
        weight = 2.0 * (batch + 1) / 10 if steps == 2 or batch % 2 else 0.0
        expected = np.clip(ascended(network, start, Y, weight, clean), low, high)
        if steps == 2:
            expected = np.clip(ascended(network, expected, Y, 0.0, clean), low, high)
        assert np.mean(np.abs(made[batch] - expected) > 1e-6) < 0.01  # a sign next to 0
    if steps == 1:
        assert (made[0] != made[1]).any() and (made[0] == made[2]).all()


def test_start_of_nuat():
    """+- eps / 2 for each pixel, boxed."""
    attack = attacks.NuclearAttack(EPS)
    gray = tf.fill((2, 32, 32, 1), 0.5)
    moved = attack.start(attack.threat, attack.threat.bounds(gray), tf.constant([1, 2])) - gray
    np.testing.assert_allclose(np.abs(moved), EPS / 2, rtol=1e-5)
    assert abs(np.mean(moved > 0) - 0.5) < 0.05
    black = tf.zeros((2, 32, 32, 1))
    boxed = attack.start(attack.threat, attack.threat.bounds(black), tf.constant([1, 2]))
    assert set(np.unique(boxed)) == {np.float32(0), np.float32(EPS / 2)}


def test_statistics_of_nuat():
    """x' is made by running averages, which clean and adversarial images move once each."""
    network = tiny_network(batch_norm=True)
    model = nuat(network)
    (layer,) = (one for one in network.generator.layers if isinstance(one, BatchNormalization))
    layer.moving_mean.assign(tf.fill(tf.shape(compat.raw(layer.moving_mean)), 1e4))
    model.counters.batches.assign(1)
    model.train_on_batch(X, Y)
    np.testing.assert_allclose(layer.moving_mean, 1e4 * layer.decay**2, rtol=1e-3)


def test_the_attack_alone_raises_what_it_says():
    """`NuclearAttack` as a validation has it: CE and the norm at its own weight."""
    network, attack = tiny_network(), attacks.NuclearAttack(EPS, weight=3.0)
    clean = network(X, training=False)

    def value(x):
        logits = network(x, training=False)
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(Y, logits)
        norm = np.linalg.svd(logits - clean, compute_uv=False).sum()
        return float(tf.reduce_sum(loss)) + 3.0 * norm

    assert value(attack(network, X, Y)) > value(X) + 0.1
    with pytest.raises(ValueError, match=r"NuAT\(attack=.*must be NuclearAttack"):
        methods.NuAT(network, attacks.FGSM(0.1))
