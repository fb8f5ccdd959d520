"""The pixels that a model wants, put inside it, so that eps stays in units of [0, 1]."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from robust_tf import argument_types, compat, registration
from robust_tf.models.classifier import Classifier, WholeClassifier, image_shape_of
from robust_tf.models.split import SplitClassifier

# `keras.applications.imagenet_utils.preprocess_input`, whose images are 0..255, by its `mode`:
# scale and offset for images in [0, 1], and whether the channels are reversed.
MODES: dict[str, tuple[Any, Any, bool]] = {
    "tf": (2.0, -1.0, False),
    "torch": (
        tuple(1 / deviation for deviation in (0.229, 0.224, 0.225)),
        tuple(-m / d for m, d in zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)),
        False,
    ),
    "caffe": (255.0, (-103.939, -116.779, -123.68), True),
}


@registration.serializable
class InputRange(keras.layers.Layer):
    """x * scale + offset of images in [0, 1], float32 under every dtype policy.

    Args:
      scale: a number, or one for each channel.
      offset: likewise.
      reverse: whether channels are reversed before, RGB -> BGR.
    """

    def __init__(
        self,
        scale: float | Sequence[float],
        offset: float | Sequence[float] = 0.0,
        reverse: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**{**kwargs, "dtype": "float32"})
        for name, value in (("scale", scale), ("offset", offset)):
            argument_types.check("InputRange", name, value, float | Sequence[float])
        argument_types.check("InputRange", "reverse", reverse, bool)
        self.scale, self.offset = _plain(scale), _plain(offset)
        self.reverse = bool(reverse)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Images (B, H, W, C) in the range of the model."""
        x = tf.reverse(inputs, [-1]) if self.reverse else inputs
        x = x * tf.constant(self.scale, tf.float32)
        return x + tf.constant(self.offset, tf.float32) if np.any(self.offset) else x

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        own = {"scale": self.scale, "offset": self.offset, "reverse": self.reverse}
        return {**super().get_config(), **own}


def with_input_range(
    model: keras.Model,
    wanted: float | Sequence[float] | str | Mapping[str, Any] | keras.layers.Layer,
) -> keras.Model:
    """A model of images in [0, 1] around one that wants other pixels; the weights are shared.

    Attacks, training and evaluation take images in [0, 1], and eps is in their units. Where a
    model wants other pixels it must have them made inside, or every attack is 255 times too weak,
    or the images are nearly black to it.

    Args:
      model: built Keras model, or `SplitClassifier`.
      wanted: 255.0 for images in [0, 255]; (-1, 1), the lowest and highest value; 'tf', 'torch' or
        'caffe', the `mode` of `keras.applications`' `preprocess_input`; {'mean': ..., 'std': ...},
        numbers or one for each channel, for (x - mean) / std; or a Keras layer that makes them of
        images in [0, 1].

    Returns:
      A model of the same kind; of a subclassed model, a functional one that calls it.

    Raises:
      TypeError: a plain function, which cannot be saved.
      ValueError: an unknown mode, an empty range, a model that is not built.

    >>> model = models.with_input_range(keras.applications.ResNet50(weights=None), "caffe")
    """
    if not isinstance(model, keras.Model):
        raise TypeError(f"models.with_input_range: expected a Keras model, got {model!r}.")
    shape = image_shape_of(model)
    if shape is None or (isinstance(model, keras.Sequential) and not compat.is_graph(model)):
        raise ValueError(
            f"models.with_input_range: the model {model.name!r} is not built; call it on images "
            "once, model(tf.zeros((1, height, width, channels)))."
        )
    layer = input_range(wanted, shape)
    made: Classifier
    if isinstance(model, SplitClassifier):
        generator = _behind(layer, model.generator, shape)
        made = SplitClassifier(generator, model.classifier, name=model.name)
    elif isinstance(model, WholeClassifier):
        inner = _behind(layer, model.model, shape)
        made = WholeClassifier(inner, shape, model.output_key, name=model.name)
    else:
        return _behind(layer, model, shape)
    made.weights_source = model.weights_source
    return made


def _behind(layer: Any, model: Any, shape: Sequence[int | None]) -> keras.Model:
    images = keras.Input(tuple(shape), name="images")
    if isinstance(model, keras.Sequential):
        layers = [one for one in model.layers if not isinstance(one, keras.layers.InputLayer)]
        return keras.Sequential([images, layer, *layers], name=model.name)
    return keras.Model(images, model(layer(images)), name=model.name)


def input_range(wanted: Any, shape: Sequence[int | None]) -> keras.layers.Layer:
    """The layer that makes of images in [0, 1] what a model wants; see `with_input_range`."""
    if isinstance(wanted, keras.layers.Layer):
        return wanted
    if isinstance(wanted, str):
        if wanted not in MODES:
            raise ValueError(
                f"models.with_input_range({wanted!r}): must be one of {tuple(MODES)}, a range, or "
                "a layer."
            )
        if wanted != "tf" and shape[-1] != 3:
            raise ValueError(
                f"models.with_input_range({wanted!r}): is of 3 channels, the model has {shape[-1]}."
            )
        scale, offset, reverse = MODES[wanted]
        return InputRange(scale, offset, reverse, name="input_range")
    if callable(wanted):
        raise TypeError(
            f"models.with_input_range: {getattr(wanted, '__name__', wanted)!r} is a function, "
            "which a saved model cannot hold; give a Keras layer, or for a preprocess_input of "
            "keras.applications its mode, 'tf', 'torch' or 'caffe'."
        )
    if isinstance(wanted, Mapping):
        return _normalized(wanted, shape[-1])
    ends = (0.0, wanted) if np.ndim(wanted) == 0 else tuple(wanted)
    if len(ends) != 2 or not np.isfinite(ends).all() or ends[0] >= ends[1]:
        raise ValueError(
            f"models.with_input_range({wanted!r}): must be the highest value, such as 255.0, or "
            "the lowest and highest, such as (-1, 1)."
        )
    low, high = map(float, ends)
    return InputRange(high - low, low, name="input_range")


def _normalized(wanted: Mapping[str, Any], channels: int | None) -> InputRange:
    """(x - mean) / std."""
    if set(wanted) != {"mean", "std"}:
        raise ValueError(
            f"models.with_input_range({dict(wanted)!r}): must have 'mean' and 'std', and no more."
        )
    mean, deviation = (np.asarray(wanted[key], np.float64) for key in ("mean", "std"))
    sizes = {one.size for one in (mean, deviation)} - {1}
    finite = np.isfinite(mean).all() and np.isfinite(deviation).all()
    if not finite or np.any(deviation <= 0) or mean.ndim > 1 or deviation.ndim > 1:
        raise ValueError(
            f"models.with_input_range({dict(wanted)!r}): must be finite numbers, std > 0, one or "
            "one for each channel."
        )
    if sizes - {channels}:
        raise ValueError(
            f"models.with_input_range({dict(wanted)!r}): is of {max(sizes)} channels, the model "
            f"has {channels}."
        )
    if np.any(np.abs(mean) > 1):
        raise ValueError(
            f"models.with_input_range({dict(wanted)!r}): is of pixels in [0, 255]; divide by 255, "
            "images are in [0, 1]."
        )
    return InputRange(_plain(1 / deviation), _plain(-mean / deviation), name="input_range")


def _plain(value: Any) -> Any:
    """A float, or a list of them, as JSON has it."""
    return np.asarray(value, np.float64).tolist()
