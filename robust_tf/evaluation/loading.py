"""Reads a model to evaluate or export: a `.keras` file, a SavedModel, or a run folder's model."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

# Keras finds the classes in a file by the names under which these packages register them.
from robust_tf import attacks, files, inference, methods, models  # noqa: F401


class SavedModel:
    """A SavedModel as a callable from images to logits.

    Attributes:
      image_shape: shape of one image as the signature states it, entries may be None.
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

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """Logits (B, C) of images x."""
        return self._function(**{self._input: tf.cast(x, self._dtype)})[self._output]


def load_model(path: str | os.PathLike[str]) -> Callable[..., Any]:
    """The model in a `.keras` file or the folder of a SavedModel, or `package.module:name`.

    The last is a model, or a callable from images to logits, in a module that Python can import; a
    function without arguments is called and gives the model.

    Raises:
      FileError: there is no such file, or it cannot be read.
      ValueError: it is not a model.
    """
    path = os.fspath(path)
    if re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", path) and not files.exists(path):
        return _load_import(path)
    if not files.exists(path):
        raise files.FileError(
            f"there is no model {path}; give a .keras file, the folder of a SavedModel, or "
            "package.module:name."
        )
    if not files.is_folder(path):
        if not path.endswith(".keras"):
            raise ValueError(f"{path}: expected a .keras file or the folder of a SavedModel.")
        try:
            model = keras.models.load_model(path, compile=False)
            if isinstance(model, methods.RobustModel):  # compiled, it may have averaged weights
                return keras.models.load_model(path).final_network
            return model
        except Exception as error:  # zip, JSON, HDF5 and Keras raise of every kind
            raise ValueError(f"{path} cannot be read as a Keras model: {_line(error)}") from error
    if not files.exists(os.path.join(path, "saved_model.pb")):
        run = files.exists(os.path.join(path, "model.keras"))
        hint = "it is a run folder: give it as --run_dir" if run else "it has no saved_model.pb"
        raise ValueError(f"{path} is not a SavedModel; {hint}.")
    try:
        return SavedModel(path)
    except (tf.errors.OpError, OSError) as error:
        raise files.FileError(f"cannot read {path}: {files.reason(error)}.") from error


def load_run(run_dir: str | os.PathLike[str]) -> Callable[..., Any]:
    """The trained model of a run folder.

    Raises:
      FileError: no such folder, or no trained model in it.
      ValueError: the file in it is not a model.
    """
    run_dir = os.fspath(run_dir)
    if not files.is_folder(run_dir):
        raise files.FileError(f"there is no run folder {run_dir}.")
    path = os.path.join(run_dir, "model.keras")
    if not files.exists(path):
        raise files.FileError(
            f"{run_dir} holds no model.keras: it is not a run folder, or its training has not "
            "ended; start the training again with the same --run_dir and it continues."
        )
    return load_model(path)


def load_inference(
    run_dir: str | os.PathLike[str], kind: str = "imt", **arguments: Any
) -> inference.ManifoldTransformation:
    """The trained model of a run of ATLD behind its manifold transformation.

    Args:
      run_dir: holds `model.keras` and `discriminator.keras`.
      kind: 'imt', or 'imt+' with its gate.
      **arguments: of `inference.ManifoldTransformation`: delta, gate, gated_delta, disc_input. The
        last is the run's own by default.

    Raises:
      FileError: as `load_run`; or the run has left no discriminator.
      ValueError: another kind; a gate for 'imt'; as `ManifoldTransformation`.
    """
    if kind not in ("imt", "imt+"):
        raise ValueError(f"kind={kind!r}: must be 'imt' or 'imt+'.")
    if kind == "imt" and arguments.get("gate") is not None:
        raise ValueError("a gate belongs to 'imt+'; 'imt' has none.")
    run_dir = os.fspath(run_dir)
    network = load_run(run_dir)
    path = os.path.join(run_dir, "discriminator.keras")
    if not files.exists(path):
        raise files.FileError(
            f"{run_dir} holds no discriminator.keras: manifold transformation needs the "
            "discriminator of a run of ATLD; give the folder of one."
        )
    if kind == "imt+" and arguments.get("gate") is None:
        arguments["gate"] = inference.GATE
    arguments.setdefault("disc_input", _disc_input(run_dir))
    return inference.ManifoldTransformation(network, load_model(path), **arguments)


def _disc_input(run_dir: str) -> str:
    """What the discriminator of a run takes, 'logits' unless its recipe says otherwise."""
    path = os.path.join(run_dir, "summary.json")
    summary = files.read_json(path) if files.exists(path) else {}
    configuration = summary.get("configuration", "") if isinstance(summary, dict) else ""
    bound = re.findall(r"^ATLD\.disc_input = ['\"](\w+)['\"]", configuration, re.MULTILINE)
    return bound[-1] if bound else "logits"


def _load_import(path: str) -> Callable[..., Any]:
    """The model of an import path."""
    module, _, name = path.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")  # modules beside the user, as for `python -m`
    try:
        found = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise ValueError(f"{path}: {_line(error)}; is it on PYTHONPATH?") from error
    except AttributeError:
        raise ValueError(f"{path}: the module {module} has nothing named {name!r}.") from None
    except Exception as error:  # a module may raise anything
        raise ValueError(f"{path}: {module} fails: {_named(error)}") from error
    if not callable(found):
        raise ValueError(f"{path} is {type(found).__name__}, not a model or a function.")
    if inspect.isfunction(found) and not inspect.signature(found).parameters:
        try:
            found = found()
        except Exception as error:
            raise ValueError(f"{path}() fails: {_named(error)}") from error
        if not callable(found):
            raise ValueError(f"{path}() gives {type(found).__name__}, not a model or a function.")
    return found


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {_line(error)}"


def _line(error: BaseException) -> str:
    """The first line of an error."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
