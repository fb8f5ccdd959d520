"""Checks of the numbers that a user gives; each returns the value as a Python number.

All take Python numbers, NumPy scalars of every kind (bfloat16 too) and arrays without axes. They
refuse tensors, and bool, which Python counts as an integer. An error is one sentence:
`OWNER(NAME=VALUE): must be ...; WAY OUT.`
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

_EPS_HINT = "use 8 / 255 for CIFAR-10, 0.3 for MNIST"
_L1_EPS_HINT = "in L1, a sum over pixels, use 12 for CIFAR-10, 10 for MNIST"
_STEP_HINT = "common are eps / 4, 2 / 255 for CIFAR-10, 0.01 for MNIST"


def check_number(
    owner: str,
    name: str,
    value: Any,
    low: float = 0.0,
    hint: str = "",
    *,
    high: float = math.inf,
    strict: bool = False,
    strict_high: bool = False,
) -> float:
    """A finite number between `low` and `high`.

    Args:
      owner: class or function whose argument it is.
      name: of the argument.
      value: what was given.
      low: least value.
      hint: the way out, without a full stop: "the paper uses 0.75".
      high: greatest value.
      strict: whether `low` itself is refused.
      strict_high: whether `high` itself is refused.

    Raises:
      ValueError: anything else, tensors and text too.
    """
    number = plain(value)
    if isinstance(number, (int, float)) and not isinstance(number, bool):
        above = low < number if strict else low <= number
        below = number < high if strict_high else number <= high
        if above and below and math.isfinite(number):
            return number
    if math.isinf(high):
        allowed = f"a finite number {'>' if strict else '>='} {low:g}"
        allowed = "a finite number" if math.isinf(low) else allowed
    else:
        allowed = f"in {'(' if strict else '['}{low:g}, {high:g}{')' if strict_high else ']'}"
    raise ValueError(_sentence(owner, name, value, allowed, hint))


def check_whole(owner: str, name: str, value: Any, least: int, hint: str = "") -> int:
    """An integer >= `least`; arguments and errors as for `check_number`."""
    number = plain(value)
    if isinstance(number, int) and not isinstance(number, bool) and number >= least:
        return number
    raise ValueError(_sentence(owner, name, value, f"an integer >= {least}", hint))


NORMS = ("Linf", "L2", "L1")


def check_norm(owner: str, norm: Any, among: tuple[str, ...] = NORMS) -> str:
    """A norm's name, of those that the owner knows.

    Raises:
      ValueError: another one.
    """
    if norm not in among:
        raise ValueError(f"{owner}(norm={norm!r}): must be one of {among}.")
    return norm


def check_eps(owner: str, eps: Any, norm: str = "Linf", hint: str = "") -> float:
    """A radius around images in [0, 1]: >= 0, and in L-inf at most 1.

    L2 and L1 sum over all pixels and channels, so their radii have no upper limit.

    Raises:
      ValueError: anything else; for a radius above 1 the error asks whether 255ths were meant.
    """
    hint = hint or (_L1_EPS_HINT if norm == "L1" else _EPS_HINT)
    return _in_pixels(owner, "eps", eps, norm, hint, strict=False)


def check_step_size(
    owner: str, step_size: Any, norm: str = "Linf", name: str = "step_size", hint: str = _STEP_HINT
) -> float:
    """A step of images in [0, 1]: > 0, and in L-inf at most 1; errors as for `check_eps`."""
    return _in_pixels(owner, name, step_size, norm, hint, strict=True)


def _in_pixels(owner: str, name: str, value: Any, norm: str, hint: str, strict: bool) -> float:
    high = 1.0 if norm == "Linf" else math.inf
    number = plain(value)
    if isinstance(number, (int, float)) and high < number < math.inf:
        hint = f"images are in [0, 1], so {name} is a part of that: {number:g}/255?"
    return check_number(owner, name, value, 0.0, hint, high=high, strict=strict)


def plain(value: Any) -> Any:
    """A NumPy scalar, or an array without axes, as the Python number it is; all else as it is."""
    if not isinstance(value, (np.generic, np.ndarray)) or np.ndim(value):
        return value
    if value.dtype.kind == "b":
        return bool(value)
    if value.dtype.kind in "iu":
        return int(value)
    # bfloat16 and its like are of no kind that NumPy knows.
    return float(value) if value.dtype.kind == "f" or "float" in value.dtype.name else value


def plain_fields(config: Any) -> None:
    """Makes Python numbers of the NumPy scalars in the fields of a dataclass, a frozen one too."""
    for field in dataclasses.fields(config):
        object.__setattr__(config, field.name, plain(getattr(config, field.name)))


def _sentence(owner: str, name: str, value: Any, allowed: str, hint: str) -> str:
    end = "" if hint.endswith("?") else "."
    return f"{owner}({name}={value!r}): must be {allowed}{'; ' if hint else ''}{hint}{end}"
