"""`load`: from a name or a source to a dataset with training, validation and test images."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from robust_tf import registration
from robust_tf.data import catalog, memory
from robust_tf.data.augment import Augmentation
from robust_tf.data.augmenting import as_augmentations
from robust_tf.data.dataset import Data
from robust_tf.data.drawing import draw_order
from robust_tf.data.errors import DataError
from robust_tf.data.parts import (
    TEST_SHARE,
    VALIDATION_SHARE,
    Parts,
    findings,
    from_mapping,
    hold_out,
    say,
)
from robust_tf.data.source_records import record_of
from robust_tf.data.splits import Split
from robust_tf.data.streamed import in_memory as held
from robust_tf.validation import check_whole

# Of the draws by `seed`: that of the six names is older and goes by a list without a number.
_TEST, _VALIDATION, _TRAIN = 5, 6, 7


@registration.configurable_as("data")
def load(
    name: str = "digits",
    data_dir: str | None = None,
    validation_size: int | float | None = None,
    train_size: int | None = None,
    seed: int = 0,
    augmentation: Any = None,
    source: Any = None,
    test_size: int | float | None = None,
    in_memory: bool | str = "auto",
) -> Data:
    """Reads a dataset.

    Args:
      name: One of `NAMES`. `digits` and `moons` come with scikit-learn; the others are read by
        `tfds.load`. Not read where there is a `source`.
      data_dir: Folder of prepared TensorFlow datasets. None: `TFDS_DATA_DIR`, else
        `~/tensorflow_datasets`. One of the six names that is not there is downloaded to it. It is
        only written to for a download.
      validation_size: Examples held out from the training images, a number, 0 .. len(train) - 1, or
        a part of them, in (0, 1). None: the dataset's own default (5000 for those of tfds, 150 for
        digits, 200 for moons; of a source a tenth, or none where it has validation images).
      train_size: Examples to train on, 1 or more, of those that are not held out: of the six names
        the first, of a source drawn by class; None: all.
      seed: Chooses the examples that are held out, 0 or more; the rest keep their order.
      augmentation: For the training pipeline, one or a list of them, each given what the one before
        it made: `Augmentation()` (crop and flip), `KerasLayers`, `RandAugment`, `Cutout`, and last
        `Mixup` or `CutMix`, or a class or function of yours, see `data/augment.py`. None:
        `Augmentation()` as bound by gin.
      source: Where the images are: an `ImageFolder`, `Arrays`, `ImageTable` or `TFDS`, a builder of
        one (in gin `data.source = @ImageFolder`), or a function of yours without arguments, which
        returns `Data`, or a dict of 'train' and, where there are any, 'validation', 'test' (each a
        `tf.data.Dataset` of (image, label), a `Split`, or (images, labels)) and 'class_names'.
      test_size: As `validation_size`, of a source without test images. None: a fifth.
      in_memory: True, False, or 'auto': images of a source are held in memory where twice their
        size is at most half of what is free; those of the six names always are. Else they are read
        when they are needed, to the same bits.

    Returns:
      The dataset.

    Raises:
      ValueError: If the name is unknown, or a size or `seed` out of range.
      DataError: If the dataset is neither there nor to be had, or cannot be read.
    """
    check_whole("data", "seed", seed, 0)
    if in_memory not in (True, False, "auto"):
        raise ValueError(f"data(in_memory={in_memory!r}): must be True, False or 'auto'.")
    augmentation = Augmentation() if augmentation is None else augmentation
    as_augmentations(augmentation)  # before anything is read
    if source is None:
        return _named(name, data_dir, validation_size, train_size, seed, augmentation, in_memory)
    made, found = _made(source, data_dir)
    record = {**record_of(made), "validation_size": validation_size, "test_size": test_size}
    if isinstance(found, Data):
        return dataclasses.replace(found, description={**found.description, "source": record})
    notes = [*found.notes]
    if len(found.train) and (found.train.labels == found.train.labels[0]).all():
        raise DataError(
            f"{found.name}: all training images are of one class, {found.train.labels[0]}; a "
            "classifier needs two or more."
        )
    train, validation, test = found.train, found.validation, found.test
    if test is None:
        size = TEST_SHARE if test_size is None else _share("test_size", test_size, train)
        train, test = hold_out(train, size, seed, _TEST, "test", "data.test_size")
        notes.append(
            f"it has no test images: {len(test):,} of its training images, drawn by class with "
            f"data.seed = {seed}, are left out of training and tested on (data.test_size)."
        )
    elif test_size is not None:
        notes.append("it has test images of its own; data.test_size is not read.")
    if validation is None:
        size = VALIDATION_SHARE
        if validation_size is not None:
            size = _share("validation_size", validation_size, train)
        train, validation = hold_out(
            train, size, seed, _VALIDATION, "validation", "data.validation_size"
        )
        if len(validation):
            notes.append(
                f"it has no validation images: {len(validation):,} of its training images, drawn "
                f"by class with data.seed = {seed}, are held out (data.validation_size)."
            )
    elif validation_size is not None:
        notes.append("it has validation images of its own; data.validation_size is not read.")
    if train_size is not None:
        _check_train_size(train_size, train, found.name)
        chosen = draw_order(train.labels, seed, _TRAIN)[:train_size]
        train = train.select(np.sort(chosen))
    names = found.class_names or tuple(map(str, range(found.num_classes)))
    splits = {"train": train, "validation": validation, "test": test}
    notes += findings(splits, names)
    say(notes, found.name)
    if fits(splits.values()) if in_memory == "auto" else in_memory:
        splits = dict(zip(splits, held(list(splits.values())), strict=True))
    return Data(
        found.name,
        splits["train"],
        splits["validation"],
        splits["test"],
        num_classes=found.num_classes,
        augmentation=augmentation,
        seed=seed,
        class_names=found.class_names,
        description={**found.description, "source": record, "notes": notes},
    )


def _named(
    name: str,
    data_dir: str | None,
    validation_size: int | float | None,
    train_size: int | None,
    seed: int,
    augmentation: Any,
    in_memory: bool | str,
) -> Data:
    """One of the six names; what is held out is as it was before there were sources."""
    found, size = catalog.read(name, data_dir, stream=in_memory is False)
    if validation_size is not None:
        size = _share("validation_size", validation_size, found.train)
    chosen = np.zeros(len(found.train), bool)
    chosen[np.random.default_rng([seed, 3]).permutation(len(chosen))[:size]] = True
    train = found.train.select(~chosen)
    if train_size is not None:
        _check_train_size(train_size, train, name)
        train = train.take(train_size)
    assert found.test is not None
    return Data(
        name,
        train,
        found.train.select(chosen),
        found.test,
        num_classes=found.num_classes,
        augmentation=augmentation,
        seed=seed,
        class_names=found.class_names,
    )


def _made(source: Any, data_dir: str | None) -> tuple[Any, Parts | Data]:
    """A source, and what it gives; for a builder, what it builds."""
    made = source
    if inspect.isclass(source) or (callable(source) and not hasattr(source, "read")):
        made = source()
    if isinstance(made, Data):
        return source, made
    if isinstance(made, Mapping):
        return source, from_mapping(made, getattr(inspect.unwrap(source), "__name__", "data"))
    if not hasattr(made, "read"):
        raise ValueError(
            f"data.source={source!r}: must be a source, such as @ImageFolder (no quotes), or a "
            "function that returns robust_tf.data.Data, or a dict of 'train' and 'test'; it gave "
            f"{type(made).__name__}."
        )
    found = made.read(data_dir)
    if not isinstance(found, Parts):
        raise ValueError(
            f"data.source={source!r}: its read() gave {type(found).__name__}; must be "
            "robust_tf.data.Parts."
        )
    return made, found


def _share(parameter: str, size: Any, train: Split) -> int:
    """How many of the training examples a size is, a number or a part of them."""
    if isinstance(size, (float, np.floating)) and 0 < size < 1:
        return round(float(size) * len(train))
    count = check_whole("data", parameter, size, 0, "or a part of the images, in (0, 1)")
    if count >= len(train):
        raise ValueError(
            f"data.{parameter} is {count}, but there are {len(train)} training examples; it must "
            f"be 0 .. {len(train) - 1}."
        )
    return count


def _check_train_size(size: Any, train: Split, name: str) -> None:
    check_whole("data", "train_size", size, 0)
    if not 1 <= size <= len(train):
        raise ValueError(
            f"data.train_size is {size}; it must be 1 .. {len(train)}, the examples of "
            f"{name} that are not held out."
        )


def fits(splits: Iterable[Split]) -> bool:
    """Whether the images of splits are held in memory by 'auto'."""
    sizes = [
        len(split) * int(np.prod(split.image_shape)) * split.dtype.itemsize for split in splits
    ]
    return memory.fits(sum(sizes))
