"""Batteries: attacks that are run together, each set a gin file under `gin/parts/batteries/`."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any

import gin
import numpy as np

from robust_tf import attacks as library
from robust_tf import files, registration
from robust_tf.attacks import Attack
from robust_tf.evaluation.attack_names import named, norm_of
from robust_tf.evaluation.attack_parser import as_attacks
from robust_tf.validation import check_eps, check_norm, check_number, check_step_size, check_whole

NAMES = ("smoke", "adr", "atld", "st", "autoattack", "full")


@registration.configurable_as("battery")
def bound(attacks: Mapping[str, Attack] | Sequence[Attack] = gin.REQUIRED) -> dict[str, Attack]:
    """The attacks, by name, that a battery's gin file binds as `battery.attacks`."""
    return as_attacks(attacks)


def battery(
    name: str,
    eps: float | Sequence[float],
    norm: str | None = None,
    step_size: float | None = None,
    steps: int = 20,
) -> dict[str, Attack]:
    """The attacks of a battery, by name, as `evaluate` takes them.

    Example:
      evaluate(model, cifar.test, battery("autoattack", eps=8/255))

    gin's configuration is afterwards what it was before.

    Args:
      name: 'smoke' (FGSM, PGD, CW: a first look), 'adr', 'atld', 'st' (those of the papers),
        'autoattack', 'full' (AutoAttack, multi-targeted PGD, PGD with restarts, RayS); or the path
        of a gin file that binds `battery.attacks`, with the macros %eps, %step_size, %steps.
      eps: radius in units of pixels in [0, 1], > 0; or several: all attacks at each.
      norm: 'Linf' or 'L2'; None: that of the file, 'Linf' in the library's own. Attacks that do
        not exist in the norm (RayS in L2) are left out.
      step_size: of PGD and its relatives; None: a quarter of eps.
      steps: of those whose number of steps the battery leaves open, >= 1.

    Raises:
      ConfigurationError, ValueError: no such battery, or a value out of range.
    """
    from robust_tf import recipes  # which stands above this package

    steps = check_whole("battery", "steps", steps, 1)
    radii: list[Any] = [eps] if np.ndim(eps) == 0 else list(eps)  # type: ignore[arg-type]
    for radius in radii:
        check_eps("battery", radius, norm or "Linf")
        check_number("battery", "eps", radius, 0, "8/255, or [4/255, 8/255]", strict=True)
    if norm is not None:
        check_norm("battery", norm)
    if step_size is not None:
        check_step_size("battery", step_size, norm or "Linf")
    path = recipes.find(_path(name))
    used = set(re.findall(r"%(\w+)", files.read_text(path)))
    found: list[Attack] = []
    for radius in radii:
        size = radius / 4 if step_size is None else step_size
        macros = {"eps": float(radius), "step_size": float(size), "steps": steps}
        params = [f"{macro} = {value!r}" for macro, value in macros.items() if macro in used]
        if norm is not None:
            params += [f"{attack}.norm = {norm!r}" for attack in _with_norm()]
        with recipes.parse([path], params).in_force(), recipes.readable():
            found += [a for a in bound().values() if norm is None or norm_of(a) == norm]
    if not found:
        raise ValueError(f"battery {name!r} has no attack in {norm}; leave norm out, or another.")
    return named(found)


def _path(name: str) -> str:
    """The gin file of a battery."""
    if name.endswith(".gin"):
        return name
    if name not in NAMES:
        near = difflib.get_close_matches(name, NAMES, 1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(NAMES)}."
        raise ValueError(f"there is no battery {name!r}; {hint}")
    return f"gin/parts/batteries/{name}.gin"


def _with_norm() -> list[str]:
    """The attacks, by their gin names, whose norm can be chosen; that of RayS is always L-inf."""
    makers = {name: getattr(library, name) for name in library.__all__ if name != "RayS"}
    return [n for n, one in makers.items() if "norm" in inspect.signature(one).parameters]
