"""Decorators that make a class or function known to gin and to Keras, and keep its type.

gin's own decorator is untyped: what it decorates is `Any` for a type checker, and an editor shows
none of its arguments. These return what they are given, as far as types go. And gin adds an account
of its calls to the message of every error inside, which means nothing to those who use no gin; here
errors pass as they were raised, and remember the gin names in `gin_calls`. What is given is held
against the types that are declared, see `argument_types`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast

import gin
import keras

from robust_tf import argument_types

Target = TypeVar("Target", bound=Callable[..., Any])
Class = TypeVar("Class", bound=type)


def configurable(target: Target) -> Target:
    """Lets gin bind the arguments of a class or function, under its own name."""
    return configurable_as(target.__name__)(target)


def configurable_as(name: str, typed: bool = True) -> Callable[[Target], Target]:
    """As `configurable`, under another name: `train.epochs`, not `Recipe.epochs`.

    Args:
      name: for gin.
      typed: whether arguments are held against the declared types before a function is called;
        False: it does so itself, as it says more.
    """

    def decorate(target: Target) -> Target:
        if not inspect.isclass(target):
            return cast(Target, _registered(target, name, typed))
        made: Any = target
        made.__init__ = _before_gin(made.__init__, name)
        gin.configurable(name)(made)
        made.__init__ = _after_gin(made.__init__, name)
        return target

    return decorate


def external(cls: Class, module: str) -> Class:
    """Lets gin make a class of another library, under its own name; the class stays as it is."""

    def build(*args: Any, **kwargs: Any) -> Any:
        return cls(*args, **kwargs)

    build.__name__ = build.__qualname__ = cls.__name__
    build.__module__, build.__doc__ = module, cls.__doc__
    build.__signature__ = inspect.signature(cls)  # type: ignore[attr-defined]  # gin reads it
    return cast(Class, configurable(build))


def serializable(cls: Class) -> Class:
    """Registers a class with Keras as `robust_tf>Name`: files load without `custom_objects`.

    One of a user's as `my_lab>Name`, so that it can have the name of one of the library's.
    """
    package = cls.__module__.partition(".")[0]
    return keras.saving.register_keras_serializable(package=package)(cls)


class _Passing(BaseException):
    """An error on its way through gin's decorator, which changes the message of any `Exception`."""

    def __init__(self, error: Exception):
        super().__init__()
        self.error = error


def _registered(function: Callable[..., Any], name: str, typed: bool = True) -> Callable[..., Any]:
    inner = _before_gin(function, name, typed)
    outer = _after_gin(gin.configurable(name)(inner), name)
    # gin's references, @PGD(), call what is registered.
    entry = gin.config._INVERSE_REGISTRY[inner]._replace(wrapper=outer)
    gin.config._INVERSE_REGISTRY[inner] = gin.config._REGISTRY[entry.selector] = entry
    return outer


def _before_gin(function: Callable[..., Any], name: str, typed: bool = True) -> Callable[..., Any]:
    """What gin is to decorate: its arguments are checked, its errors pass gin unchanged."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            if not typed:
                return function(*args, **kwargs)
            return argument_types.call_checked(function, name, args, kwargs)
        except Exception as error:
            raise _Passing(error) from error.__cause__

    call.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]  # gin reads it
    return call


def _after_gin(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """What gin has decorated, its errors as they were raised."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except _Passing as passing:
            error = passing.error
        scope = gin.current_scope_str()
        calls = error.__dict__.setdefault("gin_calls", [])
        calls.append(f"{scope}/{name}" if scope else name)
        raise error

    call.__dict__.pop("__signature__", None)  # Keras goes by it, and must not
    return call
