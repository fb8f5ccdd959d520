"""Keras' preprocessing layers as augmentations, each a function of the example's seed."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from robust_tf import compat, registration
from robust_tf.data.augment import uniform

# Those whose numbers all come from one generator of theirs, in place of which another one is put.
STATELESS = (
    "AutoContrast",
    "Equalization",
    "RandomBrightness",
    "RandomColorDegeneration",
    "RandomColorJitter",
    "RandomContrast",
    "RandomErasing",
    "RandomFlip",
    "RandomGaussianBlur",
    "RandomGrayscale",
    "RandomHue",
    "RandomInvert",
    "RandomPerspective",
    "RandomPosterization",
    "RandomRotation",
    "RandomSaturation",
    "RandomSharpness",
    "RandomShear",
    "RandomTranslation",
    "RandomZoom",
    "Solarization",
)
# Those that draw or compute something of the whole batch: they are called image by image.
_ALONE = (
    ("Equalization", "RandomGaussianBlur") if compat.KERAS_3 else ("RandomContrast", "RandomFlip")
)
_STREAM = 1 << 24  # random numbers of an image that a layer may draw, at most
_INSTEAD = {
    "AugMix": "it draws from Python's random numbers; take data.RandAugment",
    "RandAugment": "take data.RandAugment, whose operations are the paper's",
    "MixUp": "it mixes a batch with itself; take data.Mixup",
    "CutMix": "it mixes a batch with itself; take data.CutMix",
    "RandomElasticTransform": "it also draws numbers that no seed reaches; take RandomPerspective",
    "RandomCrop": "it changes the size of images; take Augmentation(pad=)",
    "RandomHeight": "it changes the size of images; take RandomZoom",
    "RandomWidth": "it changes the size of images; take RandomZoom",
}


@registration.configurable
@dataclasses.dataclass(frozen=True)
class KerasLayers:
    """Keras' preprocessing layers by name, one after the other.

    Their numbers come from the seeds of the examples and not from the layers' own generators, which
    go on from batch to batch. Images are in [0, 1], which a layer with `value_range` is told; what
    comes out is clipped to it.

    Args:
      layers: by name of the layer its arguments: {'RandomRotation': {'factor': 0.05}}. Which there
        are depends on Keras: `KerasLayers.known()`.

    Raises:
      ValueError: a layer that is not known, whose numbers do not come from a seed, or that refuses
        its arguments.
    """

    layers: Mapping[str, Mapping[str, Any]]

    def __post_init__(self) -> None:
        if not isinstance(self.layers, Mapping) or not self.layers:
            raise ValueError(
                f"KerasLayers(layers={self.layers!r}): must be a dict of names with their "
                "arguments, such as {'RandomRotation': {'factor': 0.05}}."
            )
        made = [_made(name, arguments) for name, arguments in self.layers.items()]
        object.__setattr__(self, "_made", made)

    @staticmethod
    def known() -> list[str]:
        """Names of the layers that this Keras has."""
        return [name for name in STATELESS if hasattr(keras.layers, name)]

    def __call__(self, images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        """Images as the layers give them, see `data.augment`."""
        spec = tf.TensorSpec(images.shape[1:], tf.float32)
        drawn = 0
        for name, layer in zip(self.layers, self._made, strict=True):  # type: ignore[attr-defined]

            def apply(images: tf.Tensor, numbers: _Numbers) -> tf.Tensor:
                return _applied(name, layer, images, numbers)  # noqa: B023  # called at once

            if name in _ALONE:

                def one(example: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
                    numbers = _Numbers(example[1][None], drawn)  # noqa: B023
                    return apply(example[0][None], numbers)[0]  # noqa: B023

                images = tf.map_fn(one, (images, seeds), fn_output_signature=spec)
            else:
                images = apply(images, _Numbers(seeds, drawn))
            drawn += _STREAM
        return images


def _applied(
    name: str, layer: keras.layers.Layer, images: tf.Tensor, numbers: _Numbers
) -> tf.Tensor:
    numbers.put_into(layer)
    try:
        made = layer(images, training=True)
    except (ValueError, TypeError, tf.errors.InvalidArgumentError) as error:
        raise ValueError(
            f"KerasLayers: {name} cannot take images {images.shape[1:]}: {error}"
        ) from error
    if not made.shape[1:].is_compatible_with(images.shape[1:]):
        raise ValueError(
            f"KerasLayers: {name} makes {made.shape[1:]} of images {images.shape[1:]}; it must "
            "keep their size."
        )
    made = tf.clip_by_value(tf.cast(made, tf.float32), 0.0, 1.0)
    return tf.ensure_shape(made, images.shape)


def _made(name: str, arguments: Any) -> keras.layers.Layer:
    known = KerasLayers.known()
    if name not in known:
        instead = f": {_INSTEAD[name]}" if name in _INSTEAD else ""
        raise ValueError(
            f"KerasLayers(layers={{{name!r}: ...}}): not one that takes a seed for each image"
            f"{instead}. With Keras {keras.__version__} known are {', '.join(known)}."
        )
    cls = getattr(keras.layers, name)
    taken = inspect.signature(cls.__init__).parameters
    given: dict[str, Any] = {"dtype": "float32"}
    given |= {"value_range": (0.0, 1.0)} if "value_range" in taken else {}
    given |= {"seed": 0} if "seed" in taken else {}
    try:
        return cls(**{**given, **arguments})
    except (ValueError, TypeError) as error:
        raise ValueError(f"KerasLayers: {name} does not take {arguments!r}: {error}") from error


class _Numbers:
    """Gives a layer its random numbers: of each example from its seed, one draw after the other.

    Keras 3 asks its backend for them, Keras 2.15 a generator.
    """

    def __init__(self, seeds: tf.Tensor, first: int):
        self._seeds, self._next = seeds, first

    def put_into(self, layer: keras.layers.Layer) -> None:
        """Into a layer and those that it is made of."""
        for one in layer._flatten_layers():
            if not compat.KERAS_3:
                object.__setattr__(one, "_random_generator", self)
            elif hasattr(one, "backend"):
                real = getattr(one.backend, "real", one.backend)
                object.__setattr__(one, "backend", _Backend(real, self))

    def uniform(
        self, shape: Any, minval: Any = 0.0, maxval: Any = 1.0, dtype: Any = None, seed: Any = None
    ) -> tf.Tensor:
        """In [minval, maxval); the first entry of `shape` is the batch, unless that is one."""
        shape = [size if isinstance(size, int) else tf.get_static_value(size) for size in shape]
        batch = self._seeds.shape[0]
        if batch != 1 and (not shape or shape[0] not in (batch, None)):
            raise ValueError(f"it draws numbers {shape} of a batch of {batch}, not of each image.")
        count = math.prod(shape if batch == 1 else shape[1:])
        numbers = uniform(self._seeds, count, self._next)
        self._next += count
        numbers = tf.reshape(numbers, shape if batch == 1 else [-1, *shape[1:]])
        dtype = tf.as_dtype(dtype or "float32")
        low, high = tf.cast(minval, tf.float32), tf.cast(maxval, tf.float32)
        return tf.cast(low + (high - low) * numbers, dtype)

    def randint(
        self, shape: Any, minval: Any, maxval: Any, dtype: Any = "int32", seed: Any = None
    ) -> tf.Tensor:
        """Integers in [minval, maxval)."""
        return tf.cast(tf.floor(self.uniform(shape, minval, maxval)), dtype)

    def normal(
        self, shape: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = None, seed: Any = None
    ) -> tf.Tensor:
        """Of this mean and deviation, the quantiles of uniform numbers."""
        numbers = self.uniform(shape) + 2.0**-25
        return tf.cast(mean + stddev * tf.math.ndtri(numbers), dtype or "float32")

    # ---- Keras 2.15 --------------------------------------------------------------------------

    def make_seed_for_stateless_op(self) -> tf.Tensor:
        """int32 (2,), for one image."""
        pair = self.uniform([2], -(2.0**31), 2.0**31)
        return tf.cast(pair, tf.int32)

    random_uniform, random_normal = uniform, normal

    def _maybe_init(self) -> None:
        """Nothing: there is no state."""


class _Backend:
    """Keras' backend of a layer, with other random numbers."""

    def __init__(self, real: Any, random: _Numbers):
        self.real, self.random = real, random

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)
