"""Batteries: attacks that are run together, each set a gin file under `gin/parts/batteries/`."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gin
import numpy as np

from robust_tf import argument_types, files, registration
from robust_tf import attacks as library
from robust_tf.attacks import Attack
from robust_tf.evaluation.attack_names import named, norm_of
from robust_tf.evaluation.attack_parser import as_attacks
from robust_tf.evaluation.sources import transferred
from robust_tf.validation import check_eps, check_norm, check_number, check_step_size, check_whole

NAMES = ("smoke", "adr", "atld", "st", "quick", "autoattack", "full")
# Their papers keep the step over all eps. On CIFAR-10, whose sweeps end at 32/255, it is 2/255 (and
# ADR's attacks have 20 steps); on MNIST, which is beyond, 0.01 (and 40).
KEPT = ("adr", "atld")
CIFAR10_EPS = 32 / 255


@registration.configurable_as("battery")
def bound(
    attacks: Mapping[str, Attack] | Sequence[Attack] = gin.REQUIRED,
    transfer: Sequence[Attack] = (),
) -> tuple[dict[str, Attack], list[Attack]]:
    """What a battery's gin file binds: attacks by name, and those to be made on other models."""
    return as_attacks(attacks), list(transfer)


@argument_types.checked
def battery(
    name: str,
    eps: float | Sequence[float],
    norm: str | None = None,
    step_size: float | None = None,
    steps: int | None = None,
    sources: Sequence[Callable[..., Any]] = (),
) -> dict[str, Attack]:
    """The attacks of a battery, by name, as `evaluate` takes them.

    Example:
      evaluate(model, cifar.test, battery("autoattack", eps=8/255))

    gin's configuration is afterwards what it was before.

    Args:
      name: 'smoke' (FGSM, PGD, CW: a first look), 'quick' (an estimate of AutoAttack), 'adr',
        'atld', 'st' (those of the papers), 'autoattack', 'full' (AutoAttack, multi-targeted PGD,
        PGD with restarts, RayS); or the path of a gin file that binds `battery.attacks`, with the
        macros %eps, %step_size, %steps.
      eps: radius in units of pixels in [0, 1], > 0; or several: all attacks at each.
      norm: 'Linf', 'L2' or 'L1'; None: that of the file, 'Linf' in the library's own. Attacks that
        do not exist in the norm (RayS in L2 and L1) are left out.
      step_size: of PGD and its relatives (%step_size), at every eps, > 0. None: a quarter of each
        eps; in L-inf 'adr' and 'atld' have one for all, as their papers: 2/255 if no eps is above
        32/255 (CIFAR-10), else 0.01 (MNIST).
      steps: of those whose number of steps the battery leaves open (%steps), >= 1. None: 20; of
        'adr' 40 where its step is 0.01.
      sources: other models on which the attacks that the file binds as `battery.transfer` are made,
        see `transferred`; 'atld' has FGSM, PGD-20 and CW-20.

    Raises:
      ConfigurationError, ValueError: no such battery; a value out of range, or one that nothing in
        the battery takes.
    """
    from robust_tf import recipes  # which stands above this package

    radii: list[Any] = [eps] if np.ndim(eps) == 0 else list(eps)  # type: ignore[arg-type]
    for radius in radii:
        check_eps("battery", radius, norm or "Linf")
        check_number("battery", "eps", radius, 0, "8/255, or [4/255, 8/255]", strict=True)
    if norm is not None:
        check_norm("battery", norm)
    used = macros(name)
    if step_size is not None:
        check_step_size("battery", step_size, norm or "Linf")
        if "step_size" not in used:
            raise ValueError(
                f"step_size={step_size!r}: the battery {name!r} has no attack that takes one; "
                "leave it out."
            )
    kept = name in KEPT and norm in (None, "Linf")
    if kept and step_size is None:
        mnist = max(radii) > CIFAR10_EPS * (1 + 1e-6)
        step_size = 0.01 if mnist else 2 / 255
        steps = 40 if mnist and steps is None else steps
    steps = 20 if steps is None else check_whole("battery", "steps", steps, 1)
    found: list[Attack] = []
    for radius in radii:
        size = radius / 4 if step_size is None else step_size
        values = {"eps": float(radius), "step_size": float(size), "steps": steps}
        params = [f"{macro} = {value!r}" for macro, value in values.items() if macro in used]
        if norm is not None:
            params += [f"{attack}.norm = {norm!r}" for attack in _with_norm()]
        if norm not in (None, "Linf"):
            params.append("RayS.eps = 1.0")  # left out below; it would refuse an eps above 1
        with recipes.parse([recipes.find(_path(name))], params).in_force(), recipes.readable():
            attacks, moved = bound()
        if sources and not moved:
            raise ValueError(
                f"the battery {name!r} names no attacks to be made on another model "
                "(battery.transfer); 'atld' does, or name them: PGD(eps=8/255, ...)."
            )
        both = [*attacks.values(), *transferred(moved, sources)]
        found += [a for a in both if norm is None or norm_of(a) == norm]
    if not found:
        raise ValueError(f"battery {name!r} has no attack in {norm}; leave norm out, or another.")
    return named(found)


def macros(name: str) -> set[str]:
    """The macros in the file of a battery, of 'eps', 'step_size' and 'steps' those that it takes.

    Raises:
      ConfigurationError, ValueError: no such battery.
    """
    from robust_tf import recipes

    return set(re.findall(r"%(\w+)", files.read_text(recipes.find(_path(name)))))


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
