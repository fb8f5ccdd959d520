"""Networks and data so small that an attack or a training step takes milliseconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from robust_tf import compat
from robust_tf.models import BatchNormalization, Dropout, SplitClassifier

SHAPE, CLASSES = (8, 8, 1), 3


class Smooth:
    """Images -> tanh units -> logits, in TensorFlow; counts calls, and traces among them."""

    def __init__(self, seed: int = 0):
        rng = np.random.default_rng(seed)
        self.first = rng.normal(0, 0.4, (64, 16)).astype("float32")
        self.second = rng.normal(0, 1.0, (16, CLASSES)).astype("float32")
        self.calls = self.traces = 0

    def __call__(self, x):
        self.calls += 1
        self.traces += not tf.executing_eagerly()
        return tf.tanh(tf.reshape(x - 0.5, [-1, 64]) @ self.first) @ self.second


def images(batch: int = 6, seed: int = 0) -> np.ndarray:
    """Random images that hold exact 0 and 1, one all black, one all white."""
    x = np.random.default_rng(seed).random((batch, *SHAPE)).astype("float32")
    x[:, 0, 0], x[:, 0, 1] = 0, 1
    x[1:2], x[2:3] = 0, 1
    return x


def labelled(batch: int = 12, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images with one bright third each, and which one it is: easily told apart."""
    rng = np.random.default_rng(seed)
    y = np.arange(batch) % CLASSES
    x = 0.4 * rng.random((batch, *SHAPE))
    for image, label in zip(x, y, strict=True):
        image[3 * label : 3 * label + 2] += 0.5
    return x.astype("float32"), y.astype("int32")


def tiny_network(batch_norm: bool = False, dropout: float = 0.0, seed: int = 0) -> SplitClassifier:
    """conv [batch norm] relu flatten | dense relu [dropout] dense."""
    kernel = [keras.initializers.GlorotUniform(seed=seed + k) for k in range(3)]
    generator = keras.Sequential(
        [
            keras.Input(SHAPE),
            keras.layers.Conv2D(
                4, 3, 2, use_bias=not batch_norm, kernel_initializer=kernel[0], name="conv"
            ),
            *([BatchNormalization(name="bn")] if batch_norm else []),
            keras.layers.Activation("elu", name="elu"),
            keras.layers.Flatten(name="flatten"),
        ]
    )
    classifier = keras.Sequential(
        [
            keras.Input(generator.output_shape[1:]),
            keras.layers.Dense(8, activation="elu", kernel_initializer=kernel[1], name="hidden"),
            *([Dropout(dropout, name="dropout")] if dropout else []),
            keras.layers.Dense(
                CLASSES, kernel_initializer=kernel[2], dtype="float32", name="logits"
            ),
        ]
    )
    return SplitClassifier(generator, classifier)


def plain_network(dropout: float = 0.0, seed: int = 0) -> keras.Model:
    """A functional model of Keras' own layers: conv batch norm, a block with a skip, dropout."""
    kernel = [keras.initializers.GlorotUniform(seed=seed + k) for k in range(4)]
    images = keras.Input(SHAPE)
    x = keras.layers.Conv2D(4, 3, 2, kernel_initializer=kernel[0], name="conv")(images)
    x = keras.layers.BatchNormalization(momentum=0.9, name="bn")(x)
    skip = keras.layers.Activation("elu", name="elu")(x)
    x = keras.layers.Conv2D(4, 3, padding="same", kernel_initializer=kernel[1], name="inner")(skip)
    x = keras.layers.Add(name="add")([x, skip])
    x = keras.layers.Flatten(name="flatten")(x)
    x = keras.layers.Dense(8, activation="elu", kernel_initializer=kernel[2], name="hidden")(x)
    if dropout:
        x = keras.layers.Dropout(dropout, name="dropout")(x)
    logits = keras.layers.Dense(CLASSES, kernel_initializer=kernel[3], name="logits")(x)
    return keras.Model(images, logits, name="plain")


def two_replicas() -> tf.distribute.Strategy:
    """Synchronous training on the two devices that `conftest.py` makes.

    Not by collective operations: two strategies of one process would number them alike, and
    TensorFlow then takes the gradients of one model for those of another.
    """
    reduction = tf.distribute.ReductionToOneDevice()
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], cross_device_ops=reduction)


def weights_of(model: Any) -> list[np.ndarray]:
    """Values of all weights of a network, or of a method's networks, trainable or not."""
    parts = [model]
    if hasattr(model, "network"):  # Keras 2 counts a method's metrics as its weights
        averaged = [model.averaged] if model.averaged is not None else []
        parts = [model.network, *averaged, *model.auxiliary_models().values()]
    return [compat.raw(v).numpy() for part in parts for v in part.weights]


def cross_entropies(model: Callable[..., Any], x: Any, y: np.ndarray) -> np.ndarray:
    """Per example, in NumPy."""
    return -log_probabilities(model, x)[np.arange(len(y)), y]


def log_probabilities(model: Callable[..., Any], x: Any) -> np.ndarray:
    """Of all classes, in NumPy."""
    logits = np.asarray(tf.cast(model(x), tf.float32), "float64")
    logits -= logits.max(1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


def same_bits(a: Any, b: Any) -> None:
    np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
