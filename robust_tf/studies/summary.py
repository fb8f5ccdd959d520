"""`study.json`: what a study has found so far, complete enough for its tables and its page."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from robust_tf import files, precision, runs
from robust_tf.runs import Run
from robust_tf.studies import verdicts
from robust_tf.studies.plan import Plan
from robust_tf.studies.statistics import Paired, bootstrap, mean_and_std, paired
from robust_tf.studies.study import Row
from robust_tf.studies.verdicts import RowVerdicts

FORMAT = 1
_EVENT = ("verdict", "epoch", "step")  # what is kept of a check that found something


class Found:
    """What is in the folders of a study; answers the claims' rules.

    Args:
      plan: of the study.
      seeds: that are looked at.
    """

    def __init__(self, plan: Plan, seeds: Sequence[int]):
        self.plan, self.asked = plan, list(seeds)
        self.verdicts: dict[tuple[str, int], RowVerdicts] = {}
        self.runs: dict[tuple[str, int], Run] = {}
        for row in plan.study.rows:
            for seed in plan.seeds(row, seeds):
                folder = plan.run_dir(row, seed)
                if files.exists(os.path.join(folder, "identity.json")):
                    self.runs[row.name, seed] = runs.read_run(folder, tolerant=True)
                known = verdicts.read(plan, row, seed)
                if known is not None:
                    self.verdicts[row.name, seed] = known
        self._pairs: dict[tuple[str, str, str], dict[int, Paired]] = {}

    def seeds(self, row: str) -> list[int]:
        """See `claims.Findings`; so are the next."""
        return self.plan.seeds(self.plan.study.row(row), self.asked)

    def of(self, row: str, column: str) -> dict[int, np.ndarray]:
        """By seed, verdicts bool (n,)."""
        return {
            seed: known.columns[column]
            for (name, seed), known in self.verdicts.items()
            if name == row and column in known.columns
        }

    def accuracy(self, row: str, column: str) -> dict[int, float]:
        return {seed: float(verdict.mean()) for seed, verdict in self.of(row, column).items()}

    def difference(self, row: str, than: str, column: str) -> dict[int, Paired]:
        key = row, than, column
        if key not in self._pairs:
            ones, others = self.of(row, column), self.of(than, column)
            both = sorted(ones.keys() & others.keys())
            self._pairs[key] = {seed: paired(ones[seed], others[seed]) for seed in both}
        return self._pairs[key]

    def metrics(self, row: str, name: str) -> dict[int, list[float]]:
        return {
            seed: [line[name] for line in run.metrics if name in line]
            for (own, seed), run in self.runs.items()
            if own == row and run.finished
        }


def summarize(
    plan: Plan, seeds: Sequence[int], faults: Mapping[tuple[str, int], str] | None = None
) -> dict[str, Any]:
    """The content of `study.json`.

    Args:
      plan: of the study.
      seeds: that are looked at.
      faults: by row and seed, why it could not be done.

    Returns:
      JSON-ready: 'study', 'title', 'source', 'notes', 'budget' and 'changes' (what it puts on top),
      'seeds', 'columns' (attack and images of each), 'rows' (recipe, what was trained, the
      command, which names no folder outside the current one, numbers of each seed, mean, std, the
      paper's), 'differences' (each row less the baseline, and what claims compare), 'claims'
      (rule, verdict, figures), 'versions' and 'device'.
    """
    study, found = plan.study, Found(plan, seeds)
    others = [row.name for row in study.rows if row.name != study.baseline]
    pairs = [(row, study.baseline, column) for row in others for column in study.columns]
    pairs += [pair for claim in study.claims for pair in claim.pairs]
    differences = [_difference(found, *pair) for pair in dict.fromkeys(pairs)]
    gin_files, params = study.budget(plan.budget)
    claims = []
    for claim in study.claims:
        ruling = claim.judge(found)
        claims.append({"text": claim.text, "rule": claim.rule, **dataclasses.asdict(ruling)})
    return {
        "format": FORMAT,
        "study": study.name,
        "title": study.title or study.name,
        "source": study.source,
        "notes": study.notes,
        "budget": plan.budget,
        "changes": [*gin_files, *params],
        "seeds": found.asked,
        "columns": _columns(plan, found),
        "rows": [_row(plan, found, row, faults or {}) for row in study.rows],
        "differences": [one for one in differences if one],
        "claims": claims,
        "versions": runs.versions(),
        "device": precision.device()["name"],
    }


def _columns(plan: Plan, found: Found) -> dict[str, Any]:
    """Of each column its attack, '' of natural accuracy and the worst case, and its images."""
    made = {}
    for column in plan.study.columns:
        sizes = [
            len(one.columns[column]) for one in found.verdicts.values() if column in one.columns
        ]
        made[column] = {
            "attack": plan.study.attacks.get(column, ""),
            "examples": max(sizes, default=None),
        }
    return made


def _row(
    plan: Plan, found: Found, row: Row, faults: Mapping[tuple[str, int], str]
) -> dict[str, Any]:
    """One row of the table."""
    by_seed = {}
    for seed in found.seeds(row.name):
        known, run = found.verdicts.get((row.name, seed)), found.runs.get((row.name, seed))
        one: dict[str, Any] = {"state": "missing"}
        if run is not None:
            one["state"] = "done" if run.finished else "stopped"
            one["epochs"] = len(run.metrics)
            if run.summary.get("training_seconds") is not None:
                one["training_seconds"] = round(float(run.summary["training_seconds"]), 1)
            one["precision"], one["weights"] = run.precision, run.fingerprint
            if guard := run.summary.get("guard"):
                events = [{key: row[key] for key in _EVENT} for row in guard["found"]]
                one["guard"] = {"checks": guard["checks"], "found": events}
        if known is not None:
            columns = known.columns.items()
            one["accuracy"] = {c: float(verdict.mean()) for c, verdict in columns}
            one["evaluation_seconds"] = round(sum(known.seconds.values()), 1)
            one["attacks_in"] = sorted(known.dtypes)
            one["collapsed"] = known.collapsed
            one["flags"] = known.flags
        if (row.name, seed) in faults:
            one["fault"] = faults[row.name, seed]
        by_seed[str(seed)] = one
    mean, std = {}, {}
    for column in plan.study.columns:
        values = list(found.accuracy(row.name, column).values())
        if values:
            mean[column], std[column] = mean_and_std(values)
    return {
        "name": row.name,
        "title": row.title,
        "recipe": [*row.recipe],
        "bindings": [*row.bindings, *row.on_budget.get(plan.budget, ())],
        "of": row.of,
        "inference": row.inference,
        "about": _about(found, row),
        "command": plan.shown().command(row, next(iter(found.seeds(row.name)), 0)),
        "seeds": by_seed,
        "mean": mean,
        "std": std,
        "paper": dict(row.paper),
    }


def _about(found: Found, row: Row) -> dict[str, Any]:
    """What was trained, of the first run that is there: a leaderboard has columns for it."""
    run = next((run for (name, _), run in found.runs.items() if name == row.name), None)
    if run is None:
        return {}
    return {
        "data": run.data.get("name"),
        "network": run.network.get("builder"),
        "method": run.label,
        "attack_steps": run.attack_steps,
    }


def _difference(found: Found, row: str, than: str, column: str) -> dict[str, Any] | None:
    """A pair in one column, by seed and over the seeds that both have; None without one."""
    pairs = found.difference(row, than, column)
    if not pairs:
        return None
    ones, others = found.of(row, column), found.of(than, column)
    size = min(one.examples for one in pairs.values())
    each = [ones[seed][:size].astype(float) - others[seed][:size] for seed in pairs]
    over_seeds = np.mean(each, axis=0)
    low, high = bootstrap(over_seeds)
    return {
        "row": row,
        "than": than,
        "column": column,
        "examples": size,
        "difference": float(over_seeds.mean()),
        "low": low,
        "high": high,
        "seeds": {str(seed): _rounded(one) for seed, one in pairs.items()},
    }


def _rounded(one: Paired) -> dict[str, Any]:
    values = dataclasses.asdict(one)
    return {k: float(f"{v:.6g}") if isinstance(v, float) else v for k, v in values.items()}
