"""Reading and writing of whole files through `tf.io.gfile`: a path may be local or in a bucket."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import tensorflow as tf

# What a training writes in its run folder; no other command writes a file of such a name there.
RUN_FILES = (
    "run.json",
    "config.gin",
    "metrics.jsonl",
    "guard.jsonl",
    "checkpoints",
    "tensorboard",
    "model.keras",
    "best.keras",
    "summary.json",
    "comparison",
    "identity.json",
)


# In JSON objects of this library: by this field damage is found that leaves JSON.
CHECKSUM = "checksum"


class FileError(OSError):
    """A file cannot be read or written; the message names it, the reason and a way out."""


@contextlib.contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[str]:
    """A path beside `path` to write to; moved over `path` at the end, removed if anything failed.

    So a reader, or a run that was killed meanwhile, sees the old content or the new one, never
    half of it. Folders above are created. The name keeps the extension, which some writers (Keras)
    go by.

    Args:
      path: the file to write, or a folder that does not exist yet.

    Raises:
      FileError: full disk, read-only folder, or whatever else the file system says.
    """
    path = os.fspath(path)
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{uuid.uuid4().hex[:8]}.{name}")
    try:
        if folder:
            tf.io.gfile.makedirs(folder)
        yield temporary
        tf.io.gfile.rename(temporary, path, overwrite=True)
    except BaseException as error:
        remove(temporary)
        if isinstance(error, (OSError, tf.errors.OpError)):
            raise FileError(
                f"cannot write {path}: {reason(error)}. Free some space, mend the permissions of "
                f"{folder or 'the current folder'}, or choose another place."
            ) from error
        raise


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes a UTF-8 file, all of it or nothing.

    Raises:
      FileError: see `atomic`.
    """
    with atomic(path) as temporary, tf.io.gfile.GFile(temporary, "wb") as file:
        file.write(text.encode())


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Writes JSON, indented, all of it or nothing; keys keep their order.

    An object gets a last field, 'checksum', that `read_json` compares and leaves out.

    Raises:
      FileError: see `atomic`.
      TypeError: `value` is not made of what JSON knows.
    """
    write_text(path, json_text(value))


def json_text(value: Any, **layout: Any) -> str:
    """What `write_json` writes; `layout` is as for `json.dumps`."""
    return json.dumps(with_checksum(value), **(layout or {"indent": 2})) + "\n"


def with_checksum(value: Any) -> Any:
    """A JSON object with its checksum as the last field; anything else as it is."""
    if not isinstance(value, Mapping):
        return value
    own = {name: part for name, part in value.items() if name != CHECKSUM}
    return {**own, CHECKSUM: _checksum(own)}


def _checksum(value: Any) -> str:
    """Of the values of a JSON object, however it is laid out: 16 digits of SHA-256."""
    # Keys are text then, and tuples lists. With an indent, as the faster encoder does not know the
    # dictionaries that Keras 2 makes of a model's attributes.
    read = json.loads(json.dumps(value, indent=0))
    text = json.dumps(read, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def write_lines(path: str | os.PathLike[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes JSON objects, one a line, each with its checksum; all of it or nothing.

    Raises:
      FileError: see `atomic`.
    """
    write_text(path, "".join(json.dumps(with_checksum(row)) + "\n" for row in rows))


def read_text(path: str | os.PathLike[str]) -> str:
    """The content of a UTF-8 file.

    Raises:
      FileError: it is missing or cannot be read.
    """
    try:
        with tf.io.gfile.GFile(os.fspath(path), "rb") as file:
            return file.read().decode()
    except (OSError, tf.errors.OpError, UnicodeDecodeError) as error:
        raise FileError(f"cannot read {os.fspath(path)}: {reason(error)}.") from error


