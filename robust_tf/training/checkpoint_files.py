"""The files of checkpoints: which are in a folder, whatever became of TensorFlow's list."""

from __future__ import annotations

import os
import re

import tensorflow as tf

from robust_tf import files

# Of one checkpoint 'ckpt-12': its index, its data, and what a save that was killed has left.
_NAME = re.compile(r"(ckpt-(\d+))(?:\.index|\.data-.*|_temp.*)")
# Not damage: the same file may be read another time.
PASSING = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.PermissionDeniedError,
    tf.errors.ResourceExhaustedError,
)
# As a checkpoint of another version fails; damage is found before a variable has a wrong value.
OTHER_VERSION = (AssertionError, ValueError, tf.errors.InvalidArgumentError)


def newest_first(folder: str) -> list[str]:
    """Prefixes of the checkpoints in a folder, the newest first; parts of one may be missing.

    TensorFlow's file `checkpoint` tells the order; where it is damaged or missing, or does not name
    one, the numbers in the names do.
    """
    there = _there(folder)
    listed = [os.path.basename(path) for path in _listed(folder)]
    rest = sorted(set(there) - set(listed), key=there.__getitem__)
    return [os.path.join(folder, name) for name in reversed([*rest, *listed])]


def tidy(folder: str, count: int) -> None:
    """Keeps the newest checkpoints, and lists them; deletes what saves that were killed have left.

    Args:
      folder: of the checkpoints; nothing may be writing there.
      count: how many are kept.
    """
    there = _there(folder)
    newest = [os.path.basename(prefix) for prefix in newest_first(folder)]
    kept = [name for name in newest if name in there][:count]
    if kept and [os.path.basename(path) for path in reversed(_listed(folder))] != kept:
        lines = [f'model_checkpoint_path: "{kept[0]}"']
        lines += [f'all_model_checkpoint_paths: "{name}"' for name in reversed(kept)]
        files.write_text(os.path.join(folder, "checkpoint"), "\n".join(lines) + "\n")
    for found in _names(folder):
        if found[1] not in kept or "_temp" in found[0]:
            files.remove(os.path.join(folder, found[0]))


def delete(prefix: str) -> None:
    """Deletes the files of a checkpoint."""
    folder, name = os.path.split(prefix)
    for found in _names(folder):
        if found[1] == name:
            files.remove(os.path.join(folder, found[0]))


def delete_unlisted(folder: str, step: int) -> None:
    """Deletes what a save that failed has left, unless it was to replace one that is whole."""
    prefix = os.path.join(folder, f"ckpt-{step}")
    if os.path.basename(prefix) not in map(os.path.basename, _listed(folder)):
        delete(prefix)


def number(prefix: str) -> int:
    """The number in the name of a checkpoint."""
    return int(prefix.rpartition("-")[2])


def _there(folder: str) -> dict[str, int]:
    """The checkpoints that have an index, with their numbers."""
    return {f[1]: int(f[2]) for f in _names(folder) if f[0].endswith(".index")}


def _names(folder: str) -> list[re.Match[str]]:
    if not files.is_folder(folder):
        return []
    entries = sorted(entry.rstrip("/") for entry in tf.io.gfile.listdir(folder))
    return [found for found in map(_NAME.fullmatch, entries) if found]


def _listed(folder: str) -> list[str]:
    """What the file `checkpoint` names, the newest last; [] where it cannot be read."""
    try:
        state = tf.train.get_checkpoint_state(folder)
    except (ValueError, OSError, tf.errors.OpError):  # ValueError: not UTF-8
        return []
    if state is None:
        return []
    newest = state.model_checkpoint_path
    return [path for path in state.all_model_checkpoint_paths if path != newest] + [newest]
