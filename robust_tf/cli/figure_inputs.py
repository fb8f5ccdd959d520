"""What the kinds of `bin/figures` share: numbers, images and evaluations from the options."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from robust_tf import data, evaluation
from robust_tf.attacks import PGD, Attack
from robust_tf.cli import UserError, inference
from robust_tf.evaluation.attack_parser import number
from robust_tf.figures import curves
from robust_tf.runs import Run, read_runs

Options = argparse.Namespace


class Inputs:
    """What a user's kind draws, see `figures.kind`; read when it is asked for."""

    def __init__(self, options: Options):
        self._options = options
        self.seed: int = options.seed
        self.title: str = options.title

    @functools.cached_property
    def runs(self) -> dict[str, Run]:
        """The runs by name."""
        return read_runs(self._options.run_dir)

    @functools.cached_property
    def eps(self) -> float:
        """`--eps`, or that of the first run."""
        return eps_of(self._options, self.runs)

    @property
    def attack(self) -> Attack:
        """PGD of `--steps`, 40 by default, of eps / 10 each."""
        return attack_of(self._options, self.eps)

    @property
    def images(self) -> np.ndarray:
        """The first test images of the runs' data, float32 in [0, 1]."""
        return self._examples[0]

    @property
    def labels(self) -> np.ndarray:
        """Theirs, int32."""
        return self._examples[1]

    @functools.cached_property
    def _examples(self) -> tuple[np.ndarray, np.ndarray]:
        return examples(self._options, self.runs, 500)


def numbers(text: str | None, option: str, most: int | None = None) -> list[float]:
    """The numbers of a list divided by commas; UserError for more than `most`, or below 0."""
    values = [number(part) for part in text.split(",")] if text else []
    if any(not 0 <= value < float("inf") for value in values):
        raise UserError(f"--{option}={text}: must be >= 0.")
    if most is not None and len(values) > most:
        raise UserError(f"--{option}={text}: this figure takes one; `curves` and `steps` several.")
    return values


def whole_numbers(text: str | None, option: str, most: int | None = None) -> list[int]:
    """As `numbers`; UserError for fractions, too."""
    values = numbers(text, option, most)
    if any(value != int(value) for value in values):
        raise UserError(f"--{option}={text}: must be whole numbers.")
    return [int(value) for value in values]


def steps_of(options: Options, default: int) -> int:
    """The one number of steps: that of the option, or the default; UserError for 0."""
    [steps] = whole_numbers(options.steps, "steps", 1) or [default]
    if not steps:
        raise UserError("--steps=0: must be >= 1; only the figure `steps` begins at 0.")
    return steps


def runs_of(options: Options) -> dict[str, Run]:
    """The runs by name; with --inference each that has a discriminator again, behind it."""
    made: dict[str, Run] = {}
    found = read_runs(options.run_dir)
    for name, run in found.items():
        made[name] = run
        if options.inference and "discriminator.keras" in run.entries:
            load = functools.partial(_defended, options, run)
            made[f"{name} ({options.inference.upper()})"] = run.behind(options.inference, load)
    if options.inference and len(made) == len(found):
        raise UserError(
            f"--inference={options.inference}: no run has a discriminator.keras; runs of ATLD do."
        )
    return made


def _defended(options: Options, run: Run) -> Any:
    """The network behind its transformation, as an adversary attacks it who knows of it."""
    return evaluation.bpda(inference.transformation(options, run))


def eps_of(options: Options, runs: Mapping[str, Run]) -> float:
    """The one radius, in L-inf: that of the option, or of the first run that has one."""
    given = numbers(options.eps, "eps", 1)
    own = next((run.linf_eps for run in runs.values() if run.linf_eps), None)
    eps = given[0] if given else own
    if not eps:
        raise UserError(
            "no eps: give --eps=0.3, or runs that were trained with one in L-inf, in which figures "
            "are drawn."
        )
    return eps


def attack_of(options: Options, eps: float) -> Attack:
    """PGD of --steps, 40 by default, of eps / 10 each."""
    return PGD(eps, eps / 10, steps_of(options, 40))


def examples(
    options: Options, runs: Mapping[str, Run], default: int
) -> tuple[np.ndarray, np.ndarray]:
    """The first test images, float32 in [0, 1], and their labels."""
    told = {str(run.data["name"]): run.data for run in runs.values() if run.data.get("name")}
    if options.dataset is None and len(told) != 1:
        what = f"the runs are of {', '.join(sorted(told))}" if told else "the runs do not say"
        raise UserError(f"{what}: give --dataset, and runs on one dataset.")
    own = next(iter(told.values()), {})
    if options.dataset in (None, own.get("name")):
        split = data.load_recorded(own, options.data_dir).test
    else:
        split = data.open_dataset(options.dataset, own, options.data_dir).test
    split = split.take(options.examples or default)
    images = split.images
    if images.dtype == np.uint8:
        images = images.astype(np.float32) / 255
    for name, run in runs.items():
        shape = tuple(getattr(run.model, "image_shape", None) or images.shape[1:])
        if shape != images.shape[1:]:
            raise UserError(f"{name} takes {shape}, these examples are {images.shape[1:]}.")
    return images, split.labels.astype(np.int32)


