"""Where an exported model comes from: what its run folder says of training and evaluations."""

from __future__ import annotations

import os
import shlex
from typing import Any

import tensorflow as tf

from robust_tf import files
from robust_tf.attacks import Attack
from robust_tf.evaluation import Evaluation, attacks_from_json, bindings, name_of, reproduce_command


def of_run(run_dir: str, fingerprint: str | None = None) -> dict[str, Any]:
    """Method, data, eps, recipe and results of a run, JSON-ready; 'missing' says what is not there.

    Results are those of `summary.json` and of every result of `bin/evaluate --output` in the
    folder, each with the command that gives it again. Those of other weights are left out.

    Args:
      run_dir: the folder.
      fingerprint: of the network that is exported, see `evaluation.target_model.fingerprint_of`;
        None: that of the run's own evaluation.

    Raises:
      FileError: summary.json cannot be read.
    """
    summary = _summary(run_dir)
    recipe, data = configuration(run_dir, summary), summary.get("data") or {}
    own = summary.get("evaluation")
    fingerprint = fingerprint or reproduce_command.fingerprint_in(summary)
    reports: dict[str, Any] = {"summary.json": {"data": data, "evaluation": own}} if own else {}
    results, missing = [], []
    if not own:
        missing.append("summary.json holds no evaluation: the run has not ended, or is not ours.")
    for name in sorted(tf.io.gfile.listdir(run_dir)):
        if name.endswith(".json") and name not in ("summary.json", "identity.json"):
            try:
                reports[name] = files.read_json(os.path.join(run_dir, name))
            except files.FileError as error:
                missing.append(f"{name} is left out, as it cannot be read: {error}")
    for name, report in reports.items():
        if not isinstance(report, dict) or "evaluation" not in report:
            continue
        other = reproduce_command.foreign(report, fingerprint)
        if other:
            missing.append(f"{name} is left out: {other}.")
            continue
        try:
            results.append(_result(name, run_dir, report, data.get("name")))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            missing.append(f"{name} is left out, as it cannot be read: {error}")
    if not recipe:
        missing.append("there is no config.gin: the recipe is not known.")
    return {
        "run_dir": run_dir,
        "method": summary.get("method") or "unknown",
        "weights": summary.get("weights") or {},
        "data": data,
        "eps": bindings.eps_of(recipe),
        "best_epoch": summary.get("best_epoch"),
        "selected": summary.get("selected") or "last",
        "training_seconds": summary.get("training_seconds"),
        "versions": summary.get("versions") or {},
        "recipe": recipe,
        "results": results,
        "missing": missing,
    }


def configuration(run_dir: str, summary: dict[str, Any]) -> str:
    """The operative gin bindings of a run, '' where they are not known."""
    path = os.path.join(run_dir, "config.gin")
    return files.read_text(path) if files.exists(path) else summary.get("configuration") or ""


def _summary(run_dir: str) -> dict[str, Any]:
    """The content of summary.json, {} where there is none."""
    path = os.path.join(run_dir, "summary.json")
    summary = files.read_json(path) if files.exists(path) else {}
    if not isinstance(summary, dict):
        raise files.FileError(f"{path} is not a run's summary.")
    return summary


def _result(name: str, run_dir: str, report: dict[str, Any], dataset: str | None) -> dict[str, Any]:
    """Accuracies in [0, 1], the worst case over all attacks among them, and the command."""
    evaluation = Evaluation.from_json(report["evaluation"])
    data, inference = report.get("data") or {}, report.get("inference")
    if name == "summary.json":
        command: str | None = f"bin/evaluate --run_dir={shlex.quote(run_dir)}"
        command = f"{command} --max_examples={len(evaluation)}"
    else:
        command = reproduce_command.command(run_dir, evaluation, data, inference, dataset=dataset)
    result = {
        "file": name,
        "command": command or f"# {reproduce_command.UNSAID}",
        "examples": len(evaluation),
        "natural_accuracy": evaluation.natural_accuracy,
        "robust_accuracy": {attack: evaluation.accuracy(attack) for attack in evaluation.outcomes},
        "worst_case_accuracy": evaluation.worst_case_accuracy,
        "eps": sorted({eps for _, eps in evaluation.settings.get("balls", {}).values() if eps}),
        "flags": [flag["title"] for flag in evaluation.flags],
    }
    for key, value in (
        ("dataset", data.get("name") if data.get("name") != dataset else None),
        ("split", data.get("split") if data.get("split") != "test" else None),
        ("shard", evaluation.settings.get("shard")),
        ("inference", inference),
    ):
        if value:
            result[key] = value
    return result


def own_attack(run_dir: str) -> tuple[str, Attack | None]:
    """The first attack that the run was evaluated with, and its name; ('', None) if there is none.

    Raises:
      FileError: summary.json cannot be read.
      ValueError: an attack in it is not known here.
    """
    own = _summary(run_dir).get("evaluation")
    attacks = attacks_from_json(own) if own else {}
    return next(((name_of(attack), attack) for attack in attacks.values()), ("", None))
