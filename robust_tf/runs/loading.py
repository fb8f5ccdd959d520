"""Reads runs and their models."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from robust_tf import files, inference, modules
from robust_tf.evaluation.loading import load_model
from robust_tf.runs.run import Run


def read_run(path: str | os.PathLike[str], name: str | None = None, tolerant: bool = False) -> Run:
    """Reads the folder of a run; see `Run` for the arguments and errors."""
    return Run(path, name, tolerant)


def read_runs(paths: Sequence[str | os.PathLike[str]]) -> dict[str, Run]:
    """Runs by the label of their method; two of one are told apart by folder: 'ADV (adv_2)'."""
    found = [read_run(path) for path in paths]
    labels = [run.label or run.name for run in found]
    result: dict[str, Run] = {}
    for run, label in zip(found, labels, strict=True):
        name = label if labels.count(label) == 1 else f"{label} ({run.name})"
        result[f"{label} ({run.path})" if name in result else name] = run
    return result


def load_run(
    path: str | os.PathLike[str], imports: bool | Sequence[str] = True
) -> Callable[..., Any]:
    """The trained network of a run folder, `Run(path).model`.

    Args:
      path: the folder.
      imports: whether the modules that the run records may be imported, each is said with its file;
        or, before them, others by name or path: ['lab/my_lab.py'].

    Raises:
      RunError: no such folder, or not the folder of a run.
      FileError: no trained model in it.
      ValueError: the file in it is not a model, or needs a module that was not imported.
    """
    with modules.scope():
        if imports is False:
            modules.refuse()
        for name in [] if isinstance(imports, bool) else imports:
            modules.load(name)
        return Run(path).model


def load_inference(
    run: Run | str | os.PathLike[str], kind: str = "imt", **arguments: Any
) -> inference.ManifoldTransformation:
    """The trained network of a run of ATLD behind its manifold transformation.

    Args:
      run: the run, or its folder, which holds `model.keras` and `discriminator.keras`.
      kind: 'imt', or 'imt+' with its gate.
      **arguments: of `inference.ManifoldTransformation`: delta, gate, gated_delta, disc_input. The
        last is the run's own by default.

    Raises:
      RunError, FileError: as `load_run`; or the run has left no discriminator.
      ValueError: another kind; a gate for 'imt'; as `ManifoldTransformation`.
    """
    _check_kind(kind, arguments)
    run = run if isinstance(run, Run) else Run(run)
    network: Any = run.model
    path = os.path.join(run.path, "discriminator.keras")
    if not files.exists(path):
        raise files.FileError(
            f"{run.path} holds no discriminator.keras: manifold transformation needs the "
            "discriminator of a run of ATLD; give the folder of one."
        )
    arguments.setdefault("disc_input", run.disc_input or "logits")
    return behind(network, load_model(path), kind, **arguments)


def behind(
    network: Any, discriminator: Any, kind: str = "imt", **arguments: Any
) -> inference.ManifoldTransformation:
    """Any network behind the manifold transformation of the discriminator trained with it.

    Args and errors: as `load_inference`; the discriminator judges logits by default.
    """
    _check_kind(kind, arguments)
    if kind == "imt+" and arguments.get("gate") is None:
        arguments["gate"] = inference.GATE
    return inference.ManifoldTransformation(network, discriminator, **arguments)


def _check_kind(kind: str, arguments: dict[str, Any]) -> None:
    if kind not in ("imt", "imt+"):
        raise ValueError(f"kind={kind!r}: must be 'imt' or 'imt+'.")
    if kind == "imt" and arguments.get("gate") is not None:
        raise ValueError("a gate belongs to 'imt+'; 'imt' has none.")
