"""The folder of an export: what may be in it, and what may be replaced."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator

import tensorflow as tf

from robust_tf import files
from robust_tf.export.conversion import FILES

# All that an export writes, so that nothing else is ever deleted with one.
ENTRIES = frozenset(
    {
        "saved_model.pb",
        "variables",
        "assets",
        "assets.extra",
        "fingerprint.pb",
        *filter(None, FILES.values()),
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
