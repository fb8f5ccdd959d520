"""The folder of a run: what it holds, whose it is, and making it ready."""

from __future__ import annotations

import contextlib
import os
import tempfile
import warnings
from collections.abc import Iterable
from typing import Any

import keras
import tensorflow as tf

from robust_tf import data, files, locks, runs

# Auxiliary models of runs of version 0.1, whose folders do not name them.
EARLIER_MODELS = ("discriminator",)
# In a run folder: who trains there.
LOCK = ".lock"


class RunFolderError(OSError):
    """A run folder that cannot be used."""


def identity(dataset: data.Data, configuration: str) -> str:
    """What must be equal for a run to be continued."""
    return f"# data {dataset.name} {dataset.fingerprint()}\n{configuration}"


class Claim:
    """Keeps other processes from training in a run folder, to the end of a `with` or the process.

    Args:
      run_dir: the folder; made if absent.
      writes: whether this process writes there; the workers beside a chief do not, and claim
        nothing.

    Raises:
      RunFolderError: another process trains there, or the folder cannot be written.
    """

    def __init__(self, run_dir: str, writes: bool = True):
        self.run_dir = run_dir
        self._lock: locks.Lock | None = None
        if not writes:
            return
        path = os.path.join(run_dir, LOCK)
        try:
            tf.io.gfile.makedirs(run_dir)
            other = locks.holder_of(path)
            self._lock = locks.Lock(path, unsure=True)
        except locks.LockedError as error:
            raise RunFolderError(
                f"run folder {run_dir} is in use by {error}, and two processes cannot train one "
                "run; wait for that one or end it, or choose another --run_dir."
            ) from error
        except (OSError, tf.errors.OpError) as error:
            raise _unusable(run_dir, error) from error
        if other:
            warnings.warn(
                f"run folder {run_dir} was in use by {other}, of which it cannot be told here "
                "whether it still runs; if it does, end this process.",
                stacklevel=4,
            )

    def check(self) -> None:
        """Raises RunFolderError if the folder was removed, or was taken, meanwhile."""
        if self._lock is not None and not self._lock.held:
            raise RunFolderError(
                f"run folder {self.run_dir} was removed, moved, or taken by another process while "
                "this one trained; put it back and give the same command again, or start anew in "
                "another --run_dir."
            )

    def __enter__(self) -> Claim:
        return self

    def __exit__(self, *about: object) -> None:
        if self._lock is not None:
            self._lock.release()


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
            for path in files.leftovers(run_dir, _outputs(run_dir, entries)):
                files.remove(path)
        files.write_json(os.path.join(run_dir, "identity.json"), {"identity": identity})
    except (files.FileError, tf.errors.OpError) as error:
        raise _unusable(run_dir, error) from error


def _unusable(run_dir: str, error: BaseException) -> RunFolderError:
    cause = error.__cause__ if isinstance(error, files.FileError) else error
    return RunFolderError(
        f"run folder {run_dir} cannot be used: {files.reason(cause or error)}. Mend that "
        "(permissions, free space), or choose another --run_dir."
    )


def _delete(run_dir: str, entries: set[str], models: Iterable[str]) -> None:
    """Deletes what the run in the folder wrote; refuses where a file that it did not is in the way.

    `run.json` names the auxiliary models that the run saved.
    """
    outputs = _outputs(run_dir, entries)
    foreign = sorted({f"{name}.keras" for name in models} & entries - set(outputs))
    if foreign:
        raise RunFolderError(
            f"run folder {run_dir} holds {', '.join(foreign)}, which the run there did not write "
            "and this one would replace. Move it elsewhere, or choose another --run_dir."
        )
    paths = [os.path.join(run_dir, name) for name in outputs if name in entries]
    for path in [*files.leftovers(run_dir, outputs), *paths]:
        (tf.io.gfile.rmtree if files.is_folder(path) else tf.io.gfile.remove)(path)


def _outputs(run_dir: str, entries: set[str]) -> list[str]:
    """Names of what a run writes, in the order in which it may be deleted.

    The identity last: while it is there, a --restart that was killed can be repeated. The record
    just before, so that it can be repeated with the same names.
    """
    saved: Iterable[str] = ()
    if "run.json" in entries:
        with contextlib.suppress(files.FileError, KeyError, TypeError):  # damaged: a reason for it
            saved = files.read_json(os.path.join(run_dir, "run.json"))["method"]["models"]
    elif "config.gin" in entries:
        saved = EARLIER_MODELS
    last = ("run.json", "identity.json")
    outputs = [name for name in files.RUN_FILES if name not in last]
    return [f"{name}.keras" for name in saved] + outputs + list(last)


def check(run_dir: str, identity: str) -> None:
    """Refuses a folder that holds another run; a folder without a run is fine.

    Raises:
      RunFolderError: names the lines in which the configurations differ, or the file if it is
        damaged.
    """
    path = os.path.join(run_dir, "identity.json")
    if not files.exists(path):
        return
    try:
        content = files.read_json(path)
        before = content["identity"] if isinstance(content, dict) else None
        fault = "" if isinstance(before, str) else f"{path} is damaged: it holds no identity."
    except KeyError:
        fault = f"{path} is damaged: it holds no identity."
    except files.FileError as error:
        fault = str(error)
    if fault:
        raise RunFolderError(
            f"whose run is in {run_dir} cannot be told: {fault} Put back the file as it was, or "
            "give --restart to delete that run, or another --run_dir."
        )
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


def record(run_dir: str, identity: str) -> dict[str, Any]:
    """The `run.json` of the run in the folder; {} where there is none.

    Raises:
      RunFolderError: it is another run's, see `check`.
    """
    check(run_dir, identity)
    return runs.read_record(run_dir) or {}


def save_model(network: keras.Model, path: str) -> None:
    """Writes a `.keras` file whole or not at all, to a bucket too.

    Raises:
      FileError: full disk, read-only folder, or whatever else the file system says.
    """
    with files.atomic(path) as temporary, tempfile.TemporaryDirectory() as local:
        here = os.path.join(local, "model.keras")  # Keras 2 knows local disks only
        network.save(here)
        tf.io.gfile.copy(here, temporary)