def read_json(path: str | os.PathLike[str]) -> Any:
    """The value in a JSON file; an object without its checksum, of files that have one.

    Raises:
      FileError: it is missing, cannot be read, is not JSON, or has not the content with which it
        was written.
    """
    try:
        value = json.loads(read_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise FileError(f"{os.fspath(path)} is not JSON: {error}.") from error
    if not _is_sound(value):
        raise FileError(
            f"{os.fspath(path)} is damaged: its content is not that of which it has the checksum; "
            f"if it was changed on purpose, delete its field {CHECKSUM!r}."
        )
    return value


def read_lines(path: str | os.PathLike[str]) -> list[dict[str, Any] | None]:
    """The JSON objects in the lines of a file, without their checksums; None for a damaged line.

    Lines without text do not count.

    Raises:
      FileError: it is missing or cannot be read.
    """
    try:
        with tf.io.gfile.GFile(os.fspath(path), "rb") as file:
            text = file.read().decode(errors="replace")
    except (OSError, tf.errors.OpError) as error:
        raise FileError(f"cannot read {os.fspath(path)}: {reason(error)}.") from error
    rows: list[dict[str, Any] | None] = []
    for line in text.split("\n"):
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            rows.append(row if isinstance(row, dict) and _is_sound(row) else None)
    return rows


def _is_sound(value: Any) -> bool:
    """Whether an object is as it was written; takes its checksum out. Without one it is."""
    if not isinstance(value, dict) or CHECKSUM not in value:
        return True
    return value.pop(CHECKSUM) == _checksum(value)


def leftovers(folder: str | os.PathLike[str], names: Iterable[str]) -> list[str]:
    """Temporary files of `atomic` for `names` in a folder, left by processes that were killed.

    Whoever removes them must know that no process writes there.
    """
    written = re.compile(rf"\.[0-9a-f]{{8}}\.(?:{'|'.join(map(re.escape, names))})")
    entries = [entry.rstrip("/") for entry in tf.io.gfile.listdir(os.fspath(folder))]
    return [os.path.join(folder, entry) for entry in entries if written.fullmatch(entry)]


def is_leftover(path: str | os.PathLike[str]) -> bool:
    """Whether a path has the name of a temporary file of `atomic`."""
    return bool(re.match(r"\.[0-9a-f]{8}\.", os.path.basename(os.fspath(path))))


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raises FileError unless a file could be written at `path`, which is left as it is."""
    if is_folder(path):
        raise FileError(f"{os.fspath(path)} is a folder; name a file.")
    with contextlib.suppress(_EnoughError), atomic(path) as temporary:
        with tf.io.gfile.GFile(temporary, "wb") as file:
            file.write(b"")
        raise _EnoughError  # the file has been tried; `atomic` takes it away again


def check_replaceable(
    path: str | os.PathLike[str],
    what: str,
    is_such: Callable[[str], bool],
    overwrite: bool | None = None,
) -> bool:
    """Whether a file is there that may be replaced: one that the same command has written.

    Args:
      path: where a command is to write a file.
      what: what it writes, for the error: 'a result of evaluate'.
      is_such: whether the file at a path is one.
      overwrite: whether --overwrite was given, by which any file but a run's own is replaced; None:
        there is no such option.

    Raises:
      FileError: something else is there, or the place belongs to a run, or cannot be written.
    """
    path = os.fspath(path)
    check_writable(path)
    folder, name = os.path.split(path)
    of_run = any(exists(os.path.join(folder, mark)) for mark in ("identity.json", "run.json"))
    if name in RUN_FILES and of_run:
        raise FileError(f"{path} belongs to the run in that folder; choose another file name.")
    if not exists(path):
        return False
    if not overwrite and not is_such(path):
        way = "Choose another file name" if overwrite is None else "Give --overwrite to replace it"
        also = "" if overwrite is None else ", or choose another file name"
        raise FileError(f"{path} is there and is not {what}; it is left as it is. {way}{also}.")
    return True


class _EnoughError(Exception):
    pass


def exists(path: str | os.PathLike[str]) -> bool:
    """Whether there is a file or folder."""
    return tf.io.gfile.exists(os.fspath(path))


def is_folder(path: str | os.PathLike[str]) -> bool:
    """Whether there is a folder."""
    return tf.io.gfile.isdir(os.fspath(path))


def remove(path: str | os.PathLike[str]) -> None:
    """Removes a file or a folder with all in it, as far as that goes; a missing one is fine."""
    path = os.fspath(path)
    with contextlib.suppress(OSError, tf.errors.OpError):
        if tf.io.gfile.isdir(path):
            tf.io.gfile.rmtree(path)
        elif tf.io.gfile.exists(path):
            tf.io.gfile.remove(path)


# Lines in which TensorFlow says where an error came up, before it says which.
_WHERE = ("Graph execution error:", "Detected at node", "<stack traces unavailable>")


def reason(error: BaseException) -> str:
    """The line of a message that tells the cause, without names of nodes or a full stop."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = re.sub(r"\{\{.*?\}\} *", "", str(getattr(error, "message", "") or error))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(_WHERE)] or lines
    return (telling[0] if telling else type(error).__name__).rstrip(". ")
