"""Decorators that make a class or function known to gin and to Keras, and keep its type.

gin's own decorator is untyped: what it decorates is `Any` for a type checker, and an editor shows
none of its arguments. These two return what they are given, as far as types go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import gin
import keras

Target = TypeVar("Target", bound=Callable[..., Any])
Class = TypeVar("Class", bound=type)


def configurable(target: Target) -> Target:
    """Lets gin bind the arguments of a class or function, under its own name."""
    return gin.configurable(target)


def configurable_as(name: str) -> Callable[[Target], Target]:
    """As `configurable`, under another name: `train.epochs`, not `Recipe.epochs`."""
    return gin.configurable(name)


def serializable(cls: Class) -> Class:
    """Registers a class with Keras as `robust_tf>Name`: files load without `custom_objects`."""
    return keras.saving.register_keras_serializable(package="robust_tf")(cls)
