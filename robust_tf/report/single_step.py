"""The report's section on runs that were trained by one gradient step, or none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robust_tf.report.blocks import Block, Cell, Row, Table, Text, count, number, percent
from robust_tf.runs import Run
from robust_tf.runs.results import AttackResult, Result

TEXT = (
    "Trained by one gradient step on each image. Such a network can learn to withstand that step "
    "alone (catastrophic overfitting): its accuracy under one step is then high and under several "
    "steps near 0. The gap is of the same images, one step less the strongest attack by gradients "
    "of more steps at the same eps; AutoAttack is the number to quote."
)
LACK = "not evaluated: FGSM(eps={0}) and PGD(eps={0}, ...) in one evaluation show it"


def single_step(runs: Sequence[Run]) -> list[Block] | None:
    """Accuracy under one and under several steps, of runs trained by one; None without such.

    Runs whose record does not say the number of steps, of versions before, are left out.
    """
    rows = [_row(k, run) for k, run in enumerate(runs) if run.attack_steps == 1]
    if not rows:
        return None
    columns = "Run|Method|Attack steps in training|eps|One step, %|Several steps, %|Gap, points"
    caption = "Accuracy under one step and under several, of runs trained by one step"
    table = Table(caption, f"{columns}|Images|Attacks".split("|"), rows, "single-step")
    return [table, Text(TEXT, "hint")]


def _row(k: int, run: Run) -> Row:
    about = [run.name, run.label, count(1), number(run.eps)]
    found = gap(run.results, run.eps)
    if found is None:
        eps = "..." if run.eps is None else f"{run.eps:.4g}"
        return Row([*about, *[Cell("–")] * 4, LACK.format(eps)], k)
    one, several = found
    values = [float(attack.robust.mean()) for attack in found]
    points = 100 * (values[0] - values[1])
    cells = [*map(percent, values), Cell(f"{points:+.2f}", points), count(len(one.robust))]
    return Row([*about, *cells, f"{one.name}; {several.name}"], k)


def gap(results: Sequence[Result], eps: float | None) -> tuple[AttackResult, AttackResult] | None:
    """The attacks of one and of several gradient steps by which to tell; None where one is missing.

    Of one evaluation of the plain network, that of most images, at the eps of the training: each
    the one that leaves the fewest images robust.
    """
    found: list[tuple[AttackResult, AttackResult]] = []
    for result in results:
        if not result.plain:
            continue
        known = [a for a in result.attacks if a.eps is not None and eps and np.isclose(a.eps, eps)]
        steps = [(getattr(one.attack, "steps", 0), one) for one in known]
        single = [one for number, one in steps if number == 1]
        several = [one for number, one in steps if number > 1]
        if single and several:
            strongest = [min(some, key=lambda one: one.robust.mean()) for some in (single, several)]
            found.append((strongest[0], strongest[1]))
    return max(found, key=lambda pair: len(pair[0].robust)) if found else None
