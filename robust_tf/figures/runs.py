"""What figures read of a run folder: its method's name, model, metrics and evaluations."""

from __future__ import annotations

import dataclasses
import functools
import os
import re
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from robust_tf import files, runs
from robust_tf.evaluation import Evaluation, bindings, reproduce_command

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
      inference: what stands in front of the network, 'imt' or 'imt+'; '' is the network alone.
      load: makes the model; None: the network in the folder.
    """

    path: str
    summary: dict[str, Any]
    configuration: str
    method: str
    inference: str = ""
    load: Callable[[], Callable[..., Any]] | None = None

    @functools.cached_property
    def model(self) -> Callable[..., Any]:
        """The trained network, or what `load` makes; FileError where there is none."""
        return runs.load_run(self.path) if self.load is None else self.load()

    @functools.cached_property
    def evaluations(self) -> dict[str, Evaluation]:
        """By file name: the run's own in summary.json, and the results of `evaluate` beside it.

        Only those of this model by its fingerprint, with this inference, on the test images of the
        run's own data and not on a shard of them; of a file that cannot be read a warning tells.
        `others` names the rest.
        """
        found = {}
        for name, report in self._reports.items():
            if self._of_another(report):
                continue
            try:
                found[name] = self.evaluation(name)
            except ValueError as error:
                warnings.warn(f"{error} It is left out.", stacklevel=2)
        return found

    @property
    def others(self) -> dict[str, str]:
        """By file name: evaluations of something else in the folder, and of what."""
        said = {name: self._of_another(report) for name, report in self._reports.items()}
        return {name: what for name, what in said.items() if what}

    def evaluation(self, name: str) -> Evaluation:
        """The result in the file of this name, whatever it is of.

        Raises:
          KeyError: there is no such file, or it is no result. ValueError: of another version.
        """
        try:
            return Evaluation.from_json(self._reports[name]["evaluation"])
        except ValueError as error:
            path = os.path.join(self.path, name)
            raise ValueError(f"{path} cannot be read, evaluate again: {error}") from error

    @functools.cached_property
    def _reports(self) -> dict[str, dict[str, Any]]:
        """Contents of the files that have an evaluation, by name."""
        found = {}
        for name in sorted(tf.io.gfile.listdir(self.path)):
            if name.endswith(".json"):
                try:
                    value = files.read_json(os.path.join(self.path, name))
                except files.FileError as error:
                    warnings.warn(f"{error} It is left out.", stacklevel=3)
                    continue
                if isinstance(value, dict) and isinstance(value.get("evaluation"), dict):
                    found[name] = value
        return found

    def _of_another(self, report: dict[str, Any]) -> str:
        """Of what else than this run's model on its own test images a result is; '' if of that."""
        kind = (report.get("inference") or {}).get("kind", "")
        if kind != self.inference:
            return f"with inference {kind}" if kind else "of the network alone"
        if report.get("model"):
            return f"of the model {report['model']}"
        other = reproduce_command.foreign(report, reproduce_command.fingerprint_in(self.summary))
        if other:
            return other.removeprefix("it is ")
        shard = report["evaluation"].get("shard")
        if shard:
            return f"on the shard {'/'.join(map(str, shard))}"
        data, own = report.get("data") or {}, self.summary.get("data") or {}
        if data.get("name", own.get("name")) != own.get("name", data.get("name")):
            return f"on {data['name']}"
        split = data.get("split", "test")
        return "" if split == "test" else f"on the {split} split"

    @property
    def eps(self) -> float | None:
        """The eps of its configuration, where there is one > 0."""
        return bindings.eps_of(self.configuration)


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
    weights = summary.get("weights")
    weights = weights if isinstance(weights, dict) else {}
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
