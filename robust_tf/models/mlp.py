"""Fully connected networks for points, such as the two-dimensional toys of the ADR paper."""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras

from robust_tf import registration
from robust_tf.models.layers import logits_layer, torch_bias, torch_uniform
from robust_tf.models.split import SplitClassifier, split_chain
from robust_tf.validation import plain


@registration.configurable
def MLP(
    input_shape: Sequence[int] = (2,),
    num_classes: int = 3,
    hidden: Sequence[int] = (2,),
) -> SplitClassifier:
    """Dense ReLU layers | dense. z is the activation of the last hidden layer.

    Args:
      input_shape: of one example; more than one dimension is flattened.
      num_classes: number of logits, >= 2.
      hidden: units of the hidden layers; (2,) is the 2-2-3 toy, (10, 10, 10) the larger one.

    Raises:
      ValueError: no hidden layer, or one without units.

    Source: Bui et al. (2020), toy example; PyTorch's initialisers, U(+-1/sqrt(fan_in)), biases
    included.
    """
    if len(hidden) < 1 or min(hidden) < 1:
        raise ValueError(f"MLP(hidden={tuple(hidden)}): one layer or more, each of 1 unit or more.")
    hidden = tuple(map(plain, hidden))
    fan_ins = (math.prod(input_shape), *hidden)
    layers: list[keras.layers.Layer] = [
        keras.layers.Dense(
            units,
            activation="relu",
            kernel_initializer=torch_uniform(),
            bias_initializer=torch_bias(fan_in),
            name=f"fc{index}",
        )
        for index, (fan_in, units) in enumerate(zip(fan_ins, hidden, strict=False), start=1)
    ]
    if len(input_shape) > 1:
        layers.insert(0, keras.layers.Flatten(name="flatten"))
    layers.append(logits_layer(num_classes, torch_uniform(), torch_bias(hidden[-1])))
    return split_chain(layers, len(layers) - 1, tuple(input_shape), "mlp")
