"""Which attacks a battery stands for, at the eps of the command or of the run."""

from __future__ import annotations

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
    from robust_tf import evaluation
    from robust_tf.evaluation.attack_parser import number

    own = None if run is None else run.eps
    radii = [number(text) for text in eps.split(",") if text] if eps else [own] if own else []
    if not radii:
        way = "or the --run_dir of a run, whose own it is" if run is None else "the run names none"
        raise UserError(f"no eps: give --eps=8/255; {way}.")
    steps = (run and run.evaluation_steps) or 20
    attacks: list[Any] = []
    for radius in radii:
        size = run.evaluation_step_size if run is not None and radius == own else None
        attacks += evaluation.battery(path, radius, step_size=size, steps=steps).values()
    return evaluation.named(attacks)
