"""Models that hide from gradients, each around a sound one, and two sound ones to begin with."""

import functools

import keras
import numpy as np
import tensorflow as tf

from robust_tf import attacks, data, methods, models
from robust_tf.evaluation.target_model import copy_in

EPS = 0.1


@functools.cache
def digits():
    """Training and test images float32 (N, 28, 28, 1), with labels."""
    loaded = data.load("digits")
    return [
        (split.images.astype(np.float32) / 255, split.labels)
        for split in (loaded.train, loaded.test)
    ]


def sample(count=32):
    """The first test images."""
    _, (x, y) = digits()
    return x[:count], y[:count]


@functools.cache
def standard():
    """A small CNN after a few epochs of the digits."""
    keras.utils.set_random_seed(0)
    network = models.CNN((28, 28, 1), 10, filters=8, hidden=32)
    fit(methods.Standard(network), epochs=8)
    return network


@functools.cache
def robust():
    """The same, trained a little further on adversarial images."""
    network = copy_in(standard(), "float32")
    fit(methods.AdversarialTraining(network, attacks.PGD(EPS, EPS / 2, 2)), epochs=5)
    return network


def fit(method, epochs):
    (x, y), _ = digits()
    method.compile(keras.optimizers.Adam(3e-3))
    method.fit(x, y, batch_size=64, epochs=epochs, verbose=0)


def confident(network):
    """Logits a thousand times as large."""
    return lambda x: 1000 * network(x)


def softmax(network):
    return lambda x: tf.nn.softmax(network(x))


def noisy(network, stddev=0.05):
    return lambda x: network(x + tf.random.normal(tf.shape(x), stddev=stddev))


def dropping(network, rate=0.3):
    """Dropout that was left on."""
    return lambda x: network(tf.nn.dropout(x, rate))


def round_off(x, levels=16):
    return tf.round(x * levels) / levels


def rounding(network, levels=16):
    return lambda x: network(round_off(x, levels))


def batch_norm(network, training):
    """Batch normalisation of the pixels that, with the averages of the data, is the identity."""
    layer = keras.layers.BatchNormalization()
    x, _ = digits()[0]
    mean, variance = np.mean(x)[None], np.var(x)[None]
    layer.build((None, 28, 28, 1))
    layer.set_weights([np.sqrt(variance + layer.epsilon), mean, mean, variance])
    return lambda x: network(layer(x, training=training))


def clipping(network):
    return lambda x: network(tf.clip_by_value(x, 0.1, 0.9))


def in_bytes(network):
    """What a network that was trained on pixels in 0..255 does."""
    return lambda x: network(x / 255)


def rugged(network, height=0.05, frequency=200.0):
    """Ripples on the pixels: gradients of random sign, though nothing is zero or random."""
    return lambda x: network(x + height * tf.sin(frequency * x))
