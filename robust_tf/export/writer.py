"""Writes the folder of an export: the files, the proof that they work, and the model card."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from robust_tf.export import card, conversion, rest
from robust_tf.export.folder import check_free, replacing
from robust_tf.export.measured import CalibrationData, measure
from robust_tf.export.signatures import Exportable, Signatures, network_of
from robust_tf.export.smoke import smoke_test
from robust_tf.inference import ManifoldTransformation


def export(
    network: Any,
    export_dir: str | os.PathLike[str],
    overwrite: bool = False,
    *,
    formats: Sequence[str] = ("saved_model",),
    detector: ManifoldTransformation | None = None,
    trial: CalibrationData | None = None,
    about: dict[str, Any] | None = None,
    smoke: bool = False,
) -> dict[str, Any]:
    """Writes a model for those who do not have this library, with a model card.

    The SavedModel's signatures are those of `served.MEANING`; TensorFlow alone runs them, gradients
    and attack included. It lies in the folder itself, as TensorFlow Serving wants it, the other
    formats beside it. The folder appears whole or not at all.

    Args:
      network: `SplitClassifier`; a `RobustModel`, whose network is taken (that of averaged weights,
        if there is one); or a `ManifoldTransformation`, whose prediction is the defended one.
      export_dir: a folder that does not exist or is empty.
      overwrite: replace an export that is there.
      formats: some of `FORMATS`.
      detector: the same network behind its discriminator, for the signature `detect`.
      trial: what the files are measured on; 'tflite_int8' needs it.
      about: what the model card says of the training, see `provenance.of_run`.
      smoke: load the files in a new process and compare, before the folder appears.

    Returns:
      The model card, JSON-ready.

    Raises:
      TypeError: another kind of model.
      ValueError: the folder is in use, a format is unknown or does not go with the model.
      FileError: it cannot be written.
      SmokeTestError: the files do not give what the model gives.
    """
    model = network_of(network)
    wanted = conversion.check(formats, isinstance(model, ManifoldTransformation))
    if "tflite_int8" in wanted and trial is None:
        raise ValueError(
            "tflite_int8 needs training images: give trial=CalibrationData(train, test)."
        )
    path = os.fspath(export_dir).rstrip("/")
    check_free(path, overwrite)
    served = Signatures(model, detector)
    with replacing(path) as folder:
        tf.io.gfile.makedirs(folder)
        _write_models(folder, wanted, model, served, trial)
        tested = smoke_test(folder, wanted, model, detector) if smoke else None
        accuracies = {} if trial is None else _measured(folder, wanted, served, trial)
        entries = [
            {
                "format": name,
                "file": conversion.FILES[name] or ".",
                "bytes": conversion.size(folder, name),
                **accuracies.get(name, {}),
            }
            for name in wanted
        ]
        content = card.content(served, model, entries, trial, about or {}, tested)
        card.write(folder, os.path.basename(path), content)
        if "saved_model" in wanted:
            rest.write_examples(os.path.join(folder, "rest"), served)
    return content


def _write_models(
    folder: str,
    wanted: Sequence[str],
    model: Exportable,
    served: Signatures,
    trial: CalibrationData | None,
) -> None:
    if "saved_model" in wanted:
        tf.saved_model.save(served, folder, signatures=served.functions)
    if "keras" in wanted:
        conversion.save_keras(model, os.path.join(folder, conversion.FILES["keras"]))
    if set(wanted) & set(conversion.CONVERTED):
        module = conversion.Float32(model)
        makers: dict[str, Callable[[], bytes]] = {
            "tflite_float16": lambda: conversion.tflite(module),
            "tflite_int8": lambda: conversion.tflite(module, trial.ranges if trial else None),
            "onnx": lambda: conversion.onnx(module),
        }
        for name in wanted:
            if name in makers:
                conversion.write(os.path.join(folder, conversion.FILES[name]), makers[name]())


def _measured(
    folder: str, wanted: Sequence[str], served: Signatures, trial: CalibrationData
) -> dict[str, dict[str, float]]:
    """Accuracies of each file."""
    # The bits of the SavedModel and of the .keras file are the model's own.
    predict = served.functions["serving_default"]

    def itself(x: np.ndarray) -> np.ndarray:
        return predict(tf.constant(x))["logits"].numpy()

    runners: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        name: conversion.runner(os.path.join(folder, conversion.FILES[name]))
        if name in conversion.CONVERTED
        else itself
        for name in wanted
    }
    return measure(served.target, runners, trial)
