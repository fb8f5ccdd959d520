"""Verdicts on test images that the folder of a run holds, found by what the attack is."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np

from robust_tf import compat
from robust_tf.evaluation import parse_attacks
from robust_tf.report.entries import flags_of
from robust_tf.runs import Run, is_finished, read_run
from robust_tf.runs.results import Result
from robust_tf.studies.plan import Plan
from robust_tf.studies.study import NATURAL, RUN, WORST, Row, is_adaptive

SEED = 0  # of the attacks of a study, whatever the training's
MARK = "study"  # in a result file: by column, what `mark` gives


@dataclasses.dataclass(frozen=True, eq=False)
class RowVerdicts:
    """What is known of one row and seed.

    Attributes:
      columns: by name of a column, bool (n,): whether each of the first n test images is robust.
      seconds: that the attacks of a column took.
      dtypes: in what the attacks computed, where an evaluation says so.
      collapsed: the network gives all images one class.
      flags: titles of the signs of a weak evaluation, see `entries.flags_of`.
    """

    columns: dict[str, np.ndarray]
    seconds: dict[str, float]
    dtypes: set[str]
    collapsed: bool
    flags: list[str] = dataclasses.field(default_factory=list)


def applies(row: Row, text: str) -> bool:
    """Whether a column is for this row: adaptive attacks are for a defense alone."""
    return not is_adaptive(text) or bool(row.inference)


def read(plan: Plan, row: Row, seed: int) -> RowVerdicts | None:
    """The verdicts in the folder of a finished run; None where it is not finished."""
    folder = plan.run_dir(row, seed)
    if not is_finished(folder):
        return None
    run = read_run(folder, tolerant=True)
    results = [one for one in run.results if one.first and _kind(one) == row.inference]
    flags = [flag.get("name") for one in results for flag in one.evaluation.flags]
    found = RowVerdicts({}, {}, set(), "collapsed" in flags, flags_of(results))
    sizes = {column: _size(plan, column, run) for column in plan.study.attacks}
    naturals = [one.evaluation.natural for one in results]
    if naturals:
        size = plan.study.examples_of(NATURAL, plan.budget)
        found.columns[NATURAL] = max(naturals, key=len)[:size]
    for column, text in plan.study.attacks.items():
        for result in results if applies(row, text) else ():
            robust = _robust(plan, run, result, column, row, seed)
            if robust is not None and len(robust[0]) >= sizes[column]:
                found.columns[column] = robust[0][: sizes[column]]
                found.seconds[column] = robust[1]
                found.dtypes.add(str(result.evaluation.settings.get("search_dtype") or "as is"))
                break
    asked = [column for column, text in plan.study.attacks.items() if applies(row, text)]
    if len(plan.study.attacks) > 1 and all(column in found.columns for column in asked):
        least = min(len(found.columns[column]) for column in asked)
        verdicts = [found.columns[column][:least] for column in asked]
        found.columns[WORST] = np.logical_and.reduce(verdicts)
    return found


def missing(plan: Plan, row: Row, seed: int) -> dict[str, str]:
    """The attacks that a finished run has not seen yet, by column."""
    found = read(plan, row, seed)
    known = {} if found is None else found.columns
    asked = plan.study.attacks.items()
    return {c: text for c, text in asked if c not in known and applies(row, text)}


def _size(plan: Plan, column: str, run: Run) -> int:
    """Test images that a column asks for."""
    whole = run.data.get("test") or len(next(iter(run.results)).evaluation)
    return min(plan.study.examples_of(column, plan.budget) or whole, whole)


def _kind(result: Result) -> str:
    return str((result.inference or {}).get("kind") or "")


def _robust(
    plan: Plan, run: Run, result: Result, column: str, row: Row, seed: int
) -> tuple[np.ndarray, float] | None:
    """Verdicts under all attacks of a column, and seconds; None where one was not run.

    Attacks are known by their settings where text alone says what they are, whoever ran them; those
    at another run, and behind a defense, by the mark of the study that ran them.
    """
    text = plan.study.attacks[column]
    settings, outcomes = result.evaluation.settings, result.evaluation.outcomes
    if settings.get("seed", SEED) not in (SEED, seed):
        return None
    if run.precision != "float32" and not settings.get("search_dtype") and not row.inference:
        return None  # judged in bfloat16, as the run's own evaluation is
    if row.inference or RUN.search(text):
        marked = run.reports[result.file].get(MARK, {}).get(column)
        if not marked or {**marked, "names": None} != mark(plan, column, row, seed):
            return None
        names = marked["names"]
    else:
        by_config = {canonical(config): name for name, config in settings["attacks"].items()}
        wanted = [canonical(compat.serialize(one)) for one in parse_attacks(text).values()]
        names = [by_config.get(one) for one in wanted]
    if not names or not set(names) <= set(outcomes):
        return None
    robust = np.logical_and.reduce([outcomes[name].robust for name in names])
    return robust, sum(outcomes[name].seconds for name in names)


def mark(
    plan: Plan, column: str, row: Row, seed: int, names: list[str] | None = None
) -> dict[str, Any]:
    """What makes an attack of a study the same again, where its settings cannot tell.

    Args:
      plan: of the study.
      column: name of the column.
      row: which is attacked.
      seed: of its run.
      names: of the column's attacks in the result.

    Returns:
      'text', 'weights' (fingerprint of the attacked network), 'sources' (those of the rows at whose
      runs the attack is made) and 'names'.
    """
    text = plan.study.attacks[column]
    sources = {n: _weights(plan, plan.study.row(n), seed) for n in RUN.findall(text)}
    own = {"text": text, "weights": _weights(plan, row, seed), "sources": sources}
    return {**own, "names": names}


def _weights(plan: Plan, row: Row, seed: int) -> str | None:
    folder = plan.run_dir(row, seed)
    return read_run(folder, tolerant=True).fingerprint if is_finished(folder) else None


def canonical(config: Any) -> str:
    """An attack's configuration as text, equal for equal attacks."""
    return json.dumps(json.loads(json.dumps(config)), sort_keys=True)
