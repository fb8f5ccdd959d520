"""Which attacks a battery stands for, at the eps of the command or of the run."""

from __future__ import annotations

import difflib
import re
from typing import Any

from robust_tf.cli import UserError


def numbers_of(summary: dict[str, Any]) -> dict[str, float]:
    """The macros of a run's configuration that are numbers: eps, evaluation_steps, ..."""
    from robust_tf.evaluation import bindings

    return bindings.numbers(summary.get("configuration") or "")


def chosen(path: str, eps: str | None, summary: dict[str, Any]) -> dict[str, Any]:
    """The attacks of a battery at each eps; eps, step_size and steps are the run's by default.

    Args:
      path: name of a battery, or a gin file.
      eps: numbers divided by commas, or None.
      summary: of the run; empty where there is none.

    Raises:
      UserError: no such battery, no eps, or one that is not > 0.
    """
    from robust_tf import evaluation, files, recipes
    from robust_tf.evaluation.attack_parser import number
    from robust_tf.evaluation.batteries import NAMES, battery

    if not path.endswith(".gin"):
        near = difflib.get_close_matches(path, NAMES, 1)
        if path not in NAMES:
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(NAMES)}."
            raise UserError(f"there is no battery {path!r}; {hint}")
        path = f"gin/parts/batteries/{path}.gin"
    path = recipes.find(path)
    own = numbers_of(summary)
    radii = [number(text) for text in (eps or str(own.get("eps", ""))).split(",") if text]
    if not radii:
        raise UserError("no eps: give --eps=8/255, or the --run_dir of a run, whose own it is.")
    used = set(re.findall(r"%(\w+)", files.read_text(path)))
    attacks: list[Any] = []
    for radius in radii:
        if not 0 < radius < float("inf"):
            raise UserError(f"--eps={radius}: must be > 0.")
        same = radius == own.get("eps")
        macros = {
            "eps": radius,
            "step_size": own.get("evaluation_step_size", radius / 4) if same else radius / 4,
            "steps": int(own.get("evaluation_steps", 20)),
        }
        bindings = [f"{name} = {value!r}" for name, value in macros.items() if name in used]
        loaded = recipes.parse([path], bindings)
        with loaded.in_force(), recipes.readable():
            attacks += battery().values()
    return evaluation.named(attacks)
