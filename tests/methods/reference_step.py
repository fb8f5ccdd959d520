"""`tiny_network(batch_norm=True)` and its training step, written out in float64."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from robust_tf import compat
from robust_tf.attacks.randomness import fold
from tests.tiny import tiny_network

DECAY, EPSILON = 0.9, 1e-3
TRAINED = ("conv", "gamma", "beta", "hidden", "hidden_bias", "logits", "logits_bias")


def unlike_new(network, seed=5):
    """Gives batch normalisation scales, offsets and averages other than those of a new layer."""
    rng = np.random.default_rng(seed)
    layer = network.generator.get_layer("bn")
    for variable, low in ((layer.gamma, 0.5), (layer.beta, -0.5), (layer.moving_mean, -0.2)):
        compat.raw(variable).assign(rng.uniform(low, low + 1, 4).astype("float32"))
    compat.raw(layer.moving_variance).assign(rng.uniform(0.2, 0.6, 4).astype("float32"))


def built(method, *args, rate=0.1, batch_norm=True, optimizer=None, **kwargs):
    """A method on the tiny network, compiled."""
    network = tiny_network(batch_norm)
    if batch_norm:
        unlike_new(network)
    model = method(network, *args, **kwargs)
    model.compile(optimizer or keras.optimizers.SGD(rate), seed=3)
    return model


def weights(network):
    """All weights by name, float64."""
    bn = network.generator.get_layer("bn")
    hidden, logits = (network.classifier.get_layer(name) for name in ("hidden", "logits"))
    named = {
        "conv": network.generator.get_layer("conv").kernel,
        "gamma": bn.gamma,
        "beta": bn.beta,
        "hidden": hidden.kernel,
        "hidden_bias": hidden.bias,
        "logits": logits.kernel,
        "logits_bias": logits.bias,
        "mean": bn.moving_mean,
        "variance": bn.moving_variance,
    }
    return {name: tf.constant(compat.raw(v).numpy(), tf.float64) for name, v in named.items()}


def elu(x):
    return tf.where(x > 0, x, tf.exp(tf.minimum(x, 0.0)) - 1)


def forward(w, x, training):
    """Logits, features, and the moving averages after this forward."""
    x = tf.nn.conv2d(tf.cast(x, tf.float64), w["conv"], 2, "VALID")
    mean, variance = w["mean"], w["variance"]
    after = {"mean": mean, "variance": variance}
    if training:
        values = tf.reshape(x, [-1, x.shape[-1]])
        count = int(values.shape[0])
        mean = tf.reduce_mean(values, 0)
        variance = tf.reduce_mean((values - mean) ** 2, 0)
        unbiased = variance * count / (count - 1)
        after = {
            "mean": DECAY * after["mean"] + (1 - DECAY) * mean,
            "variance": DECAY * after["variance"] + (1 - DECAY) * unbiased,
        }
    x = w["gamma"] * (x - mean) / tf.sqrt(variance + EPSILON) + w["beta"]
    z = tf.reshape(elu(x), [len(x), -1])
    hidden = elu(z @ w["hidden"] + w["hidden_bias"])
    return hidden @ w["logits"] + w["logits_bias"], z, after


def log_softmax(logits):
    logits = logits - tf.reduce_max(logits, 1, keepdims=True)
    return logits - tf.math.log(tf.reduce_sum(tf.exp(logits), 1, keepdims=True))


def adversary_seed(model, replica=0):
    """Of the adversary in the next step."""
    step = tf.constant(
        [model.settings.seed, int(tf.convert_to_tensor(model.optimizer.iterations))], tf.int32
    )
    return fold(fold(step, replica), 0)


def generated(model, x, y):
    """What the next step trains on."""
    seed = adversary_seed(model)
    run = tf.function(lambda x, y: model.generate_adversarial(x, y, seed, tf.constant(1.0)))
    return run(tf.constant(x), tf.constant(y))


def ascend(loss_of, x, size, steps, low, high):
    """Signed steps up the loss, within [low, high]."""
    moved = tf.cast(x, tf.float64)
    for _ in range(steps):
        with tf.GradientTape() as tape:
            tape.watch(moved)
            loss = tf.reduce_sum(loss_of(moved))
        moved = moved + size * tf.sign(tape.gradient(loss, moved))
        moved = tf.clip_by_value(moved, low, high)
    return moved


def descend(w, loss_of, rate):
    """A step of plain SGD; `loss_of` gives of weights the loss and the averages after it.

    Returns:
      The loss, all weights after the step, and the gradients.
    """
    trained = {name: w[name] for name in TRAINED}
    with tf.GradientTape() as tape:
        tape.watch(trained)
        loss, averages = loss_of({**w, **trained})
    gradients = tape.gradient(loss, trained)
    moved = {name: trained[name] - rate * gradients[name] for name in TRAINED}
    return float(loss), {**moved, **averages}, gradients


def after_step(w, x, targets, rate):
    """`descend` on -sum_k t_k log p_k in training mode."""

    def loss_of(w):
        logits, _, averages = forward(w, x, training=True)
        return -tf.reduce_mean(tf.reduce_sum(targets * log_softmax(logits), 1)), averages

    return descend(w, loss_of, rate)


def after_two_forwards(w, x, x_adv, terms_of, weights, rate):
    """`descend` on the weighted means of terms of the clean and the adversarial outputs.

    The clean forward is the first to move the averages.

    Args:
      terms_of: of the outputs of `forward` for x and for x_adv: by name, (B,) or one value.

    Returns:
      The mean of each term and the loss; and all weights after the step.
    """
    means = {}

    def loss_of(w):
        clean = forward(w, x, training=True)
        adv = forward({**w, **clean[2]}, x_adv, training=True)
        means.update({name: tf.reduce_mean(v) for name, v in terms_of(clean, adv).items()})
        return sum(weights[name] * means[name] for name in weights), adv[2]

    loss, after, _ = descend(w, loss_of, rate)
    return {**means, "loss": loss}, after


def check_step(model, x, y, x_adv, terms_of, by_name, rate):
    """A step of the model is `after_two_forwards`: its logs, and all weights after it.

    The optimiser is plain SGD, so the weights tell the gradient.
    """
    before = weights(model.network)
    terms, after = after_two_forwards(before, x, x_adv, terms_of, by_name, rate)
    logs = model.train_on_batch(x, y, return_dict=True)
    assert set(logs) == {"loss", *by_name, "natural_accuracy", "robust_accuracy"}
    for name in ("loss", *by_name):
        assert logs[name] == pytest.approx(float(terms[name]), rel=1e-4), name
    for name, value in weights(model.network).items():
        np.testing.assert_allclose(value, after[name], rtol=1e-4, atol=1e-6, err_msg=name)
