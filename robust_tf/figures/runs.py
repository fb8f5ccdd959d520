"""What figures read of a run folder: its method's name, model, metrics and evaluations."""

from __future__ import annotations

import dataclasses
import functools
import os
import re
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from robust_tf import files
from robust_tf.evaluation import Evaluation, loading

_NAMES = {
    "AdversarialTraining": "AT",
    "SqueezeTraining": "ST",
    "FeatureScattering": "Feature Scattering",
}


@dataclasses.dataclass(frozen=True)
class Run:
    """A run folder.

    Attributes:
      path: the folder.
      summary: of summary.json, empty where there is none.
      configuration: its gin bindings, '' where they are not told.
      method: its name in figures, such as 'ADV' or 'ADR LC/GB'.
    """

    path: str
    summary: dict[str, Any]
    configuration: str
    method: str

    @functools.cached_property
    def model(self) -> Callable[..., Any]:
        """The trained network; FileError where there is none."""
        return loading.load_run(self.path)

    @functools.cached_property
    def evaluations(self) -> dict[str, Evaluation]:
        """By file name: the run's own in summary.json, and the results of `evaluate` beside it."""
        found = {}
        for name in sorted(tf.io.gfile.listdir(self.path)):
            if name.endswith(".json"):
                value = files.read_json(os.path.join(self.path, name))
                if isinstance(value, dict) and isinstance(value.get("evaluation"), dict):
                    found[name] = Evaluation.from_json(value["evaluation"])
        return found

    @property
    def eps(self) -> float | None:
        """The eps of its configuration, where there is one."""
        bound = re.findall(r"^eps = ([\d.e+-]+)$", self.configuration, re.M)
        return float(bound[-1]) if bound else None


def read_run(run_dir: str | os.PathLike[str]) -> Run:
    """Reads the summary; the rest when it is asked for.

    Raises:
      FileError: no such folder, or an unreadable summary. ValueError: it is not a run's.
    """
    path = os.fspath(run_dir)
    if not files.is_folder(path):
        raise files.FileError(f"there is no run folder {path}.")
    where = os.path.join(path, "summary.json")
    summary = files.read_json(where) if files.exists(where) else {}
    if not isinstance(summary, dict):
        raise ValueError(f"{where} is not a run's summary.")
    where = os.path.join(path, "config.gin")
    configuration = summary.get("configuration") or ""
    if not configuration and files.exists(where):
        configuration = files.read_text(where)
    method = method_of(summary, configuration) or os.path.basename(path.rstrip("/"))
    return Run(path, summary, configuration, method)


def read_runs(run_dirs: Sequence[str]) -> dict[str, Run]:
    """Runs by name; two of one method are told apart by their folders, 'ADV (adv_2)'."""
    runs = [read_run(path) for path in run_dirs]
    methods = [run.method for run in runs]
    result: dict[str, Run] = {}
    for run in runs:
        name = run.method
        if methods.count(name) > 1:
            name += f" ({os.path.basename(run.path.rstrip('/'))})"
        if name in result:
            name = f"{run.method} ({run.path})"
        result[name] = run
    return result


def method_of(summary: dict[str, Any], configuration: str = "") -> str:
    """The name of a run's method, with ADR's terms; '' where the summary has none."""
    method = str(summary.get("method", ""))
    weights = summary.get("weights") or {}
    if method == "AdversarialTraining" and weights.get("clean"):
        return "ADV"
    if method != "ADR":
        return _NAMES.get(method, method)
    if re.search(r"^ADR\.attack = @TRADESAttack", configuration, re.M):
        return "ADR-TRADES"
    terms = [("local", "LC"), ("global_", "GB")]
    parts = [short for term, short in terms if weights.get(term)]
    if weights.get("entropy") or weights.get("smoothness"):
        parts.append("CA")
    return f"ADR {'/'.join(parts)}" if parts else "ADV"
