"""Discriminators small enough to write their gradients down, and networks to go with them."""

from typing import NamedTuple

import keras
import numpy as np

from robust_tf import inference
from tests import tiny


class Judged(NamedTuple):
    natural: object
    classes: object


@keras.saving.register_keras_serializable(package="tests")
class Discriminator(keras.Model):
    """tanh units, then a logit of naturalness beside one for each class."""

    def __init__(self, width=tiny.CLASSES, hidden=5, activation="tanh", name=None):
        super().__init__(name=name)
        self.width, self.hidden, self.activation = width, hidden, activation
        self.first = keras.layers.Dense(hidden, activation=activation, name="first")
        self.heads = keras.layers.Dense(1 + tiny.CLASSES, name="heads", dtype="float32")
        self.first.build((None, width))
        self.heads.build((None, hidden))
        self.built = True

    def call(self, z, training=False):
        both = self.heads(self.first(z))
        return Judged(both[:, 0], both[:, 1:])

    def get_config(self):
        return {
            "width": self.width,
            "hidden": self.hidden,
            "activation": self.activation,
            "name": self.name,
        }


def defended(batch_norm=False, disc_input="logits", **arguments):
    """`tiny.tiny_network` behind its transformation."""
    network = tiny.tiny_network(batch_norm=batch_norm)
    width = tiny.CLASSES if disc_input == "logits" else network.generator.output_shape[-1]
    return inference.ManifoldTransformation(
        network, Discriminator(width), disc_input=disc_input, **arguments
    )


def linear_network(weights, bias=0.0):
    """Pixels (n, 1, 1) -> logits, a matrix."""
    weights = np.asarray(weights, "float32")
    return keras.Sequential(
        [
            keras.Input((len(weights), 1, 1)),
            keras.layers.Flatten(),
            fixed(weights, np.broadcast_to(np.float32(bias), weights.shape[1:])),
        ]
    )


def fixed(weights, bias):
    return keras.layers.Dense(
        weights.shape[1],
        kernel_initializer=keras.initializers.Constant(weights),
        bias_initializer=keras.initializers.Constant(bias),
    )
