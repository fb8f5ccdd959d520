"""Which attacks a battery stands for, at the eps of the command or of the run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from robust_tf.cli import UserError

if TYPE_CHECKING:
    from robust_tf.runs import Run


def chosen(
    path: str,
    eps: str | None,
    run: Run | None,
    step_size: str | None = None,
    sources: Sequence[Callable[..., Any]] = (),
) -> dict[str, Any]:
    """The attacks of a battery at each eps; eps, step_size and steps are the run's by default.

    The norm is the run's, where that is L2 or L1.

    Args:
      path: name of a battery, or a gin file.
      eps: numbers divided by commas, or None.
      run: whose model is attacked; None where there is none.
      step_size: a number, at every eps; None: see `evaluation.battery`. The run's own is taken at
        its own eps, by the batteries that keep the step at every one.
      sources: see `evaluation.battery`.

    Raises:
      UserError, ValueError: no such battery, no eps, or a value out of range.
    """
    from robust_tf import evaluation
    from robust_tf.evaluation.attack_parser import number
    from robust_tf.evaluation.batteries import KEPT, macros

    own = None if run is None else run.eps
    radii = [number(text) for text in eps.split(",") if text] if eps else [own] if own else []
    if not radii:
        way = "or the --run_dir of a run, whose own it is" if run is None else "the run names none"
        raise UserError(f"no eps: give --eps=8/255; {way}.")
    given = None if step_size is None else number(step_size)
    steps = (run and run.evaluation_steps) or None
    norm = run.threat if run and run.threat in ("L2", "L1") else None
    of_run = run.evaluation_step_size if run and "step_size" in macros(path) else None
    keeps = given is not None or path in KEPT
    found: list[Any] = []
    for group in [radii] if keeps or of_run is None else [[radius] for radius in radii]:
        size = of_run if given is None and (keeps or group == [own]) else given
        made = evaluation.battery(
            path, group, norm=norm, step_size=size, steps=steps, sources=sources
        )
        found += made.values()
    return evaluation.named(found)
