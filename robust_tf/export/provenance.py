"""Where an exported model comes from: what its run folder says of training and evaluations."""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
from typing import Any

import tensorflow as tf

from robust_tf import compat, files
from robust_tf.attacks import Attack
from robust_tf.evaluation import attacks_from_json
from robust_tf.evaluation.defended_attacks import OBLIVIOUS
from robust_tf.evaluation.describe import name_of


def of_run(run_dir: str) -> dict[str, Any]:
    """Method, data, eps, recipe and results of a run, JSON-ready; 'missing' says what is not there.

    Results are those of `summary.json` and of every result of `bin/evaluate --output` in the
    folder, each with the command that gives it again.

    Raises:
      FileError: summary.json cannot be read.
    """
    path = os.path.join(run_dir, "summary.json")
    summary = files.read_json(path) if files.exists(path) else {}
    if not isinstance(summary, dict):
        raise files.FileError(f"{path} is not a run's summary.")
    recipe = configuration(run_dir, summary)
    results, missing = [], []
    if "evaluation" in summary:
        command = f"bin/evaluate --run_dir={shlex.quote(run_dir)}"
        command += f" --max_examples={summary['evaluation']['examples']}"
        results.append(_result("summary.json", command, summary["evaluation"]))
    else:
        missing.append("summary.json holds no evaluation: the run has not ended, or is not ours.")
    for name in sorted(tf.io.gfile.listdir(run_dir)):
        if name.endswith(".json") and name not in ("summary.json", "identity.json"):
            try:
                report = files.read_json(os.path.join(run_dir, name))
                if isinstance(report, dict) and "evaluation" in report:
                    results.append(_result(name, _command(run_dir, report), report["evaluation"]))
                    if "inference" in report:
                        results[-1]["inference"] = report["inference"]
            except (files.FileError, KeyError, TypeError, AttributeError) as error:
                missing.append(f"{name} is left out, as it cannot be read: {error}")
    if not recipe:
        missing.append("there is no config.gin: the recipe is not known.")
    found = re.findall(r"^eps = ([\d.e+-]+)$", recipe, re.M)
    return {
        "run_dir": run_dir,
        "method": summary.get("method", "unknown"),
        "weights": summary.get("weights", {}),
        "data": summary.get("data", {}),
        "eps": float(found[-1]) if found else None,
        "best_epoch": summary.get("best_epoch"),
        "selected": summary.get("selected", "last"),
        "training_seconds": summary.get("training_seconds"),
        "versions": summary.get("versions", {}),
        "recipe": recipe,
        "results": results,
        "missing": missing,
    }


def configuration(run_dir: str, summary: dict[str, Any]) -> str:
    """The operative gin bindings of a run, '' where they are not known."""
    path = os.path.join(run_dir, "config.gin")
    return files.read_text(path) if files.exists(path) else summary.get("configuration", "")


def _result(name: str, command: str, evaluation: dict[str, Any]) -> dict[str, Any]:
    """Accuracies in [0, 1], the worst case over all attacks among them."""
    return {
        "file": name,
        "command": command,
        "examples": evaluation["examples"],
        "natural_accuracy": evaluation["natural_accuracy"],
        "robust_accuracy": {
            attack: part["robust_accuracy"] for attack, part in evaluation["attacks"].items()
        },
        "worst_case_accuracy": evaluation["worst_case_accuracy"],
        "eps": sorted({eps for _, eps in evaluation.get("balls", {}).values()}),
        "flags": [flag["title"] for flag in evaluation.get("flags", [])],
    }


def _command(run_dir: str, report: dict[str, Any]) -> str:
    """The call of `bin/evaluate` that gives a result again."""
    evaluation, inference = report["evaluation"], report.get("inference")
    parts = ["bin/evaluate", f"--run_dir={shlex.quote(run_dir)}"]
    attacks = evaluation["attacks"]
    if inference:
        parts += [f"--inference={inference['kind']}", f"--delta={inference['delta']:.9g}"]
        if inference.get("gate"):
            parts.append(f"--gate={','.join(f'{g:g}' for g in inference['gate'])}")
        parts.append(f"--adaptive={inference.get('adaptive', 'full')}")
        attacks = {k: v for k, v in attacks.items() if k.startswith(OBLIVIOUS)}
        texts = [_text_of(part["attack"]["config"]["attack"]) for part in attacks.values()]
    else:
        texts = [_text_of(part["attack"]) for part in attacks.values()]
    if texts and all(texts):
        parts.append(f'--attacks="{"; ".join(filter(None, texts))}"')
    if report.get("data", {}).get("split", "test") != "test":
        parts.append(f"--split={report['data']['split']}")
    parts.append(f"--max_examples={evaluation['examples']}")
    for name in ("seed", "batch_size", "search_dtype"):
        if evaluation.get(name):
            parts.append(f"--{name}={evaluation[name]}")
    if evaluation.get("shard"):
        parts.append("(of its shards, merged)")
    if not all(texts):
        parts.append("(with attacks that text cannot say)")
    return " ".join(parts)


def _text_of(config: Any) -> str | None:
    """The text that `--attacks` takes, None for an attack that it cannot say."""
    try:
        return text_of(compat.deserialize(config))
    except Exception:  # Keras raises of every kind for what is not known here
        return None


def text_of(value: Any) -> str:
    """A dataclass as the call that makes it, without arguments that are as by default.

    Raises:
      ValueError: a part of it is neither such a one nor a number, string or None.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        given = [
            f"{field.name}={text_of(getattr(value, field.name))}"
            for field in dataclasses.fields(value)
            if not _as_usual(value, field)
        ]
        return f"{type(value).__name__}({', '.join(given)})"
    if value is None or isinstance(value, (bool, int, float, str)):
        return repr(value)
    raise ValueError(f"{value!r} cannot be said in a command.")


def _as_usual(attack: Attack | Any, field: dataclasses.Field) -> bool:
    return field.default is not dataclasses.MISSING and getattr(attack, field.name) == field.default


def own_attack(run_dir: str) -> tuple[str, Attack | None]:
    """The first attack that the run was evaluated with, and its name; ('', None) if there is none.

    Raises:
      FileError: summary.json cannot be read.
      ValueError: an attack in it is not known here.
    """
    path = os.path.join(run_dir, "summary.json")
    summary = files.read_json(path) if files.exists(path) else {}
    attacks = attacks_from_json(summary["evaluation"]) if "evaluation" in summary else {}
    return next(((name_of(attack), attack) for attack in attacks.values()), ("", None))
