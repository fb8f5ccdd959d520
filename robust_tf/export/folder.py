"""The folder of an export: what may be in it, and what may be replaced."""

from __future__ import annotations

import os

import tensorflow as tf

from robust_tf import files

# All that an export writes, so that nothing else is ever deleted with one.
ENTRIES = frozenset(
    {
        "saved_model.pb",
        "variables",
        "assets",
        "assets.extra",
        "fingerprint.pb",
        "model.keras",
        "model_float16.tflite",
        "model_int8.tflite",
        "model.onnx",
        "config.gin",
        "rest",
        "model_card.json",
        "README.md",
    }
)


def check_free(path: str | os.PathLike[str], overwrite: bool) -> None:
    """Raises ValueError unless an export may be written to `path`.

    Never gives way to deleting something else: what is replaced must be an export, whole and alone.
    """
    path = os.fspath(path)
    if not files.exists(path):
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
