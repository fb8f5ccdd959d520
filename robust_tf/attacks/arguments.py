"""What an attack is given, checked before any work."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import tensorflow as tf

from robust_tf.models.black_box import BlackBox
from robust_tf.models.logits import looks_like_probabilities


def check_model(model: Any) -> None:
    """Raises TypeError unless the model can be called."""
    if not callable(model):
        raise TypeError(
            f"the model is {model!r}; give a Keras model, or any callable from images "
            "(batch, height, width, channels) to logits (batch, classes)."
        )


def is_known(number: Any) -> bool:
    """Whether it is a number, or a tensor that has its value already."""
    return not tf.is_tensor(number) or tf.get_static_value(number) is not None


def known_value(number: Any) -> Any:
    """The number, a tensor's as a NumPy scalar or array."""
    value = tf.get_static_value(number) if tf.is_tensor(number) else number
    return value[()] if isinstance(value, np.ndarray) else value


def check_batch(x: Any, y: Any, soft: bool = False) -> tuple[tf.Tensor, tf.Tensor]:
    """Tensors of images and labels, after the checks that need no values.

    Args:
      x: images, as given to an attack.
      y: labels.
      soft: whether labels may be distributions over the classes, float32 (B, C), too.
    """
    x, y = _tensor("images", x), _tensor("labels", y)
    if x.dtype != tf.float32:
        raise TypeError(
            f"images are {x.dtype.name}; attacks take float32 in [0, 1]: "
            "tf.cast(x, tf.float32), divided by 255 if the pixels are 0..255."
        )
    if x.shape.rank is None or x.shape.rank < 2:
        raise ValueError(f"images have shape {x.shape}; expected (batch, height, width, channels).")
    soft = soft and y.shape.rank == 2 and y.dtype == tf.float32
    if not soft:
        check_labels(y)
    if not x.shape[:1].is_compatible_with(y.shape[:1]):
        raise ValueError(f"{x.shape[0]} images but {y.shape[0]} labels; give one label each.")
    return x, y if soft else tf.cast(y, tf.int32)


def _tensor(what: str, value: Any) -> tf.Tensor:
    try:
        return tf.convert_to_tensor(value)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{what} are of type {type(value).__name__}, which is no array of numbers; attacks "
            "take float32 images (batch, height, width, channels), integer labels (batch,)."
        ) from error


def check_labels(y: tf.Tensor) -> None:
    """Raises unless y are integer class ids of shape (B,)."""
    if y.shape.rank == 2 and y.shape[1] != 1:
        raise ValueError(
            f"labels have shape {y.shape}, which looks one-hot; give class ids of shape (batch,): "
            "tf.argmax(y, axis=1)."
        )
    if y.shape.rank == 2:
        raise ValueError(
            f"labels have shape {y.shape}, a column; expected class ids of shape (batch,): "
            "tf.squeeze(y, axis=1)."
        )
    if y.shape.rank != 1:
        raise ValueError(f"labels have shape {y.shape}; expected class ids of shape (batch,).")
    if not y.dtype.is_integer:
        raise TypeError(f"labels are {y.dtype.name}; expected integer class ids.")


def check_values(x: Any, y: Any, num_classes: int) -> None:
    """Raises ValueError unless images are in [0, 1] and labels in 0..num_classes-1."""
    x, y = np.asarray(x), np.asarray(y)
    if not x.size:
        return
    low, high = float(x.min()), float(x.max())
    if not (low >= 0 and high <= 1):
        hint = "divide by 255" if high > 2 else "clip or rescale them"
        raise ValueError(f"images range over [{low:g}, {high:g}]; expected [0, 1]: {hint}.")
    if y.min() < 0 or y.max() >= num_classes:
        number = int(np.argmax((y < 0) | (y >= num_classes)))
        raise ValueError(
            f"labels range over [{y.min()}, {y.max()}]; the model has {num_classes} classes, "
            f"so expected 0..{num_classes - 1}; the first other label is {y.reshape(-1)[number]}, "
            f"of image number {number}."
        )


def check_logits(logits: tf.Tensor, model: Any = None) -> int:
    """The number of classes of a model's output; warns where it looks like probabilities.

    Those of a `BlackBox` are welcome: no gradient of theirs is taken.
    """
    if logits.shape.rank != 2:
        raise ValueError(
            f"the model returns shape {logits.shape}; expected logits (batch, classes)."
        )
    values = np.asarray(tf.cast(logits, tf.float32))
    if not isinstance(model, BlackBox) and looks_like_probabilities(values):
        warnings.warn(
            "the model returns probabilities, not logits: their gradients vanish where it is sure, "
            "so attacks are far too weak. models.split(model) takes the softmax off; or attack "
            "lambda x: tf.math.log(model(x)).",
            stacklevel=4,
        )
    return int(values.shape[1])
