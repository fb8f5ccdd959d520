"""The rows of a leaderboard: what was measured of one network, over its seeds."""

from __future__ import annotations

import dataclasses
import os
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from robust_tf.evaluation import reproduce_command
from robust_tf.evaluation.checks import weak_battery
from robust_tf.report import papers, reproduce
from robust_tf.runs import Result, Run
from robust_tf.runs.results import Ball
from robust_tf.runs.worst_case import headline, why_none

HERE, PUBLISHED = "here", "published"
NOT_CHECKED, NOT_TOLD = "not looked for", "not recorded"


@dataclasses.dataclass(frozen=True)
class Entry:
    """One row.

    Attributes:
      name: of the run, the row of a study, the file, or the published model.
      robust: by seed, '' where none is told: accuracy in the worst case, in [0, 1].
      examples: images of the worst case.
      data, network, method: names; '' where nothing tells them.
      balls: norm and radius of the threat model; of a union of balls several.
      natural: as `robust`, of clean images.
      attacks: of the worst case, by kind.
      training_seconds: mean over seeds; None where it is not known.
      evaluation_seconds: of all attacks, mean over seeds; None where it is not known.
      attack_steps: gradient steps of the training attack, 0 without one; None where not known.
      flags: titles of signs of a weak evaluation; `NOT_CHECKED` where nobody looked for them,
        `NOT_TOLD` where the file does not say.
      commands: that give it again.
      source: files, relative to the folder; of a published one the publication.
      weights: fingerprints of its networks.
      origin: `HERE` or `PUBLISHED`.
    """

    name: str
    robust: Mapping[str, float]
    examples: int
    data: str = ""
    network: str = ""
    method: str = ""
    balls: Sequence[Ball] = ()
    natural: Mapping[str, float] = dataclasses.field(default_factory=dict)
    attacks: Sequence[str] = ()
    training_seconds: float | None = None
    evaluation_seconds: float | None = None
    attack_steps: int | None = None
    flags: Sequence[str] = ()
    commands: Sequence[str] = ()
    source: str = ""
    weights: frozenset[str] = frozenset()
    origin: str = HERE

    @property
    def worst(self) -> float:
        """Mean of the worst cases over seeds."""
        return float(np.mean(list(self.robust.values())))

    @property
    def autoattack(self) -> bool:
        """Whether AutoAttack was among the attacks."""
        return "AutoAttack" in self.attacks


class LeftOutError(ValueError):
    """Something that is evaluated and gives no row; the message says why."""


def of_runs(runs: Sequence[Run]) -> Entry:
    """The row of runs that differ in their seed only, or of one run.

    Raises:
      LeftOutError: no worst case can be told of one, or they were not evaluated alike.
    """
    best = {}
    for run in runs:
        found = headline(run.results, run.balls)
        if found is None:
            raise LeftOutError(f"{run.name}: {why_none(run.results, run.balls)}")
        best[_seed(run)] = found
    alike = {(one["examples"], tuple(one["attacks"])) for one in best.values()}
    if len(alike) > 1:
        names = ", ".join(run.name for run in runs)
        raise LeftOutError(f"{names} differ in their seed and were not evaluated alike")
    [(examples, attacks)] = alike
    first = runs[0]
    plain = [[one for one in run.results if one.plain] for run in runs]
    took = [run.summary.get("training_seconds") for run in runs]
    seconds = [float(s) for s in took if isinstance(s, (int, float))]
    return Entry(
        _common(runs),
        {seed: float(one["robust"].mean()) for seed, one in best.items()},
        examples,
        str(first.data.get("name") or ""),
        str(first.network.get("builder") or ""),
        first.label,
        first.balls,
        {seed: float(one["natural"].mean()) for seed, one in best.items()},
        attacks,
        float(np.mean(seconds)) if len(seconds) == len(runs) else None,
        float(np.mean([_seconds(results) for results in plain])),
        first.attack_steps,
        flags_of([one for results in plain for one in results]),
        [line for run in runs for line in reproduce.commands(run)],
        ", ".join(run.name for run in runs),
        frozenset(run.fingerprint for run in runs if run.fingerprint),
    )


def defended(run: Run, result: Result) -> Entry:
    """The row of a run behind a defense at inference, of one evaluation of it."""
    kind = str((result.inference or {}).get("kind", "defended")).upper()
    plain = of_results(f"{run.name}, {kind}", [result], run)
    return dataclasses.replace(plain, method=" ".join(filter(None, [run.label, kind])))


