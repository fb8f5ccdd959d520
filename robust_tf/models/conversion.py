"""Keras' own layers in place: batch normalization with modes, dropout with seeds."""

from __future__ import annotations

import itertools
from typing import Any

import keras

from robust_tf import compat
from robust_tf.models.keras_layers import CONVERTED, KerasBatchNormalization
from robust_tf.models.layers import BatchNormalization

# Of Keras' batch normalization: what 'batch' would have to know of, and its value where it does
# nothing. Some are of one Keras only.
PLAIN = {
    "renorm": False,
    "synchronized": False,
    "virtual_batch_size": None,
    "adjustment": None,
}


def convert(model: Any) -> Any:
    """Gives Keras' normalization and noise layers the modes and seeds of `forward_mode`, in place.

    `keras.layers.BatchNormalization` then follows `batch_norm='running'`, 'batch' and 'training';
    `Dropout`, `SpatialDropout1D` to `3D`, `GaussianDropout`, `GaussianNoise` and `AlphaDropout`
    draw from the seed of the step, each layer its own noise, so that a run which is stopped and
    continued has the same bits. Names, weights, momentum, epsilon, noise shape and outputs stay as
    they are, to the bit; outside of training and attacks nothing changes. Files of the model then
    need this library to load.

    Args:
      model: built Keras model, or a layer.

    Returns:
      The same object.

    Raises:
      ValueError: a layer that cannot follow: a subclass of these layers, with code of its own;
        batch normalization with renorm, synchronized statistics, or over several axes; another
        layer with a random generator.
    """
    layers = _layers_of(model)
    for layer in layers:
        _check(layer)
    for layer in layers:
        if type(layer) in CONVERTED:
            # The same object, so that graphs, other models and optimizers that know it are right.
            layer.__class__ = CONVERTED[type(layer)]
    _tell_apart([layer for layer in layers if hasattr(layer, "salt") or _draws_here(layer)])
    return model


def has_batch_norm(model: keras.layers.Layer) -> bool:
    """Whether examples of a batch see each other in a training forward."""
    kinds = (BatchNormalization, keras.layers.BatchNormalization)
    return any(isinstance(layer, kinds) and layer.trainable for layer in _layers_of(model))


def check_follows(model: Any, batch_norm: str, owner: str = "this attack") -> None:
    """Raises ValueError where a mode would have no effect on Keras' own batch normalization."""
    if batch_norm == "running" or not isinstance(model, keras.layers.Layer):
        return
    for layer in _layers_of(model):
        deaf = isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
        if deaf and not isinstance(layer, KerasBatchNormalization):
            raise ValueError(
                f"batch_norm={batch_norm!r}: {owner} cannot set the mode of the layer "
                f"{layer.name!r}, a {type(layer).__name__} of Keras'; call models.convert(model) "
                "once before, or use batch_norm='running'."
            )


def _layers_of(model: Any) -> list[keras.layers.Layer]:
    """Each layer once, in the order of the model."""
    return list({id(layer): layer for layer in compat.layers_of(model)}.values())


def _draws_here(layer: keras.layers.Layer) -> bool:
    return isinstance(layer, tuple(CONVERTED.values())) and hasattr(layer, "noised")


def _check(layer: keras.layers.Layer) -> None:
    name = f"the layer {layer.name!r}, a {type(layer).__name__},"
    known = type(layer) in CONVERTED or isinstance(layer, tuple(CONVERTED.values()))
    if isinstance(layer, keras.layers.BatchNormalization) and not known:
        if layer.trainable:
            raise ValueError(
                f"{name} has batch normalization of its own, which no mode of an attack reaches; "
                "use keras.layers.BatchNormalization or models.BatchNormalization, or freeze it: "
                "layer.trainable = False."
            )
    elif isinstance(layer, keras.layers.BatchNormalization):
        for option, plain in PLAIN.items():
            if getattr(layer, option, plain) != plain:
                raise ValueError(
                    f"{name} has {option}={getattr(layer, option)!r}, which statistics of the "
                    f"batch alone do not know; build it with {option}={plain!r}."
                )
        if isinstance(layer.axis, (list, tuple)) and len(layer.axis) > 1:
            raise ValueError(f"{name} normalizes over axis={layer.axis}; it must be a single one.")
    elif not known and compat.draws(layer):
        raise ValueError(
            f"{name} draws random numbers that a continued run could not repeat, and that no seed "
            "reaches; take it out of the model (augmentation belongs into the data pipeline), or "
            "use one of Keras' own dropout or noise layers."
        )


def _tell_apart(layers: list[Any]) -> None:
    """Salts that differ, by position: two layers would else draw the same mask."""
    taken: set[int] = set()
    for layer in layers:
        salt = layer.__dict__.get("salt")
        if salt is None or salt in taken:
            free = itertools.count(1)
            salt = next(number for number in free if number not in taken)
            layer.salt = salt
        taken.add(salt)
