"""Values that no argument of a kind takes: by the types that the library declares."""

from __future__ import annotations

import collections.abc
import inspect
import math
import types
import typing
from collections.abc import Callable
from typing import Any

import numpy as np

from robust_tf.argument_types import Unbounded

NAN, INF = math.nan, math.inf
# By the kind of an argument, what it never takes. Numbers below 0 are added where none are taken.
NONE_OF = {
    bool: ("yes", 2, 0.5, [True]),
    int: (1.5, NAN, True, "3", -1, [3], 10**400 + 0.5 if False else INF),
    float: (NAN, INF, -INF, True, "0.3", [0.1], -1.0, 1j, np.array([0.1, 0.2])),
    str: ("no such name", 3, ["Linf"], ""),
    "sequence": ("abc", 3, [None]),
    "object": ("PGD", 3, object),
    "builder": ("CNN", 3),
}


def kinds(annotation: Any) -> tuple[set[Any], bool]:
    """The kinds of an annotation, and whether None is among them."""
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        parts = [kinds(one) for one in typing.get_args(annotation)]
        found = set().union(*(own for own, _ in parts))
        return found, any(optional for _, optional in parts)
    if annotation in (None, type(None)):
        return set(), True
    if annotation in (Any, Unbounded):
        return {Any}, True
    if origin is typing.Literal:
        return {str}, False
    if origin is collections.abc.Callable:
        return {"builder"}, False
    if origin in (collections.abc.Sequence, collections.abc.Mapping, list, tuple, dict):
        return {"sequence"}, False
    if annotation in (bool, int, float, str):
        return {annotation}, False
    return {"object"}, False


def refused(annotation: Any) -> list[Any]:
    """What an argument of this annotation never takes."""
    found, optional = kinds(annotation)
    if Any in found:
        return []
    if found == {float, "sequence"} or found == {int, "sequence"}:
        values: list[Any] = [NAN, True, "0.3", [None], -1]
    elif len(found) == 1:
        values = list(NONE_OF[next(iter(found))])
    else:
        values = ["no such thing", 3, object]
    return values if optional else [None, *values]


def annotations(target: Callable[..., Any]) -> dict[str, Any]:
    """The annotation of each parameter, resolved."""
    function = target.__init__ if inspect.isclass(target) else target
    function = inspect.unwrap(function)
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except NameError:  # imported for type checkers alone
        hints = {}
    return {
        name: hints.get(name, Any)
        for name, one in inspect.signature(target).parameters.items()
        if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
    }
