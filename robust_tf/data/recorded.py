"""Data that a run or a command names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from robust_tf import files
from robust_tf.data.arrays import Arrays
from robust_tf.data.catalog import NAMES
from robust_tf.data.dataset import Data
from robust_tf.data.errors import DataError
from robust_tf.data.image_folder import ImageFolder
from robust_tf.data.image_table import ImageTable
from robust_tf.data.loading import fits, load
from robust_tf.data.parts import Parts, say
from robust_tf.data.source_records import made_again
from robust_tf.data.splits import Split
from robust_tf.data.streamed import in_memory


def load_recorded(about: Mapping[str, Any], data_dir: str | None = None) -> Data:
    """The data of a run again, as `run.json` tells them.

    Args:
      about: what is written there under 'data'.
      data_dir: folder of prepared tfds datasets; None: `TFDS_DATA_DIR`.

    Raises:
      DataError: it says of no data, or they are not to be had.
    """
    name, source = about.get("name"), about.get("source")
    if not name:
        raise DataError("the run does not say which data it was trained on.")
    if source is None:
        arguments = {key: about[key] for key in ("validation_size", "seed") if key in about}
        if "validation" in about:
            arguments.setdefault("validation_size", about["validation"])
        try:
            return load(name, data_dir=data_dir, **arguments)
        except ValueError as error:
            if name in NAMES:
                raise
            raise DataError(
                f"There is no dataset {name!r}: the run was given it in Python. Evaluate there, "
                "robust_tf.evaluate(robust_tf.load_run(...), (images, labels), attacks), or give "
                f"--dataset, one of {', '.join(NAMES)}, or a path."
            ) from error
    return load(
        name,
        data_dir=data_dir,
        source=made_again(source, about),
        seed=about.get("seed", 0),
        validation_size=source.get("validation_size"),
        test_size=source.get("test_size"),
        train_size=None,
    )


def open_dataset(text: str, about: Mapping[str, Any], data_dir: str | None = None) -> Data:
    """What `--dataset` names: one of the six names, or a path.

    Args:
      text: a name; a folder with a folder for each class; an `.npz` file or a folder of `.npy`
        files; a table of pictures.
      about: of the run, or of the model: 'image_size', 'resize', 'channels' and 'class_names',
        each where known.
      data_dir: as of `load`.

    Returns:
      The data. Of a path without splits all images are test images.

    Raises:
      DataError, ValueError: there is no such dataset, or it cannot be read.
    """
    if text in NAMES or not files.exists(os.path.expanduser(text)):
        if os.sep in text:
            raise DataError(f"--dataset={text}: there is no such file or folder.")
        return load(text, data_dir=data_dir)
    found = _source_of(text, about).read(data_dir)
    test = found.test if found.test is not None else found.train
    notes = [*found.notes]
    if found.test is None:
        notes.append(f"it has no folder of test images: all {len(test):,} images are taken.")
    splits = [found.train, found.validation or found.train.take(0), test]
    say(notes, found.name)
    return _data(found, splits)


def _data(found: Parts, splits: list[Split]) -> Data:
    train, validation, test = in_memory(splits) if fits(splits) else splits
    return Data(
        found.name,
        train,
        validation,
        test,
        num_classes=found.num_classes,
        class_names=found.class_names,
        description=found.description,
    )


def _source_of(path: str, about: Mapping[str, Any]) -> Any:
    """The source that a path is of."""
    shape = {key: about[key] for key in ("resize", "channels") if about.get(key) is not None}
    if about.get("image_size"):
        shape["image_size"] = tuple(about["image_size"])
    classes = about.get("class_names")
    if files.is_folder(os.path.expanduser(path)):
        if files.exists(os.path.join(os.path.expanduser(path), "x_train.npy")):
            return Arrays(path, classes=classes)
        return ImageFolder(path, classes=classes, **shape)
    if path.lower().endswith(".npz"):
        return Arrays(path, classes=classes)
    if path.lower().endswith((".csv", ".tsv", ".parquet", ".pq")):
        return ImageTable(path, classes=classes, **shape)
    raise DataError(
        f"--dataset={path}: must be one of {', '.join(NAMES)}, a folder of pictures, one folder "
        "for each class, an .npz file, or a table of pictures, .csv or .parquet."
    )
