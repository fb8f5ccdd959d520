"""How long a study takes: from runs that are there, or from one step and one short attack."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from robust_tf import data
from robust_tf.attacks import Attack
from robust_tf.evaluation import parse_attacks
from robust_tf.recipes import LoadedRecipe
from robust_tf.studies import verdicts
from robust_tf.studies.plan import Plan
from robust_tf.studies.status import states
from robust_tf.studies.study import RUN, Row, is_adaptive
from robust_tf.studies.summary import Found

IMAGES = 50  # of a short attack
SHORT = 2  # steps or queries of it


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Of one row and seed.

    Attributes:
      row, seed: which.
      training, evaluation: seconds left, on this machine where they were measured; None: unknown.
      by: what they come from, for the reader.
    """

    row: str
    seed: int
    training: float | None
    evaluation: float | None
    by: str


class Estimator:
    """Measures each different row once.

    Args:
      plan: of the study.
      seeds: of the runs.
      say: told what is measured.
    """

    def __init__(self, plan: Plan, seeds: Sequence[int], say: Callable[[str], None] = print):
        self.plan, self.seeds, self.say = plan, list(seeds), say
        self._found = Found(plan, sorted({*seeds, *plan.seeds_there()}))
        self._models: dict[str, tuple[float, Any]] = {}
        self._attacks: dict[Any, float] = {}

    def all(self, rows: Sequence[str] | None = None) -> list[Estimate]:
        """What is left to do, of these rows and what they need; None: of all."""
        made = []
        for state in states(self.plan, self.seeds, rows):
            if state.state != "done":
                row = self.plan.study.row(state.row)
                made.append(self.of(row, state.seed, trained=state.state == "to evaluate"))
        return made

    def of(self, row: Row, seed: int, trained: bool = False) -> Estimate:
        """One row and seed; `trained`: only attacks are left."""
        recorded = self._recorded(row)
        if recorded is not None:
            training = 0.0 if trained or row.of else recorded[0]
            return Estimate(row.name, seed, training, recorded[1], "recorded, another seed")
        try:
            recipe = self.plan.recipe(row, seed)
            dataset = recipe.data(self.plan.data_dir)
            training, model = self._measured(row, recipe, dataset)
            left = verdicts.missing(self.plan, row, seed)
            evaluation, skipped = self._attacked(row, recipe, dataset, model, left)
        except (ValueError, OSError, tf.errors.OpError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            return Estimate(row.name, seed, None, None, f"not measured: {reason}")
        by = "measured, at most" + (f"; without {', '.join(skipped)}" if skipped else "")
        done = self._epochs(row, seed) / recipe.settings.epochs
        left_over = 0.0 if trained or row.of else training * max(1 - done, 0)
        return Estimate(row.name, seed, left_over, evaluation, by)

    def _epochs(self, row: Row, seed: int) -> int:
        run = self._found.runs.get((row.name, seed))
        return 0 if run is None else len(run.metrics)

    def _recorded(self, row: Row) -> tuple[float, float] | None:
        """Seconds of another seed of the row that is done, with all attacks."""
        for (name, seed), known in self._found.verdicts.items():
            summary = self._found.runs[name, seed].summary
            asked = [c for c, t in self.plan.study.attacks.items() if verdicts.applies(row, t)]
            if name == row.name and set(asked) <= set(known.columns):
                return float(summary.get("training_seconds") or 0), sum(known.seconds.values())
        return None

    def _measured(
        self, row: Row, recipe: LoadedRecipe, dataset: data.Data
    ) -> tuple[float, Callable[..., Any]]:
        """Seconds of the whole training by two steps of it, and the fresh network."""
        key = "\n".join(line for line in recipe.text.splitlines() if "seed" not in line)
        if key not in self._models:
            self.say(f"measuring a step of {row.name}")
            settings = recipe.settings
            recipe = LoadedRecipe(recipe.files, [*recipe.params, "train.initial=None"])
            model = recipe.model(dataset)
            [batch] = data.batches(dataset.train, settings.batch_size, training=True).take(1)
            with recipe.bindings.in_force():
                step = tf.function(model.train_step)
                seconds = _seconds(lambda: step(batch))
            steps = data.steps_per_epoch(dataset.train, settings.batch_size) * settings.epochs
            self._models[key] = seconds * steps, model.network
        return self._models[key]

    def _attacked(
        self,
        row: Row,
        recipe: LoadedRecipe,
        dataset: data.Data,
        model: Any,
        columns: dict[str, str],
    ) -> tuple[float, list[str]]:
        """Seconds of the attacks by short ones on a few images; columns that it cannot tell."""
        total, skipped = 0.0, []
        network = "\n".join(
            line for line in recipe.text.splitlines() if str(recipe.settings.network) in line
        )
        x = tf.constant(dataset.test.take(IMAGES).images)
        x = tf.cast(x, tf.float32) / 255 if x.dtype == tf.uint8 else x
        y = tf.constant(dataset.test.take(IMAGES).labels)
        shape = (type(model).__name__, model.count_params(), network)
        for column, text in columns.items():
            if RUN.search(text) or is_adaptive(text) or row.inference:
                skipped.append(column)
                continue
            size = self.plan.study.examples_of(column, self.plan.budget) or len(dataset.test)
            for attack in parse_attacks(text).values():
                for _, stage in attack.stages():
                    short, factor = shortened(stage)
                    key = (shape, repr(short))
                    if key not in self._attacks:
                        self.say(f"measuring {type(stage).__name__} on {row.name}'s network")
                        self._attacks[key] = _seconds(functools.partial(short, model, x, y))
                    total += self._attacks[key] * factor * size / len(y)
        return total, skipped


def shortened(attack: Attack) -> tuple[Attack, float]:
    """The attack with few steps or queries, and how many times as many it has.

    Images that leave an attack because they are misclassified are not thought of: the whole attack
    takes at most that factor times as long.
    """
    for name in ("steps", "queries"):
        count = getattr(attack, name, None)
        if isinstance(count, int) and count > SHORT and name in attack.__dict__:
            return dataclasses.replace(attack, **{name: SHORT}), count / SHORT  # type: ignore
    inner = getattr(attack, "attack", None)
    if isinstance(inner, Attack):
        short, factor = shortened(inner)
        return dataclasses.replace(attack, attack=short), factor  # type: ignore[type-var]
    return attack, 1.0


def _seconds(call: Callable[[], Any]) -> float:
    """Of a call after the first, which compiles."""
    call()
    began = time.perf_counter()
    for leaf in tf.nest.flatten(call()):
        np.asarray(leaf)  # a device computes until somebody looks
    return time.perf_counter() - began


def table(found: Sequence[Estimate]) -> str:
    """A line for each, and the sum."""
    if not found:
        return "nothing is left to do."
    width = max(len(one.row) for one in found)
    lines = [
        f"{one.row:{width}}  seed {one.seed}  training {_span(one.training):>9}  attacks "
        f"{_span(one.evaluation):>9}  {one.by}"
        for one in found
    ]
    known = [part for one in found for part in (one.training, one.evaluation) if part is not None]
    unknown = sum(one.training is None for one in found)
    more = f", and {unknown} of which nothing is known" if unknown else ""
    return "\n".join([*lines, f"together {_span(sum(known))}{more}, without compiling."])


def _span(seconds: float | None) -> str:
    """'40 s', '12 min', '3.5 h', '2.0 days'."""
    if seconds is None:
        return "unknown"
    for limit, size, unit, digits in (
        (120, 1, "s", 0),
        (7200, 60, "min", 0),
        (172800, 3600, "h", 1),
    ):
        if seconds < limit:
            return f"{seconds / size:.{digits}f} {unit}"
    return f"{seconds / 86400:.1f} days"
