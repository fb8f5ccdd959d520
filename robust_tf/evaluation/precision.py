"""Copies of a Keras model that compute in another precision, with the same weights."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import keras

from robust_tf import compat

_POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}


def copy_in(model: Any, dtype: str) -> keras.Model:
    """A copy of `model` whose layers compute in `dtype`; weights and logits stay float32.

    The last layer with a kernel computes in float32 in any case, as a classifier's logits should.

    Args:
      model: Keras model; of another kind nothing is known of how it computes.
      dtype: 'float32' or 'bfloat16'.

    Raises:
      ValueError: not a Keras model, or one that cannot be built again from its configuration.
    """
    if not isinstance(model, keras.Model):
        raise ValueError(
            f"search_dtype={dtype!r} needs a Keras model, this is {type(model).__name__}; leave it "
            "out to attack the model as it is."
        )
    config = copy.deepcopy(compat.serialize(model))
    layers = list(_layers(config))
    kernels = [layer for layer in layers if "kernel_initializer" in layer]
    for layer in layers:
        layer["dtype"] = "float32" if kernels and layer is kernels[-1] else _POLICIES[dtype]
    try:
        twin = compat.deserialize(config)
        twin.set_weights(model.get_weights())
    except Exception as error:  # Keras raises of every kind
        raise ValueError(
            f"search_dtype={dtype!r}: the model cannot be built again from its configuration "
            f"({str(error).splitlines()[0]}); leave it out to attack the model as it is."
        ) from error
    return twin


def _layers(value: Any) -> Iterator[dict[str, Any]]:
    """The configurations of all layers in a model's, in the order of the model."""
    if isinstance(value, dict):
        config = value.get("config")
        if isinstance(config, dict) and "dtype" in config and "class_name" in value:
            if value["class_name"] not in ("InputLayer", "Functional", "Sequential"):
                yield config
        for part in value.values():
            yield from _layers(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _layers(part)
