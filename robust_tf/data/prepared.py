"""Prepared TensorFlow datasets: read from a folder, or downloaded to it, with clear errors."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging as absl_logging

from robust_tf import files
from robust_tf.data.errors import DataError
from robust_tf.data.tfds_records import FORMATS

Arrays = tuple[np.ndarray, np.ndarray]

_DEFAULT_DIR = os.path.join("~", "tensorflow_datasets")
_VERSION = re.compile(r"\d+\.\d+\.\d+")
# Seconds for the one question whether there is a network at all. tfds asks ten times, with growing
# pauses, before it gives up: more than three minutes.
_PATIENCE = 5.0


def read(name: str, data_dir: str | None, source: str) -> tuple[Arrays, Arrays]:
    """Reads a dataset's training and test split through `tfds.load`.

    Args:
      name: Name in TensorFlow Datasets, with features `image` and `label`.
      data_dir: Folder of prepared datasets; None: `TFDS_DATA_DIR`, else `~/tensorflow_datasets`.
        It may be read-only if the dataset is there.
      source: Address of the server from which tfds downloads it.

    Returns:
      (images, labels) of train and of test, in the order of the prepared files.

    Raises:
      DataError: If it is neither there nor to be downloaded, or cannot be read.
    """
    prepare(name, data_dir, source)
    root, _ = _folder(data_dir)
    return _read_prepared(name, root, _prepared_version(root, name))


def label_names(name: str, data_dir: str | None) -> tuple[str, ...] | None:
    """Names of the classes of a prepared dataset, by label; None where it has none."""
    return names_of(open_builder(name, data_dir).info.features["label"])


def names_of(feature: Any) -> tuple[str, ...] | None:
    """Names in a label of tfds; None where there are none, or they are but the numbers."""
    names = tuple(getattr(feature, "names", None) or ())
    return None if names == tuple(map(str, range(len(names)))) else names


def open_builder(name: str, data_dir: str | None) -> Any:
    """The builder of a prepared dataset, to read from; nothing is downloaded.

    Args:
      name: as tfds has it, 'NAME', 'NAME/CONFIG' or 'NAME/CONFIG:VERSION'.
      data_dir: as of `read`.

    Raises:
      DataError: it is not there, or cannot be read.
    """
    import tensorflow_datasets as tfds

    root, origin = _folder(data_dir)
    try:
        with _quiet():
            builder = tfds.builder(name, data_dir=root, try_gcs=False)
            splits = builder.info.splits
    except Exception as error:  # tfds raises of every kind, not all of them exported
        raise DataError(_absent(name, root, origin, _short(error))) from error
    if not splits or not tf.io.gfile.exists(os.fspath(builder.data_dir)):
        raise DataError(_absent(name, root, origin, "it is known to tfds, but not prepared there"))
    kind = file_format(builder)
    if kind not in FORMATS:
        raise DataError(
            f"{name} is prepared as {kind}; TFDS reads {' and '.join(FORMATS)} files. Prepare it "
            "again with file_format='array_record', or give a function that returns "
            "tf.data.Datasets."
        )
    return builder


def file_format(builder: Any) -> str:
    """How the files of a prepared dataset are stored, as tfds names it."""
    kind = getattr(builder.info, "file_format", None)
    return str(getattr(kind, "value", "tfrecord"))


def _absent(name: str, root: str, origin: str, why: str) -> str:
    there = []
    with contextlib.suppress(tf.errors.OpError, OSError):
        entries = [entry.rstrip("/") for entry in tf.io.gfile.listdir(root)]
        there = sorted(entry for entry in entries if entry != "downloads" and entry[:1] != ".")
    held = f"It holds {', '.join(there[:20])}." if there else "It is empty, or not there."
    return (
        f"There is no prepared dataset {name} in {root} ({origin}): {why}. {held} Name the folder "
        "that holds it with --data_dir or TFDS_DATA_DIR, or prepare it there once: "
        f"tfds.builder({name!r}, data_dir={root!r}).download_and_prepare()."
    )


def prepare(name: str, data_dir: str | None, source: str) -> None:
    """Sees to it that a dataset is prepared, by a download if need be; see `read`."""
    root, origin = _folder(data_dir)
    if _prepared_version(root, name) is None:
        _download(name, root, origin, source)


def _folder(data_dir: str | None) -> tuple[str, str]:
    """The folder of datasets, and who named it."""
    if data_dir:
        chosen, origin = os.fspath(data_dir), "--data_dir"
    elif os.environ.get("TFDS_DATA_DIR"):
        chosen, origin = os.environ["TFDS_DATA_DIR"], "TFDS_DATA_DIR"
    else:
        chosen, origin = _DEFAULT_DIR, "the default; neither --data_dir nor TFDS_DATA_DIR is set"
    return os.path.expanduser(chosen), origin


def _prepared_version(root: str, name: str) -> str | None:
    """The newest version prepared in `root`, found by looking, without a network; None if none."""
    folder = os.path.join(root, name)
    try:
        versions = [entry.rstrip("/") for entry in tf.io.gfile.listdir(folder)]
        versions = [
            version
            for version in versions
            if _VERSION.fullmatch(version)
            and tf.io.gfile.exists(os.path.join(folder, version, "dataset_info.json"))
        ]
    except tf.errors.NotFoundError:
        return None
    except (tf.errors.OpError, OSError) as error:
        raise DataError(
            f"The data folder {folder} cannot be read: {_short(error)}. It must be a folder that "
            "you may list and read; or name another one with --data_dir or TFDS_DATA_DIR."
        ) from error
    return max(versions, key=lambda version: tuple(map(int, version.split("."))), default=None)


def _read_prepared(name: str, root: str, version: str | None) -> tuple[Arrays, Arrays]:
    import tensorflow_datasets as tfds  # takes a second, and the embedded datasets do without it

    path = os.path.join(root, name, version or "")
    try:
        with _quiet(), tf.init_scope():
            splits, info = tfds.load(
                f"{name}:{version}" if version else name,
                split=["train", "test"],
                batch_size=-1,
                data_dir=root,
                download=False,
                with_info=True,
                shuffle_files=False,
                # One file after the other: the order on disk, in however many files.
                read_config=tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False),
            )
            arrays = [(split["image"].numpy(), split["label"].numpy()) for split in splits]
        for split, (_, labels) in zip(("train", "test"), arrays, strict=True):
            if len(labels) != info.splits[split].num_examples:
                raise ValueError(
                    f"{split} holds {len(labels)} of {info.splits[split].num_examples} examples"
                )
    except Exception as error:  # tfds and TensorFlow raise of every kind on a damaged copy
        raise DataError(
            f"The copy of {name} in {path} cannot be read: {_short(error)}. It is unreadable, "
            "incomplete or damaged: check its permissions, prepare it again (delete it and run "
            "once with a network), or name another folder with --data_dir or TFDS_DATA_DIR."
        ) from error
    return arrays[0], arrays[1]


def _download(name: str, root: str, origin: str, source: str) -> None:
    """Has tfds download and prepare a dataset; any failure becomes the same helpful error."""
    try:
        if not _has_download(root, name):
            _check_reachable(source)
        import tensorflow_datasets as tfds

        print(f"Downloading {name} to {root} (once).", file=sys.stderr)
        with _quiet(), contextlib.redirect_stdout(io.StringIO()):
            if not sys.stderr.isatty():
                tfds.disable_progress_bar()
            tfds.builder(name, data_dir=root).download_and_prepare()
    except Exception as error:
        if _prepared_version(root, name):  # another process was faster
            return
        looked = os.path.join(root, name, "<version>", "dataset_info.json")
        missing = "" if tf.io.gfile.isdir(root) else "; it is not a folder"
        if not tf.io.gfile.exists(root):
            missing = "; it does not exist"
        parent = os.path.dirname(os.path.abspath(root))
        if os.path.basename(os.path.abspath(root)) == name and _prepared_version(parent, name):
            missing = f"; the folder above it, {parent}, is the right one"
        raise DataError(
            f"There is no copy of {name} in {root} ({origin}{missing}), and it could not be "
            f"downloaded: {_short(error)}.\n"
            f"  looked for  {looked}\n"
            f"  either      --data_dir=FOLDER or TFDS_DATA_DIR=FOLDER, where FOLDER holds {name}/\n"
            f"  or          run once with a network and a FOLDER that can be written to\n"
            f"  or          --gin_file=gin/adr_digits.gin, real digits that need no download"
        ) from error


def _has_download(root: str, name: str) -> bool:
    """Whether an earlier download waits to be prepared, for which no network may be needed."""
    try:
        entries = tf.io.gfile.listdir(os.path.join(root, "downloads", name))
    except (tf.errors.OpError, OSError):
        return False
    return any(".tmp." not in entry and not entry.endswith(".INFO") for entry in entries)


def _check_reachable(source: str) -> None:
    """Raises ConnectionError if no server answers; what it answers does not matter."""
    import requests  # comes with tfds; heeds proxies as tfds does

    try:
        requests.head(source, timeout=_PATIENCE)
    except requests.RequestException as error:
        raise ConnectionError(f"no answer from {source} ({type(error).__name__})") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the chatter of tfds and its parts below errors, and puts the levels back."""
    loggers = [absl_logging.get_absl_logger(), logging.getLogger("urllib3")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _short(error: BaseException) -> str:
    """Kind and cause of an error, at most 200 characters."""
    return f"{type(error).__name__}: {files.reason(error)}"[:200].rstrip(" .:")
