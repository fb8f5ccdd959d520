"""Saves and loads a model before it is trained, so that what cannot be read back is said first."""

from __future__ import annotations

import inspect
import os
import tempfile
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from robust_tf import compat
from robust_tf.attacks import Attack
from robust_tf.evaluation.loading import load_model
from robust_tf.methods import RobustModel

_BUILT_IN = ("keras", "tf_keras", "tensorflow", "robust_tf")
# Of the largest logit: a file holds weights to the bit, other graphs may sum in another order.
TOLERANCE = 1e-3
_REGISTER = '@keras.saving.register_keras_serializable("my_lab")'


class ReadBackError(ValueError):
    """A model that would be saved and could not be loaded; the message names layers and the way."""


def check(
    model: RobustModel,
    image_shape: tuple[int, ...],
    attacks: Mapping[str, Attack | None],
    spread: bool = False,
) -> None:
    """Saves and loads what a run will save, each model once, and compares logits.

    Args:
      model: compiled.
      image_shape: of the images of the run.
      attacks: of the run, by what they are for.
      spread: its variables are spread over replicas.

    Raises:
      ReadBackError: names what cannot be read back. Attacks are warned of.
    """
    for name, one in {"model": model.final_network, **model.auxiliary_models()}.items():
        _check_model(name, one, image_shape, spread)
    _check_attacks(attacks)


def _check_model(name: str, model: keras.Model, image_shape: tuple[int, ...], spread: bool) -> None:
    """Saves a model to a temporary file, loads it, and compares both on images of noise."""
    owned = [layer for layer in compat.layers_of(model) if not _built_in(type(layer))]
    strange = [layer for layer in owned if not _registered(type(layer))]
    if strange:
        said = ", ".join(dict.fromkeys(map(_named, strange)))
        raise ReadBackError(
            f"{name}.keras could not be read back: {said} "
            f"{'is' if len(strange) == 1 else 'are'} not registered with Keras; write {_REGISTER} "
            "above the class, and give it get_config with all arguments of __init__."
        )
    scripts = [layer for layer in owned if type(layer).__module__ == "__main__"]
    if scripts:
        warnings.warn(
            f"{', '.join(dict.fromkeys(map(_named, scripts)))} is of a script, which no command "
            "can import: to evaluate, report or export the run by one, put it into a module.",
            stacklevel=3,
        )
    try:
        if spread:  # a forward would take part of all workers
            model = compat.deserialize(compat.serialize(model))
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            path = os.path.join(folder, f"{name}.keras")
            model.save(path)
            loaded: Any = load_model(path)
    except Exception as error:  # zip, JSON, HDF5, Keras and users' classes raise of every kind
        raise ReadBackError(_explained(name, model, error)) from error
    if name == "model":
        _compare(name, model, loaded, owned, image_shape)


def _check_attacks(attacks: Mapping[str, Attack | None]) -> None:
    """Warns of attacks, by what they are for, that `run.json` could not give back.

    Those that no file can hold, such as one with a model in it, are left out there.
    """
    for name, attack in attacks.items():
        try:
            config = compat.serialize(attack)
        except Exception:  # Keras raises of every kind
            continue
        try:
            compat.deserialize(config)
        except Exception:  # as above
            cls = type(attack)
            warnings.warn(
                f"the {name} attack, {cls.__module__}.{cls.__name__}, cannot be read back from the "
                "run: write @robust_tf.registration.serializable above each class in it; else name "
                "attacks when you evaluate.",
                stacklevel=2,
            )


def _compare(
    name: str,
    model: keras.Model,
    loaded: Any,
    owned: Iterable[keras.layers.Layer],
    image_shape: tuple[int, ...],
) -> None:
    """Raises unless both give the same logits."""
    x = np.random.default_rng(0).random((4, *image_shape), np.float32)
    first, again, other = (_logits(one, x) for one in (model, model, loaded))
    if not np.array_equal(first, again):  # a random network
        return
    finite = np.isfinite(first)
    largest = float(np.abs(first[finite]).max()) if finite.any() else 0.0
    same = first.shape == other.shape and np.allclose(
        first, other, 0, TOLERANCE * largest + 1e-6, equal_nan=True
    )
    if same:
        return
    left_out = {_named(layer): gone for layer in owned if (gone := _left_out(layer))}
    suspects = list(left_out) or list(dict.fromkeys(map(_named, owned)))
    what = "; ".join(f"{layer} leaves out {', '.join(gone)}" for layer, gone in left_out.items())
    what = f" ({what})" if what else ""
    raise ReadBackError(
        f"{name}.keras gives other logits when it is read back: look at get_config of "
        f"{', '.join(suspects) or 'its layers'}, which must hold every argument of __init__{what}."
    )


def _logits(model: Any, x: np.ndarray) -> np.ndarray:
    return np.asarray(tf.cast(model(x, training=False), tf.float32))


def _explained(name: str, model: keras.Model, error: Exception) -> str:
    """Which layer is at fault, and what to do."""
    start = f"{name}.keras could not be read back: "
    for layer in compat.layers_of(model):
        inner = compat.layers_of(layer)[1:]
        fault, gone = _fault(layer), [] if _built_in(type(layer)) else _left_out(layer)
        if not (gone or fault and not any(map(_fault, inner))):
            continue
        if isinstance(layer, keras.layers.Lambda):
            return (
                f"{start}{_named(layer)} holds a Python function, which no file gives back; write "
                f"a layer class in its place, with {_REGISTER} above it."
            )
        if _built_in(type(layer)):
            return (
                f"{start}{_named(layer)} has a part that is not registered; write {_REGISTER} "
                "above its function or class."
            )
        why = f"leaves out {', '.join(gone)}" if gone else f"fails: {_line(fault)}"
        why = "is not written" if isinstance(fault, NotImplementedError) else why
        return (
            f"{start}get_config of {_named(layer)} {why}; it must hold every argument of __init__."
        )
    return f"{start}{_line(error.__cause__ or error)}."


def _fault(layer: keras.layers.Layer) -> Exception | None:
    """What is wrong with making a layer again from its configuration alone."""
    try:
        compat.deserialize(compat.serialize(layer))
    except Exception as error:  # Keras and users' classes raise of every kind
        return error
    return None


def _left_out(layer: keras.layers.Layer) -> list[str]:
    """The arguments of a layer's class that its configuration does not hold."""
    try:
        config = layer.get_config()
        parameters = inspect.signature(type(layer).__init__).parameters.values()
    except Exception:  # as above
        return []
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [p.name for p in parameters if p.kind in named and p.name not in ("self", *config)]


def _named(layer: keras.layers.Layer) -> str:
    cls = type(layer)
    where = "keras.layers" if _built_in(cls) else cls.__module__
    return f"the layer {layer.name!r} ({where}.{cls.__name__})"


def _built_in(cls: type) -> bool:
    return cls.__module__.partition(".")[0] in _BUILT_IN


def _registered(cls: type) -> bool:
    """Whether files name it as registered; Keras 2 also finds others, by their module."""
    return keras.saving.get_registered_object(keras.saving.get_registered_name(cls)) is cls


def _line(error: BaseException | None) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