def class_names(runs: Mapping[str, Run]) -> tuple[str, ...] | None:
    """Names of the classes, if those of all runs are the same."""
    found = {run.class_names for run in runs.values()}
    return found.pop() if len(found) == 1 else None


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Numbers of each model, one model a column."""
    names = list(rows)
    keys = list(next(iter(rows.values())))
    lines = [["", *names]]
    for key in keys:
        values = [rows[name][key] for name in names]
        lines.append([key, *[f"{v:.4g}" if isinstance(v, float) else str(v) for v in values]])
    widths = [max(len(line[k]) for line in lines) for k in range(len(names) + 1)]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])])
        for line in lines
    )


def evaluations(run: Run, wanted: str | None) -> dict[str, evaluation.Evaluation]:
    """The results in a run folder, without the run's own short one where there are others.

    By default of the run's model on its own test images; `wanted` by its name, or the path of the
    file, whatever it is of.
    """
    found = dict(sorted(run.evaluations.items()))
    for fault in run.left_out:
        print(f"warning: {fault}", file=sys.stderr)
    if wanted:
        name = wanted if wanted.endswith(".json") else f"{wanted}.json"
        if os.path.abspath(os.path.dirname(name)) == os.path.abspath(run.path):
            name = os.path.basename(name)
        try:
            return {name: run.evaluation(name)}
        except KeyError:
            there = [*run.evaluations, *run.others]
            raise UserError(
                f"{run.path} has no evaluation {name}; it has {', '.join(there) or 'none'}."
            ) from None
    if not found:
        others = ", ".join(f"{name} {what}" for name, what in run.others.items())
        hint = f" of this model and its test images (--evaluation names {others})" if others else ""
        what = f" with {run.inference}" if run.inference else ""
        option = f" --inference={run.inference}" if run.inference else ""
        raise UserError(
            f"{run.path} has no evaluation{what}{hint}; make one: "
            f"evaluate --run_dir={run.path} --battery=smoke{option} --output={run.path}/smoke.json."
        )
    if len(found) > 1:
        found.pop("summary.json", None)
    return found


def attacked(runs: Mapping[str, Run]) -> dict[str, tuple[Any, Any]]:
    """By name each run's model, and that on which attacks are made, None for the model itself.

    A defended one is there again for the attacks on its network alone, which do not know of it.
    """
    made: dict[str, tuple[Any, Any]] = {}
    for name, run in runs.items():
        model: Any = run.model
        made[name] = model, None
        if run.inference:
            made[_oblivious(name)] = model, model.classifier
    return made


def best_curves(runs: Mapping[str, Run], wanted: str | None) -> tuple[str, dict[str, curves.Curve]]:
    """By name, of the evaluations at several eps that with most of them, and with most images.

    Of a defended run under all attacks, and under the oblivious ones where there are any. All are
    in one norm, which comes first: L-inf, or another one that all runs were evaluated in.
    """
    every = [evaluations(run, wanted).values() for run in runs.values()]
    norms = [{norm for one in there for norm in curves.norms_of(one)} for there in every]
    common = set.intersection(*norms) if norms else set()
    norm = "Linf" if "Linf" in common or not common else min(common)
    made: dict[str, curves.Curve] = {}
    for name, run in runs.items():
        there = list(evaluations(run, wanted).values())
        curve = _best_curve(there, norm)
        if curve is None:
            raise UserError(f"{run.path} has no evaluation at several eps; give --eps=0.1,0.2,0.3.")
        made[name] = curve
        bare = [_under_oblivious(one) for one in there] if run.inference else []
        oblivious = _best_curve(bare, norm)
        if oblivious is not None:
            made[_oblivious(name)] = oblivious
    return norm, made


def _best_curve(there: Sequence[evaluation.Evaluation], norm: str) -> curves.Curve | None:
    made = []
    for one in there:
        try:
            made.append((curves.eps_curve(one, norm), len(one)))
        except ValueError:  # no attack that has an eps
            continue
    made = [pair for pair in made if len(pair[0].x) > 2] or made
    return max(made, key=lambda pair: (len(pair[0].x), pair[1]))[0] if made else None


def _under_oblivious(one: evaluation.Evaluation) -> evaluation.Evaluation:
    """The evaluation with its oblivious attacks alone."""
    names = [name for name in one.outcomes if name.startswith(evaluation.OBLIVIOUS)]
    settings = dict(one.settings)
    for part in ("balls", "attacks"):
        if part in settings:
            settings[part] = {n: settings[part][n] for n in names if n in settings[part]}
    outcomes = {name: one.outcomes[name] for name in names}
    return dataclasses.replace(one, outcomes=outcomes, settings=settings)


def _oblivious(name: str) -> str:
    """'ATLD (IMT+)' -> 'ATLD (IMT+, oblivious)'."""
    return f"{name.removesuffix(')')}, oblivious)"
