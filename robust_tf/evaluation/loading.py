"""Reads a model: a `.keras` file, a SavedModel, an import path, or a checkpoint of PyTorch."""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

# Keras finds the classes in a file by the names under which these packages register them.
from robust_tf import attacks, files, inference, methods, models, modules  # noqa: F401
from robust_tf.models import torch_network


class SavedModel:
    """A SavedModel as a callable from images to logits.

    Attributes:
      image_shape: shape of one image as the signature states it, entries may be None.
      pictures: 'class_names' and 'resize' of what it was trained on, where a model card of this
        library lies beside it and tells them; so a folder of other pictures has its labels.
    """

    def __init__(self, path: str):
        """Loads `serving_default`.

        Raises:
          ValueError: it has no such signature, not one input, or no output that could be logits.
        """
        # The loaded object owns the variables; its functions alone would not keep them alive.
        self._owner = tf.saved_model.load(path)
        signatures = self._owner.signatures
        if "serving_default" not in signatures:
            raise ValueError(
                f"{path}: there is no signature 'serving_default', only {sorted(signatures)}."
            )
        self._function = signatures["serving_default"]
        inputs, outputs = (
            self._function.structured_input_signature[1],
            self._function.structured_outputs,
        )
        if len(inputs) != 1:
            raise ValueError(f"{path}: expected one input, the images; found {sorted(inputs)}.")
        if "logits" not in outputs and len(outputs) != 1:
            raise ValueError(
                f"{path}: expected an output 'logits', or only one; found {sorted(outputs)}."
            )
        [(self._input, spec)] = inputs.items()
        self._output = "logits" if "logits" in outputs else next(iter(outputs))
        self._dtype = spec.dtype
        self.image_shape = None if spec.shape.rank is None else tuple(spec.shape[1:])
        self.pictures = _pictures(os.path.join(path, "model_card.json"))

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """Logits (B, C) of images x."""
        return self._function(**{self._input: tf.cast(x, self._dtype)})[self._output]


def _pictures(card: str) -> dict[str, Any]:
    """What a model card says of pictures; {} where there is none, or it says nothing of them."""
    if not files.exists(card):
        return {}
    content = files.read_json(card)
    told: dict[str, Any] = {}
    for part in ("model", "input") if isinstance(content, dict) else ():
        said = content.get(part)
        told |= said if isinstance(said, dict) else {}
    return {key: told[key] for key in ("class_names", "resize") if told.get(key)}


def load_model(
    path: str | os.PathLike[str],
    network: str | Callable[..., Any] | None = None,
    *,
    input_range: Any = None,
    entry: str | None = None,
    input_shape: Sequence[int] | None = None,
    num_classes: int | None = None,
) -> Callable[..., Any]:
    """The model in a `.keras` file or the folder of a SavedModel, or `package.module:name`.

    The last is a model, or a callable from images to logits, in a module that Python can import; a
    function without arguments is called and gives the model.

    A checkpoint of PyTorch (`.safetensors`, `.pt`, `.pth`) is read into `network`, and the other
    arguments are for one, too:

    >>> load_model("model_cifar_wrn.pt", "WideResNet(depth=34, width=10)")

    Args:
      path: see above.
      network: text, builder or built network.
      input_range: of `models.from_torch`, the pixels that the weights want.
      entry: of `models.from_torch`, which weights of the file.
      input_shape: of one image; None: as `torch_network.read` is told by the file.
      num_classes: None: likewise.

    Raises:
      FileError: there is no such file, or it cannot be read.
      ImportError: a package that reads the checkpoint is missing.
      ValueError: it is not a model; a checkpoint does not fit the network.
    """
    path = os.fspath(path)
    about = {
        "input_range": input_range,
        "entry": entry,
        "input_shape": input_shape,
        "num_classes": num_classes,
    }
    given = [name for name, value in {"network": network, **about}.items() if value is not None]
    if torch_network.is_checkpoint(path) and not files.is_folder(path):
        if network is None:
            raise ValueError(
                f"{path} is a checkpoint of PyTorch, which holds weights and no network: give "
                "network='WideResNet(depth=34, width=10)' (--network), or make a .keras file of it "
                f"first, bin/convert --checkpoint={path} --network=... --output=model.keras."
            )
        return torch_network.read(path, network, **about).network
    if given:
        raise ValueError(
            f"{given[0]} is for a checkpoint of PyTorch ({', '.join(torch_network.SUFFIXES)}); "
            f"{path} holds a model that needs none."
        )
    if re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", path) and not files.exists(path):
        return _load_import(path)
    if not files.exists(path):
        raise files.FileError(
            f"there is no model {path}; give a .keras file, the folder of a SavedModel, "
            "package.module:name, or a checkpoint of PyTorch."
        )
    if not files.is_folder(path):
        if not path.endswith(".keras"):
            raise ValueError(
                f"{path}: expected a .keras file, the folder of a SavedModel, or a checkpoint of "
                "PyTorch."
            )
        try:
            model = keras.models.load_model(path, compile=False)
            if isinstance(model, methods.RobustModel):  # compiled, it may have averaged weights
                return keras.models.load_model(path).final_network
            return model
        except Exception as error:  # zip, JSON, HDF5 and Keras raise of every kind
            raise ValueError(f"{path} cannot be read as a Keras model: {_line(error)}") from error
    if not files.exists(os.path.join(path, "saved_model.pb")):
        run = files.exists(os.path.join(path, "model.keras"))
        hint = (
            "it is a run folder: give it as --run_dir, or to load_run"
            if run
            else "it has no saved_model.pb"
        )
        raise ValueError(f"{path} is not a SavedModel; {hint}.")
    try:
        return SavedModel(path)
    except (tf.errors.OpError, OSError) as error:
        raise files.FileError(f"cannot read {path}: {files.reason(error)}.") from error


def _load_import(path: str) -> Callable[..., Any]:
    """The model of an import path."""
    module, _, name = path.partition(":")
    modules.load(module, where=f"{path}: ")
    try:
        found = getattr(sys.modules[module], name)
    except AttributeError:
        raise ValueError(f"{path}: the module {module} has nothing named {name!r}.") from None
    if not callable(found):
        raise ValueError(f"{path} is {type(found).__name__}, not a model or a function.")
    if inspect.isfunction(found) and not inspect.signature(found).parameters:
        try:
            found = found()
        except Exception as error:
            raise ValueError(f"{path}() fails: {_named(error).rstrip('.')}.") from error
        if not callable(found):
            raise ValueError(f"{path}() gives {type(found).__name__}, not a model or a function.")
    return found


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {_line(error)}"


def _line(error: BaseException) -> str:
    """The first line of an error."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
