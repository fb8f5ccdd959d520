"""Small trainings, data and figures, in place of those that an example asks for.

An example is to work as it stands; how well the network becomes is not what its test is about.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robust_tf import models, recipes, studies
from robust_tf.cli import convert_file
from robust_tf.data import catalog
from robust_tf.export import writer
from robust_tf.figures import moons
from robust_tf.models import network_text
from tests.data import pictures

# Over whatever a recipe and a command bind.
SHORT = [
    "train.epochs=1",
    "train.batch_size=16",
    "train.evaluation_examples=8",
    "train.compare_with=None",
    "train.dtype_policy='float32'",
    "CNN.filters=2",
    "CNN.hidden=8",
    "WideDiscriminator.depth=10",
    "WideDiscriminator.width=1",
    "validation/PGD.steps=1",
]
# Where the recipe has them; a source of the user's own keeps its images.
SIZES = ["data.train_size=32", "data.validation_size=16"]
MACROS = ["steps", "evaluation_steps"]
LARGE = re.compile(r"^train\.network = @(\w*(ResNet|Normalized|Application)\w*)$", re.M)
WEIGHED = ["WideResNet.depth=10", "WideResNet.width=1"]
WIDE = re.compile(r"depth=\d+, width=\d+")  # of WRNs in texts and in Python
IMAGES = {"mnist": (28, 28, 1)}  # the others have 32 x 32 x 3


def put(patch: pytest.MonkeyPatch) -> None:
    """Makes what an example asks for small while the patches are in force."""
    load = recipes.load
    patch.setattr(recipes, "load", lambda *args, **kwargs: _short(load, *args, **kwargs))
    for name, entry in catalog._CATALOG.items():
        if entry.read is None:
            own = dataclasses.replace(entry, validation_size=16, read=_reader(name, entry))
            patch.setitem(catalog._CATALOG, name, own)
    read = studies.load
    patch.setattr(
        studies, "load", lambda *args: dataclasses.replace(read(*args), examples=8, few_examples={})
    )
    train = moons.train_moons
    patch.setattr(moons, "train_moons", lambda *args, **kwargs: train(*args, **kwargs, steps=2))
    # The files in a new process, which imports TensorFlow: tests/export does it.
    tested = {"compared": 0, "same_bits": 0, "load_seconds": {}, "batch_sizes": []}
    patch.setattr(writer, "smoke_test", lambda *args: tested)


def narrow(text: str) -> str:
    """A text with the smallest of all wide ResNets in place of others."""
    return WIDE.sub("depth=10, width=1", text)


def write_checkpoint(path: str, network: str) -> None:
    """A checkpoint of PyTorch of a network with random weights, in place of a published one."""
    made = network_text.builder(network)((32, 32, 3), 10)
    convert_file.write_torch(models.to_torch(made), path)


def _short(
    load: Callable[..., Any], name: Any, params: Sequence[str] = (), imports: Sequence[str] = ()
) -> Any:
    """`recipes.load`, and over it what makes a training short."""
    text = load(name, params, imports).text
    own = [*SHORT, *([] if "data.source" in text else SIZES)]
    own += [f"{macro}=1" for macro in MACROS if f"%{macro}" in text]
    if LARGE.search(text):  # a file of weights tells the kind of the network
        own += WEIGHED if "train.initial" in text else ["train.network=@CNN"]
    return load(name, [*params, *own], imports)


def _reader(name: str, entry: Any) -> Callable[[], Any]:
    """In place of a dataset of tfds a few images of its shape, one bright row for each label."""

    def part(count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.arange(count) % entry.num_classes
        shape = IMAGES.get(name, (32, 32, 3))
        images = np.random.default_rng(count).integers(0, 99, (count, *shape), np.uint8)
        images[np.arange(count), labels % shape[0]] = 255
        return images, labels.astype(np.int64)

    return lambda: (part(200), part(100))


def write_photos(folder: Path) -> None:
    """`photos/` and `new_photos/` of cats and dogs, as an example may name them."""
    for name, count in {"photos": 20, "new_photos": 8}.items():
        for number in range(count):
            for kind, pixels in {"cat": pictures.smooth(32, 32, 9 * number), "dog": None}.items():
                image = pictures.noise(number, 32, 32) if pixels is None else pixels
                path = folder / name / kind / f"{number}.png"
                pictures.write(path, pictures.png(image))
