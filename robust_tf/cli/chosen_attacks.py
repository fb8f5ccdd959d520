"""Which attacks `bin/evaluate` runs: those named, those of a battery, or the run's own."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from robust_tf.cli import UserError

if TYPE_CHECKING:
    from robust_tf.runs import Run


def chosen(options: argparse.Namespace, run: Run | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """The attacks, and the settings that belong to them: those of the run if they are its own.

    Args:
      options: of the command.
      run: whose model is attacked; None where there is none.

    Raises:
      UserError, ValueError: options that do not go together, or that name nothing.
    """
    from robust_tf import evaluation
    from robust_tf.evaluation.sources import load_sources, transferred

    for name, example in (("eps", "eps=0.3"), ("step_size", "step_size=0.01")):
        if getattr(options, name) is not None and not options.battery:
            raise UserError(
                f"--{name} is for a battery; attacks name their own: PGD({example}, ...)."
            )
    paths = [path.strip() for path in (options.transfer_from or "").split(",") if path.strip()]
    if options.transfer_from is not None and not paths:
        raise UserError("--transfer_from names no model; give folders of runs or .keras files.")
    if options.battery:
        given = options.battery, options.eps, run, options.step_size, load_sources(paths)
        return of_battery(*given), {}
    attacks, settings = _own_attacks(options, run)
    if paths:
        moved = transferred(attacks.values(), load_sources(paths))
        attacks = evaluation.named(moved)
    return attacks, settings


def _own_attacks(
    options: argparse.Namespace, run: Run | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """As `chosen`, those of --attacks or of the run."""
    from robust_tf import evaluation

    if options.attacks is not None:
        return evaluation.parse_attacks(options.attacks), {}
    own = {} if run is None else run.summary.get("evaluation") or {}
    if run is None or not (own or run.attacks):
        what = "or the --run_dir of a finished run, whose own are the default"
        what = what if run is None else f"{run.path} names none of its own"
        raise UserError(
            'no attacks: give --attacks="PGD(eps=8/255, step_size=2/255, steps=20)", or '
            f"--battery=autoattack; {what}."
        )
    return run.attacks, own


def of_battery(
    path: str,
    eps: str | None,
    run: Run | None,
    step_size: str | None = None,
    sources: Sequence[Callable[..., Any]] = (),
) -> dict[str, Any]:
    """The attacks of a battery at each eps; eps, step_size and steps are the run's by default.

    The norm is that of the run's ball; a run that was trained in several is attacked in each.

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

    if run is not None and len(run.balls) > 1:
        return _in_balls(path, eps, run, step_size, sources)
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
        made = evaluation.battery(path, group, norm, size, steps, sources)
        found += made.values()
    return evaluation.named(found)


def _in_balls(
    path: str,
    eps: str | None,
    run: Run,
    step_size: str | None,
    sources: Sequence[Callable[..., Any]],
) -> dict[str, Any]:
    """The battery in each ball of the run, with steps of eps / 4 where it leaves them open."""
    from robust_tf import evaluation
    from robust_tf.evaluation.attack_names import balls_text

    for name, value in (("eps", eps), ("step_size", step_size)):
        if value is not None:
            raise UserError(
                f"--{name}={value}: {run.path} was trained in several balls "
                f"({balls_text(run.balls)}), each with units of its own; leave it out, "
                "or name attacks: --attacks=\"PGD(eps=0.3, ...); PGD(eps=2, ..., norm='L2')\"."
            )
    steps = run.evaluation_steps or None
    found: list[Any] = []
    for norm, radius in run.balls:
        found += evaluation.battery(path, radius, norm, None, steps, sources).values()
    return evaluation.named(found)