def balls_of(results: Sequence[Result]) -> list[Sequence[Ball]]:
    """The threat models in which results of a model have attacks, each once."""
    found = [tuple(a.balls) for one in results for a in one.attacks if a.distance is None]
    return list(dict.fromkeys(balls for balls in found if all(eps for _, eps in balls)))


def of_results(
    name: str,
    results: Sequence[Result],
    run: Run | None = None,
    balls: Sequence[Ball] | None = None,
    about: Mapping[str, Any] | None = None,
) -> Entry:
    """The row of evaluations of one model, which is not a run or is behind a defense.

    Args:
      name: to show.
      results: of one model.
      run: that they are of, where it is known.
      balls: the threat model; None: that of the run.
      about: content of the first one's file: 'model' or 'run_dir', 'weights_source'.

    Raises:
      LeftOutError: no worst case can be told.
    """
    about = about or {}
    balls = (run.balls if run else ()) if balls is None else balls
    first = results[0]
    if first.inference:  # all that it was attacked by, knowing of the defense or not
        examples = len(first.evaluation)
        natural, robust = first.evaluation.natural, first.evaluation.worst_case
        attacks = list(dict.fromkeys(one.kind for one in first.attacks))
    else:
        found = headline(results, balls)
        if found is None:
            raise LeftOutError(f"{name}: {why_none(results, balls)}")
        examples, natural, robust = found["examples"], found["natural"], found["robust"]
        attacks = found["attacks"]
    source = about.get("weights_source")
    source = source if isinstance(source, dict) else {}
    seed = _seed(run) if run else ""
    return Entry(
        name,
        {seed: float(robust.mean())},
        examples,
        str(first.data.get("name") or (run.data.get("name") if run else "") or ""),
        str((run.network.get("builder") if run else source.get("program")) or ""),
        run.label if run else str((first.inference or {}).get("kind") or "").upper(),
        balls,
        {seed: float(natural.mean())},
        attacks,
        None,
        _seconds(results),
        run.attack_steps if run else None,
        flags_of(results),
        [_command(one, about, run) for one in results],
        ", ".join(one.file for one in results),
        frozenset(str(m) for one in results if (m := one.evaluation.settings.get("model"))),
    )


def published() -> list[Entry]:
    """The models of the published tables that are marked for leaderboards."""
    return [
        Entry(
            title,
            {"": values[one["columns"].index("AutoAttack")] / 100},
            one["images"],
            one["data"],
            balls=(("Linf", one["eps"]),),
            natural={"": values[one["columns"].index("natural")] / 100},
            attacks=("AutoAttack",),
            source=one["source"],
            origin=PUBLISHED,
        )
        for one in papers.paper_tables()
        if one.get("leaderboard")
        for title, values in one["rows"]
    ]


def _seed(run: Run) -> str:
    return "" if run.seed is None else str(run.seed)


def _common(runs: Sequence[Run]) -> str:
    """The name of a run; of several the folder above them, where it is one, else the first."""
    if len(runs) == 1:
        return runs[0].name
    above = {os.path.dirname(run.name) for run in runs}
    return above.pop() if len(above) == 1 and "" not in above else runs[0].name


def _seconds(results: Sequence[Result]) -> float:
    return sum(attack.seconds for one in results for attack in one.attacks)


def flags_of(results: Sequence[Result]) -> list[str]:
    """Titles of the flags, each once; `NOT_CHECKED` where there is none and nobody looked.

    That the attacks of one evaluation are weak is none where all of them together are not.
    """
    attacks = {str(k): a for k, a in enumerate(a.attack for one in results for a in one.attacks)}
    known = {name: attack for name, attack in attacks.items() if attack is not None}
    enough = weak_battery(known) is None if known else False
    found = [flag for one in results for flag in one.evaluation.flags]
    found = [flag for flag in found if not (enough and flag.get("name") == "weak_battery")]
    titles = list(dict.fromkeys(str(flag["title"]) for flag in found if flag.get("title")))
    looked = any(one.evaluation.settings.get("checks") is True for one in results)
    return titles or ([] if looked else [NOT_CHECKED])


def _command(one: Result, about: Mapping[str, Any], run: Run | None) -> str:
    """The command behind an evaluation, or that there is none."""
    place = run.path if run else str(about.get("run_dir") or about.get("model") or "")
    found = reproduce_command.command(
        place, one.evaluation, one.data, one.inference, imports=one.imports
    )
    if found and not run and not about.get("run_dir"):
        quoted = shlex.quote(place)
        found = found.replace(f"--run_dir={quoted}", f"--model={quoted}", 1)
        if place.endswith((".pt", ".pth", ".safetensors")):  # which the file does not say
            found += "  # and its --network"
    return found or f"# {one.file}: {reproduce_command.UNSAID}"
