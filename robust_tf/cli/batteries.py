"""Which attacks a battery stands for, at the eps of the command or of the run."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Any

from robust_tf.cli import UserError

if TYPE_CHECKING:
    from robust_tf.runs import Run


def chosen(path: str, eps: str | None, run: Run | None) -> dict[str, Any]:
    """The attacks of a battery at each eps; eps, step_size and steps are the run's by default.

    Args:
      path: name of a battery, or a gin file.
      eps: numbers divided by commas, or None.
      run: whose model is attacked; None where there is none.

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
    own = None if run is None else run.eps
    radii = [number(text) for text in eps.split(",") if text] if eps else [own] if own else []
    if not radii:
        way = "or the --run_dir of a run, whose own it is" if run is None else "the run names none"
        raise UserError(f"no eps: give --eps=8/255; {way}.")
    used = set(re.findall(r"%(\w+)", files.read_text(path)))
    attacks: list[Any] = []
    for radius in radii:
        if not 0 < radius < float("inf"):
            raise UserError(f"--eps={radius}: must be > 0.")
        step_size = run.evaluation_step_size if run is not None and radius == own else None
        macros = {
            "eps": radius,
            "step_size": step_size or radius / 4,
            "steps": (run and run.evaluation_steps) or 20,
        }
        bindings = [f"{name} = {value!r}" for name, value in macros.items() if name in used]
        loaded = recipes.parse([path], bindings)
        with loaded.in_force(), recipes.readable():
            attacks += battery().values()
    return evaluation.named(attacks)
