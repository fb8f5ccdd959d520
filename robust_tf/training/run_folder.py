"""The folder of a run: what it holds, whose it is, and making it ready."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterable

import keras
import tensorflow as tf

from robust_tf import data, files

# Auxiliary models of runs of version 0.1, whose folders do not name them.
EARLIER_MODELS = ("discriminator",)


class RunFolderError(OSError):
    """A run folder that cannot be used."""


def identity(dataset: data.Data, configuration: str) -> str:
    """What must be equal for a run to be continued."""
    return f"# data {dataset.name} {dataset.fingerprint()}\n{configuration}"


def prepare(run_dir: str, identity: str, restart: bool, models: Iterable[str] = ()) -> None:
    """Makes the folder, tries to write in it, and refuses what belongs to others.

    Args:
      run_dir: the folder.
      identity: of the run that wants it.
      restart: deletes what an earlier run wrote there, other files stay; nothing in a folder that
        is not a run's.
      models: names of the auxiliary models that the run will save, each as `NAME.keras`.

    Raises:
      RunFolderError: see `Trainer`.
    """
    path = os.path.join(run_dir, "identity.json")
    try:
        tf.io.gfile.makedirs(run_dir)
        entries = {name.rstrip("/") for name in tf.io.gfile.listdir(run_dir)}
        if "identity.json" not in entries:
            others = sorted(e for e in entries if e in files.RUN_FILES or e.endswith(".keras"))
            if others:
                raise RunFolderError(
                    f"run folder {run_dir} holds {', '.join(others)}, but is not the folder of a "
                    "run (it has no identity.json). Choose another --run_dir."
                )
        elif restart:
            _delete(run_dir, entries, models)
        else:
            check(run_dir, identity)
        files.write_json(path, {"identity": identity})
    except (files.FileError, tf.errors.OpError) as error:
        cause = error.__cause__ if isinstance(error, files.FileError) else error
        raise RunFolderError(
            f"run folder {run_dir} cannot be used: {files.reason(cause or error)}. Mend that "
            "(permissions, free space), or choose another --run_dir."
        ) from error


def _delete(run_dir: str, entries: set[str], models: Iterable[str]) -> None:
    """Deletes what the run in the folder wrote; refuses where a file that it did not is in the way.

    `run.json` names the auxiliary models that the run saved.
    """
    saved: Iterable[str] = ()
    if "run.json" in entries:
        with contextlib.suppress(files.FileError, KeyError, TypeError):  # damaged: a reason for it
            saved = files.read_json(os.path.join(run_dir, "run.json"))["method"]["models"]
    elif "config.gin" in entries:
        saved = EARLIER_MODELS
    # The identity last: while it is there, a --restart that was killed can be repeated. The record
    # just before, so that it can be repeated with the same names.
    last = ("run.json", "identity.json")
    outputs = [name for name in files.RUN_FILES if name not in last]
    outputs = [f"{name}.keras" for name in saved] + outputs + list(last)
    foreign = sorted({f"{name}.keras" for name in models} & entries - set(outputs))
    if foreign:
        raise RunFolderError(
            f"run folder {run_dir} holds {', '.join(foreign)}, which the run there did not write "
            "and this one would replace. Move it elsewhere, or choose another --run_dir."
        )
    written = re.compile(rf"\.[0-9a-f]{{8}}\.({'|'.join(map(re.escape, outputs))})")
    for name in [e for e in entries if written.fullmatch(e)] + outputs:
        entry = os.path.join(run_dir, name)
        if name in entries:
            (tf.io.gfile.rmtree if files.is_folder(entry) else tf.io.gfile.remove)(entry)


def check(run_dir: str, identity: str) -> None:
    """Refuses a folder that holds another run; a folder without a run is fine.

    Raises:
      RunFolderError: names the lines in which the configurations differ.
    """
    path = os.path.join(run_dir, "identity.json")
    if not files.exists(path):
        return
    before = files.read_json(path)
    before = before.get("identity") if isinstance(before, dict) else None
    if before == identity:
        return
    old, new = str(before).splitlines(), identity.splitlines()
    changed = [f"{line} (was not there)" for line in new if line and line not in old]
    changed += [f"{line} (was there)" for line in old if line and line not in new]
    raise RunFolderError(
        f"run folder {run_dir} holds a run of another configuration; it differs in: "
        f"{'; '.join(changed[:6]) or 'order'}. Give --restart to delete that run, or another "
        "--run_dir."
    )


def save_model(network: keras.Model, path: str) -> None:
    """Writes a `.keras` file whole or not at all, to a bucket too.

    Raises:
      FileError: full disk, read-only folder, or whatever else the file system says.
    """
    with files.atomic(path) as temporary, tempfile.TemporaryDirectory() as local:
        here = os.path.join(local, "model.keras")  # Keras 2 knows local disks only
        network.save(here)
        tf.io.gfile.copy(here, temporary)
