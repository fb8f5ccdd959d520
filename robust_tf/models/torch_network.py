"""A network built for a checkpoint: what its text leaves open is told by the weights."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras

from robust_tf.models import torch_files, torch_state
from robust_tf.models.classifier import Classifier
from robust_tf.models.cutting import as_classifier
from robust_tf.models.discriminator import Discriminator
from robust_tf.models.network_text import Builder, builder, takes
from robust_tf.models.torch_weights import from_torch

SUFFIXES = (".safetensors", ".pt", ".pth", ".tar")
# Height and width of images by their channels, as MNIST and CIFAR have them.
SIDES = {1: 28, 3: 32}
IMAGENET = 1000  # so many classes are of larger images, and of several sizes


class Read(NamedTuple):
    """A checkpoint in its network.

    Attributes:
      network: with the weights; it carries `weights_source`.
      state: what was found in the file, see `torch_state.State`.
      told: by name, 'input_shape', 'inputs' or 'num_classes', what the file has told.
    """

    network: Any
    state: torch_state.State
    told: dict[str, Any]


def is_checkpoint(path: str) -> bool:
    """Whether a path is named as files of PyTorch weights are."""
    return path.lower().endswith(SUFFIXES)


def read(
    checkpoint: str | os.PathLike[str],
    network: str | Builder | keras.Model,
    *,
    input_range: Any = None,
    entry: str | None = None,
    input_shape: Sequence[int] | None = None,
    num_classes: int | None = None,
) -> Read:
    """Builds a network and puts the weights of a checkpoint into it.

    Args:
      checkpoint: `.safetensors` file, or one of `torch.save`.
      network: text, see `network_text.builder`; or a builder, called with input_shape and
        num_classes, a discriminator's with inputs and num_classes; or a built network.
      input_range: of `from_torch`.
      entry: of `from_torch`.
      input_shape: (H, W, C) of one image, of a discriminator (d,), the values that it judges an
        image by. None: the channels are those of the file's first convolution, the sides 28 for 1
        channel and 32 for 3; d is the number of classes.
      num_classes: None: the width of the file's last dense layer.

    Raises:
      FileError, ImportError: see `from_torch`.
      ValueError: as `from_torch`; the text is wrong; the file does not tell what is not given.
    """
    name = os.fspath(checkpoint)
    given = {"input_shape": input_shape, "num_classes": num_classes}
    made = builder(network) if isinstance(network, str) else network
    built = isinstance(made, keras.Model)
    judges = isinstance(made, Discriminator) or takes(made) == "inputs"
    if built and any(value is not None for value in given.values()):
        raise ValueError("the network is built; input_shape and num_classes are for a builder.")
    content = torch_files.read(checkpoint)
    part = torch_state.TOGETHER[judges]
    told: dict[str, Any] = {}
    if not built:
        shapes = _shapes(torch_state.unpack(content, name, None, entry, part).tensors)
        classes = _classes(shapes, name) if num_classes is None else num_classes
        told = {} if num_classes is not None else {"num_classes": classes}
        if judges:
            inputs = classes if input_shape is None else _one(input_shape)
            made = made(inputs=inputs, num_classes=classes)
        else:
            images = _image_shape(shapes, classes, name) if input_shape is None else input_shape
            told |= {} if input_shape is not None else {"input_shape": tuple(images)}
            if len(images) != 3:
                raise ValueError(f"input_shape={tuple(images)}: must be (height, width, channels).")
            made = made(input_shape=tuple(images), num_classes=classes)
        if not isinstance(made, (Classifier, Discriminator)):
            made = as_classifier(made)
    channels = None if judges else getattr(made, "image_shape", (None,))[-1]
    state = torch_state.unpack(content, name, channels, entry, part)
    del content  # of an old file all weights are in memory
    return Read(from_torch(made, checkpoint, input_range=input_range, entry=entry), state, told)


def _shapes(tensors: Mapping[str, Any]) -> list[tuple[int, ...]]:
    """Shapes of the kernels, in the file's order."""
    named = tensors.items()
    return [tuple(one.shape) for name, one in named if name.rpartition(".")[2] == "weight"]


def _classes(shapes: Sequence[tuple[int, ...]], name: str) -> int:
    """The width of the last layer, which no other takes; files may be in the order of names."""
    dense = [shape for shape in shapes if len(shape) == 2 and shape[0] > 1]
    taken = {shape[1] for shape in dense}
    last = [shape for shape in dense if shape[0] not in taken] or dense
    if not last:
        raise ValueError(
            f"{name} has no dense layer that tells the number of classes: give num_classes "
            "(--num_classes=10)."
        )
    return int(last[-1][0])


def _image_shape(
    shapes: Sequence[tuple[int, ...]], classes: int, name: str
) -> tuple[int, int, int]:
    """The channels that a convolution takes, and the usual sides for so many."""
    found = {shape[1] for shape in shapes if len(shape) == 4}
    channels = 3 if 3 in found else 1 if 1 in found else None
    if channels is None or classes >= IMAGENET:
        why = (
            "has no convolution of 1 or 3 channels"
            if channels is None
            else f"has {classes:,} classes"
        )
        raise ValueError(
            f"{name} {why}, and does not tell the size of images: give input_shape, height, width "
            "and channels (--input_shape=224,224,3)."
        )
    return SIDES[channels], SIDES[channels], channels


def _one(shape: Sequence[int]) -> int:
    if len(shape) != 1:
        raise ValueError(
            f"input_shape={tuple(shape)}: must be one number for a discriminator, of the logits or "
            "features that it judges an image by."
        )
    return int(shape[0])
