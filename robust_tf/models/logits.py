"""What a classifier ends in: logits, or something that has to be taken off to get at them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from robust_tf import compat, registration
from robust_tf.models.graph import endpoints

# Layers behind which a softmax is still one.
RESHAPING = (
    keras.layers.Reshape,
    keras.layers.Flatten,
    keras.layers.Permute,
    keras.layers.Dropout,
)


@registration.serializable
class WithoutActivation(keras.layers.Layer):
    """A layer as if it had no activation; its weights are the layer's own.

    Args:
      layer: built Keras layer with an attribute `activation`, such as Dense.
    """

    def __init__(self, layer: keras.layers.Layer, **kwargs: Any):
        kwargs.setdefault("dtype", getattr(layer, "dtype_policy", None) or layer.dtype)
        super().__init__(**kwargs)
        self.layer = layer

    def build(self, input_shape: Any) -> None:
        """Builds the layer, where a file is read."""
        if not self.layer.built:
            self.layer.build(input_shape)
        self.built = True

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """What the layer gives before its activation."""
        with self._linear():
            return self.layer(inputs)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        with self._linear():  # a file need not know what the activation was
            return {**super().get_config(), "layer": compat.serialize(self.layer)}

    @contextlib.contextmanager
    def _linear(self) -> Iterator[None]:
        activation = self.layer.activation
        self.layer.activation = keras.activations.linear
        try:
            yield
        finally:
            self.layer.activation = activation

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> WithoutActivation:
        """Inverse of `get_config`."""
        return cls(**{**config, "layer": compat.deserialize(config["layer"])})


@registration.serializable
class TwoLogits(keras.layers.Layer):
    """[0, z] of one logit z (B, 1), so that softmax gives 1 - sigmoid(z) and sigmoid(z)."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Logits (B, 2)."""
        return tf.concat([tf.zeros_like(inputs), inputs], axis=-1)


class Taken(NamedTuple):
    """A symbolic output, what was taken off it ('softmax', 'sigmoid' or nothing), and from what."""

    logits: Any
    activation: str | None
    layer: str = ""


def take_off(outputs: Any) -> Taken:
    """The logits below a softmax, or two logits for one unit with a sigmoid.

    Args:
      outputs: symbolic, (B, C), or (B, 1) of one unit.

    Returns:
      The same outputs where they have neither.

    Raises:
      ValueError: several units with a sigmoid; one unit that has none.
    """
    below, activation, layer = _below(outputs)
    classes = outputs.shape[-1]
    if activation == "sigmoid":
        if classes != 1:
            raise ValueError(
                f"the model ends in {classes} sigmoid units (layer {layer!r}), which says of each "
                "class for itself whether it is there; classifiers here choose one class, by "
                "logits without the sigmoid."
            )
        return Taken(TwoLogits(name="two_logits", dtype="float32")(below), activation, layer)
    if classes == 1:
        raise ValueError(
            "the model gives one number for each image and no sigmoid is seen at its end: give it "
            "a logit for each class, two or more, or end it in Dense(1, activation='sigmoid')."
        )
    return Taken(below, activation, layer)


def ends_in(outputs: Any) -> str | None:
    """'softmax' or 'sigmoid', where a symbolic output is one, if need be reshaped; else None."""
    while True:
        layer, inputs, _ = compat.producer_of(outputs)
        activation = activation_of(layer)
        if activation in ("softmax", "sigmoid"):
            return activation
        if compat.is_graph(layer):
            outputs = tf.nest.flatten(layer.outputs)[0]
        elif isinstance(layer, RESHAPING) or activation == "linear":
            outputs = inputs[0]
        else:
            return None


def activation_of(layer: Any) -> str | None:
    """Name of the activation function that a layer or operator is or has at its end."""
    if isinstance(layer, WithoutActivation):
        return None
    function = getattr(layer, "activation", None) or getattr(layer, "function", None)
    name = type(layer).__name__ if function is None else getattr(function, "__name__", "")
    return str(name).lower().removesuffix("_v2")


def looks_like_probabilities(values: np.ndarray) -> bool:
    """Whether outputs (B, C) are what a softmax gives: C >= 2, none negative, rows of sum 1."""
    values = np.asarray(values, np.float32)
    return bool(
        len(values)
        and values.shape[1] > 1
        and (values >= 0).all()
        and np.allclose(values.sum(1), 1, atol=1e-2)
    )


def _below(outputs: Any) -> tuple[Any, str | None, str]:
    """The symbolic tensor below the last activation, its name, and the layer's."""
    layer, inputs, _ = compat.producer_of(outputs)
    activation = activation_of(layer)
    if compat.is_graph(layer) and len(inputs) == 1:
        images, end = endpoints(layer)
        if tf.nest.is_nested(end):
            return outputs, None, ""
        below, activation, name = _below(end)
        if activation is None:
            return outputs, None, ""
        return keras.Model(images, below, name=layer.name)(inputs[0]), activation, name
    if activation not in ("softmax", "sigmoid"):
        return outputs, None, ""
    if getattr(layer, "weights", None):
        return (
            WithoutActivation(layer, name=f"{layer.name}_logits")(inputs[0]),
            activation,
            layer.name,
        )
    return inputs[0], activation, layer.name
