"""Writes the folder of an export, and replaces one: files, proof that they work, model card."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from robust_tf import files
from robust_tf.export import conversion, model_card, rest
from robust_tf.export.conversion import CalibrationData, measure
from robust_tf.export.signatures import Exportable, Signatures, network_of
from robust_tf.export.smoke import smoke_test
from robust_tf.inference import ManifoldTransformation

# All that an export writes, so that nothing else is deleted with one.
ENTRIES = frozenset(
    {
        "saved_model.pb",
        "variables",
        "assets",
        "assets.extra",
        "fingerprint.pb",
        *filter(None, conversion.FILES.values()),
        "config.gin",
        "rest",
        "model_card.json",
        "README.md",
    }
)


def export(
    network: Any,
    export_dir: str | os.PathLike[str],
    overwrite: bool = False,
    *,
    formats: Sequence[str] = ("saved_model",),
    detector: ManifoldTransformation | None = None,
    calibration: CalibrationData | None = None,
    about: dict[str, Any] | None = None,
    class_names: Sequence[str] | None = None,
    resize: str | None = None,
    smoke: bool = False,
) -> dict[str, Any]:
    """Writes a model for those who do not have this library, with a model card.

    The SavedModel's signatures are those of `signatures.MEANING`; plain TensorFlow runs them,
    gradients and attack included. It lies in the folder itself, as TensorFlow Serving wants it, the
    other formats beside it. The folder appears whole or not at all.

    Args:
      network: `SplitClassifier`; a `RobustModel`, whose network is taken (that of averaged weights,
        if there is one); or a `ManifoldTransformation`, whose prediction is the defended one.
      export_dir: a folder that does not exist or is empty.
      overwrite: replace an export that is there.
      formats: some of `FORMATS`.
      detector: the same network behind its discriminator, for the signature `detect`.
      calibration: what the files are measured on; 'tflite_int8' needs it.
      about: what the model card says of the training, see `provenance.of_run`.
      class_names: by label: the SavedModel gives them as `label` beside `class`; None: those of the
        data in `about`, or if they have none, no `label`.
      resize: what becomes of files of another size, 'pad', 'crop' or 'stretch'; None: what became
        of the pictures of the data in `about`, else 'stretch'.
      smoke: load the files in a new process and compare, before the folder appears.

    Returns:
      The model card, JSON-ready.

    Raises:
      TypeError: another kind of model.
      ValueError: the folder is in use, a format is unknown or does not go with the model, there are
        not as many names as classes.
      FileError: it cannot be written.
      SmokeTestError: the files do not give what the model gives.
    """
    model = network_of(network)
    wanted = conversion.check(formats, isinstance(model, ManifoldTransformation))
    if "tflite_int8" in wanted and calibration is None:
        raise ValueError(
            "tflite_int8 needs training images: give calibration=CalibrationData(train, test)."
        )
    path = os.fspath(export_dir).rstrip("/")
    check_free(path, overwrite)
    data = (about or {}).get("data") or {}
    names = data.get("class_names") if class_names is None else class_names
    signatures = Signatures(model, detector, names, resize or data.get("resize"))
    with replacing(path) as folder:
        tf.io.gfile.makedirs(folder)
        _write_models(folder, wanted, model, signatures, calibration)
        tested = smoke_test(folder, wanted, model, detector, names) if smoke else None
        accuracies = (
            {} if calibration is None else _measured(folder, wanted, signatures, calibration)
        )
        entries = [
            {
                "format": name,
                "file": conversion.FILES[name] or ".",
                "bytes": conversion.size(folder, name),
                **accuracies.get(name, {}),
            }
            for name in wanted
        ]
        content = model_card.content(signatures, model, entries, calibration, about or {}, tested)
        model_card.write(folder, os.path.basename(path), content)
        if "saved_model" in wanted:
            rest.write_examples(os.path.join(folder, "rest"), signatures)
    return content


def _write_models(
    folder: str,
    wanted: Sequence[str],
    model: Exportable,
    signatures: Signatures,
    calibration: CalibrationData | None,
) -> None:
    if "saved_model" in wanted:
        tf.saved_model.save(signatures, folder, signatures=signatures.functions)
    if "keras" in wanted:
        conversion.save_keras(model, os.path.join(folder, conversion.FILES["keras"]))
    if set(wanted) & set(conversion.CONVERTED):
        module = conversion.Float32(model)
        makers: dict[str, Callable[[], bytes]] = {
            "tflite_float16": lambda: conversion.tflite(module),
            "tflite_int8": lambda: conversion.tflite(
                module, calibration.ranges if calibration else None
            ),
            "onnx": lambda: conversion.onnx(module),
        }
        for name in wanted:
            if name in makers:
                conversion.write(os.path.join(folder, conversion.FILES[name]), makers[name]())


def _measured(
    folder: str, wanted: Sequence[str], signatures: Signatures, calibration: CalibrationData
) -> dict[str, dict[str, float]]:
    """Accuracies of each file."""
    # The bits of the SavedModel and of the .keras file are the model's own.
    predict = signatures.functions["serving_default"]

    def itself(x: np.ndarray) -> np.ndarray:
        return predict(tf.constant(x))["logits"].numpy()

    runners: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        name: conversion.runner(os.path.join(folder, conversion.FILES[name]))
        if name in conversion.CONVERTED
        else itself
        for name in wanted
    }
    return measure(signatures.target, runners, calibration)


def check_free(path: str | os.PathLike[str], overwrite: bool) -> None:
    """Raises ValueError unless an export may be written to `path`.

    What is replaced must be an export and nothing else, so that nothing else is ever deleted.
    """
    path = os.fspath(path)
    if not files.exists(path):
        files.check_writable(path)  # now, and not when all is computed
        return
    if not files.is_folder(path):
        raise ValueError(f"{path} is a file; name a folder.")
    entries = {name.rstrip("/") for name in tf.io.gfile.listdir(path)}
    if not entries:
        return
    if not entries & {"saved_model.pb", "model_card.json"}:
        raise ValueError(
            f"{path} is not empty and holds no SavedModel and no model card; name another folder."
        )
    others = sorted(entries - ENTRIES)
    if others:
        raise ValueError(
            f"{path} holds {', '.join(others[:3])}{', ...' * (len(others) > 3)}, which no export "
            "writes; name another folder, or move that away."
        )
    if not overwrite:
        raise ValueError(f"{path} holds an export already; --overwrite replaces it.")


@contextlib.contextmanager
def replacing(path: str) -> Iterator[str]:
    """A folder to write to that takes the place of `path` at the end, whole or not at all.

    What was there is moved aside, and deleted when the new folder is in its place: if anything
    fails before, it comes back; what cannot be deleted stays aside.

    Raises:
      FileError: see `files.atomic`.
    """
    parent, name = os.path.split(path)
    aside = os.path.join(parent, f".{uuid.uuid4().hex[:8]}.old.{name}")
    try:
        with files.atomic(path) as folder:
            yield folder
            if files.exists(path):
                tf.io.gfile.rename(path, aside)
    except BaseException:
        if files.exists(aside) and not files.exists(path):
            tf.io.gfile.rename(aside, path)
        raise
    files.remove(aside)
