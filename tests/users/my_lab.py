"""What a user may have: data, a network, a method, an attack, a figure."""

import dataclasses

import keras
import numpy as np
import tensorflow as tf

import robust_tf
from robust_tf import attacks, methods, registration


@registration.configurable
def bright_thirds(count=36):
    """Images with one bright third each."""
    rng = np.random.default_rng(0)
    parts = {}
    for name, n in (("train", count), ("validation", 12), ("test", 18)):
        y = np.arange(n) % 3
        x = 0.4 * rng.random((n, 8, 8, 1))
        for image, label in zip(x, y, strict=True):
            image[3 * label : 3 * label + 2] += 0.5
        parts[name] = (np.round(255 * x).astype(np.uint8), y)
    return parts


@keras.saving.register_keras_serializable("my_lab")
class Scaled(keras.layers.Layer):
    """Images times a number."""

    def __init__(self, factor, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, x):
        return self.factor * x

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


@registration.configurable
def scaled_network(input_shape, num_classes, factor=2.0):
    """A custom layer and one of Keras'."""
    images = keras.Input(input_shape)
    x = keras.layers.Flatten()(Scaled(factor, name="scaled")(images))
    return keras.Model(images, keras.layers.Dense(num_classes, name="logits")(x))


@registration.configurable
class HalfAndHalf(methods.AdversarialTraining):
    """A method under a name of its own."""


@registration.configurable
@registration.serializable
@dataclasses.dataclass(frozen=True)
class Darken(attacks.Attack):
    """All pixels less eps."""

    eps: float
    share: float = 1.0

    def run(self, network, x, y, seed, budget):
        return tf.clip_by_value(x - self.share * tf.cast(budget.eps, x.dtype), 0.0, 1.0)


@robust_tf.figures.kind("mean logits of each class")
def mean_logits(inputs):
    from matplotlib.figure import Figure

    figure, said = Figure(), []
    for name, run in inputs.runs.items():
        mean = np.mean(run.model(inputs.images), 0)
        figure.gca().plot(mean, label=name)
        said.append(f"{name} {len(inputs.labels)} {inputs.eps:g}")
    return figure, "\n".join(said)
