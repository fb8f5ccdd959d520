"""The rows of a leaderboard: of runs, of results, and of the results of studies."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from robust_tf import files
from robust_tf.attacks import Attack
from robust_tf.evaluation import parse_attacks
from robust_tf.report import entries
from robust_tf.report.entries import Entry
from robust_tf.report.result_files import Found
from robust_tf.runs import by_seed
from robust_tf.runs.results import Ball, kind_of
from robust_tf.studies import tables
from robust_tf.studies.study import NATURAL, PAPER, RUN, WORST

FOREIGN = "is neither a result of bin/evaluate nor of bin/study"
# What a file of another version, or of somebody's own making, can lead to.
FAULTS = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


def rows_of(found: Found) -> tuple[list[Entry], list[str]]:
    """The rows of all that a folder holds, and a sentence for each part that gives none.

    A row of a study whose runs are there, too, is shown once, as those runs tell it.
    """
    rows: list[Entry] = []
    left_out = list(found.left_out)

    def add(name: str, make: Callable[[], Entry]) -> None:
        try:
            rows.append(make())
        except entries.LeftOutError as error:
            left_out.append(str(error))
        except FAULTS as error:
            left_out.append(f"{name} holds what this version does not expect: {error}")

    for group in by_seed(found.runs):
        runs = [found.runs[k] for k in group]
        add(runs[0].name, lambda runs=runs: entries.of_runs(runs))  # type: ignore[misc]
        for run in runs:
            for one in run.results:
                if one.inference and one.whole:
                    add(one.file, lambda run=run, one=one: entries.defended(run, one))  # type: ignore[misc]
    for name, results, about in _by_weights(found):
        balls = entries.balls_of(results)
        if not balls:
            left_out.append(f"{name}: no attack has an eps")
        for ball in balls:
            add(
                name,
                lambda r=results, b=ball, a=about, n=name: entries.of_results(n, r, None, b, a),  # type: ignore[misc]
            )
    known = {weights for row in rows for weights in row.weights}
    for name, content in found.documents:
        if not tables.is_study(content):
            left_out.append(f"{name} {FOREIGN}")
            continue
        try:
            study = tables.checked(name, content)
            made = [_row(name, study, row) for row in study["rows"]]
        except FAULTS as error:
            left_out.append(f"{name}: {files.reason(error)}")
            continue
        rows += [row for row in made if row and not (row.weights and row.weights <= known)]
        none = [one["title"] for one, row in zip(study["rows"], made, strict=True) if row is None]
        left_out += [f"{name}, row {title}: it has no worst case yet" for title in none]
    return rows, left_out


def _by_weights(found: Found) -> list[tuple[str, list[Any], dict[str, Any]]]:
    """Name, results and the content of the first file, of each model that is no run's."""
    groups: dict[Any, list[int]] = {}
    for k, (result, _) in enumerate(found.results):
        weights = None if result.inference else result.evaluation.settings.get("model")
        groups.setdefault(weights or k, []).append(k)
    made = []
    for members in groups.values():
        results = [found.results[k][0] for k in members]
        name = os.path.splitext(results[0].file)[0]
        made.append((name, results, found.results[members[0]][1]))
    return made


def _row(file: str, study: Mapping[str, Any], row: Mapping[str, Any]) -> Entry | None:
    """A row of a study over its seeds; None where no seed has a worst case."""
    done = {
        seed: one
        for seed, one in row["seeds"].items()
        if WORST in one.get("accuracy", {}) and NATURAL in one["accuracy"]
    }
    if not done:
        return None
    about = row.get("about") or {}
    worst = study["columns"][WORST]
    attacks = dict.fromkeys(kind for kind, _ in _attacks(study))
    flags = [flag for one in done.values() for flag in one.get("flags", [entries.NOT_TOLD])]
    budget = "" if study["budget"] == PAPER else f", {study['budget']}"
    method = " ".join(filter(None, [about.get("method"), str(row["inference"]).upper()]))
    seeds = ",".join(done)
    command = f"bin/study --gin_file={study['study']} --budget={study['budget']} --seeds={seeds}"
    return Entry(
        f"{study['study']}: {row['name']}{budget}",
        {seed: float(one["accuracy"][WORST]) for seed, one in done.items()},
        int(worst["examples"]),
        str(about.get("data") or ""),
        str(about.get("network") or ""),
        method or row["title"],
        _balls(study),
        {seed: float(one["accuracy"][NATURAL]) for seed, one in done.items()},
        list(attacks),
        None if row["of"] else _mean(done, "training_seconds"),
        _mean(done, "evaluation_seconds"),
        about.get("attack_steps"),
        list(dict.fromkeys(flags)),
        [command, *([] if row["of"] else [row["command"]])],
        file,
        frozenset(str(one["weights"]) for one in done.values() if one.get("weights")),
    )


def _balls(study: Mapping[str, Any]) -> list[Ball]:
    """The largest ball of each norm among the attacks of a study."""
    largest: dict[str, float] = {}
    for norm, eps in [ball for _, attack in _attacks(study) if attack for ball in attack.balls]:
        largest[norm] = max(eps or 0.0, largest.get(norm, 0.0))
    return [(norm, eps) for norm, eps in largest.items() if eps]


def _attacks(study: Mapping[str, Any]) -> list[tuple[str, Attack | None]]:
    """The attacks of a study by kind; a column's name and None where text is not enough."""
    found: list[tuple[str, Attack | None]] = []
    for name, column in study["columns"].items():
        if column["attack"]:
            try:
                made = parse_attacks(RUN.sub("RUN", column["attack"])).values()
                found += [(kind_of(one), one) for one in made]
            except ValueError:  # of a module that is not imported, or adaptive
                found.append((name, None))
    return found


def _mean(done: Mapping[str, Mapping[str, Any]], key: str) -> float | None:
    values = [float(one[key]) for one in done.values() if one.get(key) is not None]
    return sum(values) / len(values) if values else None
