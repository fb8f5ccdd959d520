"""`Run`: what the folder of a run tells, the same to figures, reports, exports and evaluations."""

from __future__ import annotations

import copy
import functools
import os
from collections.abc import Callable
from typing import Any

from robust_tf import files, modules
from robust_tf.attacks import Attack
from robust_tf.evaluation import Evaluation, attacks_from_json
from robust_tf.evaluation.loading import load_model
from robust_tf.evaluation.reproduce_command import foreign
from robust_tf.runs import notes, results
from robust_tf.runs.folder import RunFolder
from robust_tf.runs.naming import label_of
from robust_tf.runs.record import evaluation_number


class Run(RunFolder):
    """The folder of a run, finished or not, of this version or of 0.1.

    What a run was given stands in `run.json`; a folder of version 0.1 has none, there `config.gin`
    and `summary.json` tell it. Files are read when they are first asked for, `run.json` and
    `summary.json` at once.

    Args:
      path: the folder.
      name: to show; default: the folder's own.
      tolerant: a damaged `run.json` or `summary.json` is left out, and `notes` says so.

    Attributes:
      path, name: see above.
      record: content of `run.json`, see `record.describe`; of a run of 0.1 what can be told.
      summary: content of `summary.json`, {} where there is none.
      configuration: gin's bindings as text, '' where there are none.
      entries: names of the files and folders in it.
      reports: by name, contents of the files that hold an evaluation.
      inference: the defense in front of the network, see `behind`; '' of the network alone.

    Raises:
      RunError: no such folder, nothing in it that a run writes, or a damaged file.
    """

    inference = ""
    _load: Callable[[], Callable[..., Any]] | None = None

    def __repr__(self) -> str:
        return f"Run({self.path!r}, {self.label!r})"

    @property
    def method(self) -> str:
        """Class of the method, '' where nothing tells it."""
        return str(self.record["method"].get("name") or "")

    @property
    def terms(self) -> dict[str, float]:
        """The terms of its loss with their weights."""
        return self.record["method"].get("terms") or {}

    @property
    def attack_steps(self) -> int | None:
        """Gradient steps of the training attack, 0 without one; None where nothing tells it."""
        steps = self.record["method"].get("attack_steps")
        return steps if isinstance(steps, int) else None

    @property
    def label(self) -> str:
        """The method as figures and tables name it, e.g. 'ADR LC/GB'; '' where nothing tells it."""
        return label_of(self.method, self.terms, self.record["threat"].get("attack"))

    @property
    def network(self) -> dict[str, Any]:
        """Of the network: 'builder', 'class', 'parameters', 'image_shape', 'num_classes'."""
        return self.record["network"]

    @property
    def data(self) -> dict[str, Any]:
        """Of the data: 'name', 'fingerprint', 'splits', sizes; {} where nothing tells it."""
        return self.record["data"]

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Of the data, by label; None where they are not known."""
        return tuple(map(str, self.data.get("class_names") or ())) or None

    @property
    def threat(self) -> str:
        """Norm of the ball that it was trained in, 'Linf' where nothing else is said."""
        return self.record["threat"].get("norm") or "Linf"

    @property
    def eps(self) -> float | None:
        """Radius of that ball, > 0; None where there is none."""
        return self.record["threat"].get("eps")

    @property
    def balls(self) -> tuple[tuple[str, float], ...]:
        """Norm and radius of the ball that it was trained in, of a union of balls all; () of none.

        `threat` and `eps` are the L-inf one's of a union, else the first one's.
        """
        found = self.record["threat"].get("balls") or [(self.threat, self.eps)]
        return tuple((str(norm), float(eps)) for norm, eps in found if eps)

    @property
    def linf_eps(self) -> float | None:
        """Radius of the L-inf ball that it was trained in; None where there is none."""
        return next((eps for norm, eps in self.balls if norm == "Linf"), None)

    @property
    def step_size(self) -> float | None:
        """Of the training attack."""
        return self.record["threat"].get("step_size")

    @property
    def evaluation_step_size(self) -> float | None:
        """Of the run's own evaluation, where it says so."""
        return evaluation_number(self.record, "step_size")

    @property
    def evaluation_steps(self) -> int | None:
        """Of the run's own evaluation, where it says so."""
        steps = evaluation_number(self.record, "steps")
        return None if steps is None else int(steps)

    @property
    def attack(self) -> Attack | None:
        """The training attack; None without one, or of a run of 0.1, which does not tell it."""
        config = self.record["attacks"].get("training")
        return None if config is None else self._attack("training", config)

    @functools.cached_property
    def attacks(self) -> dict[str, Attack]:
        """The attacks of the run's own evaluation, by name.

        Raises:
          ValueError: one of them is not known to this version.
        """
        configs = self.record["attacks"].get("evaluation") or {}
        return {name: self._attack(name, config) for name, config in configs.items()}

    @property
    def disc_input(self) -> str | None:
        """What the discriminator takes, 'logits' or 'features'; None without a discriminator."""
        return self.record["disc_input"]

    @property
    def seed(self) -> int | None:
        """Of weights, data order and everything random in the training."""
        return self.record["seed"]

    @property
    def precision(self) -> str:
        """What it computed in, 'float32', 'bfloat16' or 'float16'."""
        chosen = (self.record["precision"] or {}).get("chosen")
        policy = str(chosen or self.record["training"].get("dtype_policy") or "float32")
        return policy.removeprefix("mixed_")

    @property
    def versions(self) -> dict[str, str]:
        """Of robust_tf, TensorFlow, Keras and Python, when the run started."""
        return self.record["versions"]

    @property
    def bindings(self) -> dict[str, Any]:
        """Gin's bindings, 'PGD.steps' -> 40; {} of a run that was made without gin."""
        return self.record["bindings"]

    @property
    def fingerprint(self) -> str | None:
        """Of the weights, as the run's own evaluation tells it."""
        own = self.summary.get("evaluation")
        return own.get("model") if isinstance(own, dict) else None

    @property
    def finished(self) -> bool:
        """Whether there is a summary: it is written last."""
        return bool(self.summary)

    @property
    def has_model(self) -> bool:
        """Whether there is a `model.keras`."""
        return "model.keras" in self.entries

    @functools.cached_property
    def model(self) -> Callable[..., Any]:
        """The trained network; the modules that the run records are imported before.

        Raises:
          FileError: there is none yet. ValueError: the file is not a model, or needs a module that
            was not imported.
        """
        if self._load is not None:
            return self._load()
        if not self.has_model:
            raise files.FileError(
                f"{self.path} holds no model.keras: its training has not ended; start the training "
                "again with the same --run_dir and it continues."
            )
        fault = self.import_modules()
        try:
            return load_model(os.path.join(self.path, "model.keras"))
        except ValueError as error:
            if not fault:
                raise
            path = os.path.join(self.path, "model.keras")
            raise ValueError(f"{path} cannot be read: {fault}") from error

    def import_modules(self) -> str:
        """Imports the modules that the run records, once; what needs them does it by itself.

        Returns:
          Why one was not imported, a sentence, which has been said as a `modules.ModuleNote`, too;
          '' if all were.
        """
        return self._import_fault

    @functools.cached_property
    def _import_fault(self) -> str:
        return modules.import_recorded(self.record["modules"], self.path)

    def behind(self, inference: str, load: Callable[[], Callable[..., Any]]) -> Run:
        """The same run with a defense in front of its network.

        Args:
          inference: its name, 'imt' or 'imt+': `evaluations` are those behind it.
          load: makes the defended model, when `model` is first asked for.
        """
        other = copy.copy(self)
        other.__dict__.pop("model", None)
        other.inference, other._load = inference, load
        return other

    @functools.cached_property
    def results(self) -> list[results.Result]:
        """Every evaluation in the folder of this run's own weights, that of `summary.json` first.

        Those of other weights, and files that cannot be read, are left out; `notes` says which.
        """
        self.import_modules()
        found = []
        for name, content in self.reports.items():
            modules.import_recorded(content.get("modules"), os.path.join(self.path, name))
            other = "" if name == "summary.json" else foreign(content, self.fingerprint)
            if other:
                self._left_out.append(f"{name} is left out: {other}.")
                continue
            try:
                found.append(results.read_result(name, content))
            except ValueError as error:
                what = "The evaluation in summary.json" if name == "summary.json" else name
                self._left_out.append(f"{what} is left out: {error}")
        return found

    @property
    def evaluations(self) -> dict[str, Evaluation]:
        """By file name: those of this run's model on its own test images, and not on a shard.

        With `behind` those of the defended model. `others` names the rest.
        """
        own = [one for one in self.results if not self._of_another(self.reports[one.file])]
        return {one.file: one.evaluation for one in own}

    @property
    def others(self) -> dict[str, str]:
        """By file name: evaluations of something else in the folder, and of what."""
        said = {name: self._of_another(content) for name, content in self.reports.items()}
        return {name: what for name, what in said.items() if what}

    def evaluation(self, name: str) -> Evaluation:
        """The evaluation in the file of this name, whatever it is of.

        Raises:
          KeyError: there is no such file, or it is none. ValueError: of another version.
        """
        try:
            return Evaluation.from_json(self.reports[name]["evaluation"])
        except ValueError as error:
            path = os.path.join(self.path, name)
            raise ValueError(f"{path} cannot be read, evaluate again: {error}") from error

    @property
    def left_out(self) -> list[str]:
        """Files that are damaged, of another version, or of other weights, each a sentence."""
        self.results  # noqa: B018 (reads them)
        return list(dict.fromkeys(self._left_out))

    @property
    def notes(self) -> list[str]:
        """What is missing, damaged, or of another version, each a sentence."""
        return notes.of_run(self)

    def _of_another(self, content: Any) -> str:
        name = self.data.get("name")
        return results.other_subject(content, self.fingerprint, self.inference, name)

    def _attack(self, name: str, config: Any) -> Attack:
        fault = self.import_modules()
        try:
            return attacks_from_json({"attacks": {name: {"attack": config}}})[name]
        except ValueError as error:
            if not fault:
                raise
            raise ValueError(f"cannot rebuild the attack {name!r}: {fault}") from error
