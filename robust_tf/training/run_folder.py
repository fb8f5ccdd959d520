"""The folder of a run: what it holds, whose it is, and making it ready."""

from __future__ import annotations

import os
import re
import tempfile

import keras
import tensorflow as tf

from robust_tf import data, files

# The identity last: while it is there, a --restart that was killed can be repeated.
OUTPUTS = files.RUN_FILES


class RunFolderError(OSError):
    """A run folder that cannot be used."""


def identity(dataset: data.Data, configuration: str) -> str:
    """What must be equal for a run to be continued."""
    return f"# data {dataset.name} {dataset.fingerprint()}\n{configuration}"


def prepare(run_dir: str, identity: str, restart: bool) -> None:
    """Makes the folder, tries to write in it, and refuses what belongs to others.

    Args:
      run_dir: the folder.
      identity: of the run that wants it.
      restart: deletes what an earlier run left there; never in a folder that is not a run's.

    Raises:
      RunFolderError: see `Trainer`.
    """
    path = os.path.join(run_dir, "identity.json")
    try:
        tf.io.gfile.makedirs(run_dir)
        entries = {name.rstrip("/") for name in tf.io.gfile.listdir(run_dir)}
        # Auxiliary models of the network are saved under names of the method's choosing.
        models = sorted(name for name in entries if name.endswith(".keras"))
        outputs = dict.fromkeys([*models, *[name for name in OUTPUTS if name in entries]])
        if "identity.json" not in entries:
            others = sorted(outputs)
            if others:
                raise RunFolderError(
                    f"run folder {run_dir} holds {', '.join(others)}, but is not the folder of a "
                    "run (it has no identity.json). Choose another --run_dir."
                )
        elif restart:
            written = re.compile(rf"\.[0-9a-f]{{8}}\.({'|'.join(map(re.escape, OUTPUTS))})")
            for name in [e for e in entries if written.fullmatch(e)] + list(outputs):
                entry = os.path.join(run_dir, name)
                if name in entries:
                    (tf.io.gfile.rmtree if files.is_folder(entry) else tf.io.gfile.remove)(entry)
        else:
            check(run_dir, identity)
        files.write_json(path, {"identity": identity})
    except (files.FileError, tf.errors.OpError) as error:
        cause = error.__cause__ if isinstance(error, files.FileError) else error
        raise RunFolderError(
            f"run folder {run_dir} cannot be used: {files.reason(cause or error)}. Mend that "
            "(permissions, free space), or choose another --run_dir."
        ) from error


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
