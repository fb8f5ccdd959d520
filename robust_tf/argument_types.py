"""Arguments against the types that a signature declares, so that each is refused in one sentence.

An argument annotated as `bool`, `int`, `float`, `str`, a class, a list of these, or a choice among
them is held against that; what else is declared (`Any`, a tensor) is left to the function itself.
`float` takes finite numbers, no number may be a bool, and a default is always right.
"""

from __future__ import annotations

import collections.abc
import functools
import inspect
import math
import os
import re
import sys
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from robust_tf.validation import plain

Target = TypeVar("Target", bound=Callable[..., Any])
_WORDS = {
    bool: "True or False",
    int: "an integer",
    float: "a finite number",
    str: "a text",
    type(None): "None",
    None: "None",
}
_SEQUENCES = (collections.abc.Sequence, collections.abc.Iterable, list, tuple)
_MAPPINGS = (collections.abc.Mapping, dict)


def checked(target: Target) -> Target:
    """A function, or class, that refuses arguments of other types than it declares.

    What `registration.configurable` decorates does so, too.

    Raises:
      ValueError: when it is called: `TARGET(NAME=VALUE): must be ...`.
    """
    function = target.__init__ if inspect.isclass(target) else target

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return call_checked(function, target.__name__, args, kwargs)

    if not inspect.isclass(target):
        return cast(Target, call)
    made: Any = target
    made.__init__ = call
    return target


def check(owner: str, name: str, value: Any, annotation: Any) -> None:
    """Raises ValueError for an argument of another type.

    In layers it takes the place of `checked`, as Keras reads their `__init__`.
    """
    if not fits(value, annotation):
        raise ValueError(f"{owner}({name}={value!r}): must be {words(annotation)}.")


def call_checked(
    function: Callable[..., Any], owner: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Calls a function with arguments that are of the types that it declares.

    A constructor looks first, as it says more of what it wants; what it has taken, or has failed
    at without a word on the argument, is then looked at here.

    Args:
      function: or the `__init__` of a class, whose first argument is the object.
      owner: its name, for errors.
      args: by place.
      kwargs: by name.

    Raises:
      ValueError: an argument of another type.
    """
    constructor = function.__name__ == "__init__"
    if not constructor:
        refuse(function, owner, args, kwargs)
        return function(*args, **kwargs)
    try:
        result = function(*args, **kwargs)
    except Exception as error:
        fault = misfit(function, owner, args, kwargs)
        if not fault or _speaks_of(error, fault):
            raise
        raise ValueError(fault) from error
    refuse(function, owner, args, kwargs)
    return result


# A number that may be infinite.
Unbounded = typing.Annotated[float, "may be infinite"]


def refuse(
    function: Callable[..., Any], owner: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """Raises ValueError for the first argument of another type than is declared."""
    fault = misfit(function, owner, args, kwargs)
    if fault:
        raise ValueError(fault)


def misfit(
    function: Callable[..., Any], owner: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> str:
    """The sentence about the first argument of another type than is declared; '' if none is."""
    signature = inspect.signature(function)
    try:
        given = signature.bind(*args, **kwargs).arguments
    except TypeError:
        return ""  # one is missing, or is not known; Python says so
    cls: Any = type(args[0]) if args else None
    wanted = _declared(inspect.unwrap(function), cls)
    for name, value in given.items():
        default = signature.parameters[name].default
        if name in wanted and value is not default and not fits(value, wanted[name]):
            return f"{owner}({name}={value!r}): must be {words(wanted[name])}."
    return ""


def fits(value: Any, annotation: Any) -> bool:
    """Whether a value is of a declared type, as far as the type can be looked at."""
    if annotation is Unbounded:
        return fits(value, float) or plain(value) in (math.inf, -math.inf)
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    number = plain(value)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, one) for one in parts)
    if annotation is Any:
        return True
    if annotation is None or annotation is type(None):
        return value is None
    if annotation is bool:
        return isinstance(number, bool)
    if annotation is int:
        return isinstance(number, int) and not isinstance(number, bool)
    if annotation is float:
        real = isinstance(number, (int, float)) and not isinstance(number, bool)
        return real and (isinstance(number, int) or math.isfinite(number))
    if annotation is str:
        return isinstance(value, (str, os.PathLike))
    if origin is typing.Literal:
        return any(value == one and type(value) is type(one) for one in parts)
    if origin is collections.abc.Callable or annotation is collections.abc.Callable:
        return callable(value)
    if origin in _MAPPINGS:
        return isinstance(value, Mapping)
    if origin in _SEQUENCES:
        return _fits_each(value, parts)
    if inspect.isclass(annotation) and origin is None and not _is_loose(annotation):
        return isinstance(value, annotation)
    return True


def words(annotation: Any) -> str:
    """A declared type in words: 'an integer or None'."""
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(words, parts)))
    if annotation is Unbounded:
        return "a number"
    if annotation in _WORDS:
        return _WORDS[annotation]
    if origin is typing.Literal:
        return f"one of {parts}"
    if origin is collections.abc.Callable:
        return "a function"
    if origin in _MAPPINGS:
        return "a dictionary"
    if origin in _SEQUENCES:
        many = " or ".join(dict.fromkeys(words(one) for one in parts if one is not Ellipsis))
        return f"a list, each {many}" if many and parts != (Any,) else "a list"
    name = getattr(annotation, "__name__", str(annotation))
    return f"{'an' if name[:1] in 'AEIOU' else 'a'} {name}"


def _speaks_of(error: Exception, fault: str) -> bool:
    """Whether an error is one of the checks of a constructor, which say more than `fault`."""
    owner, _, rest = fault.partition("(")
    name = rest.partition("=")[0]
    text = str(error)
    named = re.match(rf"{re.escape(owner)}\b", text) or re.search(rf"\b{name}\b", text)
    return (
        isinstance(error, (ValueError, TypeError))
        and bool(named)
        and f"`{name}`" not in text  # as Keras writes
        and "__init__()" not in text
    )


def _fits_each(value: Any, parts: tuple[Any, ...]) -> bool:
    """Whether a value is a list, or its like, of what a sequence declares."""
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, collections.abc.Iterable):
        return False
    if not isinstance(value, (list, tuple)):
        return True  # arrays, and what can be read once
    own = parts[0] if parts and (len(parts) == 1 or parts[1] is Ellipsis) else None
    if own is not None:
        return all(fits(one, own) for one in value)
    return not parts or len(parts) == len(value) and all(map(fits, value, parts))


def _is_loose(annotation: type) -> bool:
    """Whether a class says little of what is taken in its place: tensors, protocols."""
    return (
        getattr(annotation, "_is_protocol", False)
        or annotation is object
        or annotation.__module__.startswith(("tensorflow", "numpy"))
    )


@functools.cache
def _declared(function: Callable[..., Any], cls: type | None) -> dict[str, Any]:
    """The annotations that can be resolved, by parameter.

    A dataclass takes those of its fields from the modules of the classes that have them.
    """
    found = {}
    bases = cls.__mro__ if cls is not None and function.__name__ == "__init__" else ()
    for name, annotation in function.__annotations__.items():
        places = [vars(sys.modules[base.__module__]) for base in bases if _has(base, name)]
        for place in [*places, getattr(function, "__globals__", {})]:
            try:
                found[name] = eval(annotation, place) if isinstance(annotation, str) else annotation
                break
            except Exception:  # a name that is imported for type checkers alone
                continue
    return found


def _has(base: type, name: str) -> bool:
    return name in vars(base).get("__annotations__", {})
