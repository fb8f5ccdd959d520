"""Where TensorFlow has to look for Python's control flow in code that it traces."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from robust_tf import compat

_VALUES = (type(None), bool, int, float, str, bytes, np.generic, np.ndarray, tf.Tensor, tf.Variable)


def is_needed(*parts: Any) -> bool:
    """Whether code of these objects may have an `if` or `for` on tensors.

    AutoGraph turns these into operations, and to do so rewrites every function that is called,
    which takes more than half of the time in which an attack is traced. This library's own code
    has none of them, and Keras 3 has its layers called as they are. So only what users bring needs
    it: functions, and classes of their own.

    Args:
      parts: models, attacks, settings; what a dataclass or a sequence holds is looked at, too.
    """
    return any(map(_may_branch, parts))


def is_own(cls: type) -> bool:
    """Whether this is a class of the library."""
    return cls.__module__.partition(".")[0] == __name__.partition(".")[0]


def _may_branch(part: Any) -> bool:
    if isinstance(part, _VALUES):
        return False
    if isinstance(part, keras.layers.Layer):
        called = type(part).__call__.__module__
        return not compat.KERAS_3 or called.partition(".")[0] != "keras"
    if isinstance(part, (tuple, list)):
        return is_needed(*part)
    if isinstance(part, dict):
        return is_needed(*part.values())
    if dataclasses.is_dataclass(part) and is_own(type(part)):
        return is_needed(*(getattr(part, field.name) for field in dataclasses.fields(part)))
    return True
