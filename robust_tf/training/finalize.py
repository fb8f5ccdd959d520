"""What outlives a run: its models, its evaluation, and a summary of both."""

from __future__ import annotations

import os
import warnings
from typing import Any

import keras

from robust_tf import data, evaluation, files, runs
from robust_tf.training import run_folder
from robust_tf.training.checkpoints import CheckpointError, Checkpoints, Progress
from robust_tf.training.recipe import Recipe


def selected(recipe: Recipe, progress: Progress, stopped: bool) -> str:
    """Which network a run keeps: 'last' or 'best'.

    Args:
      recipe: of the run.
      progress: at its end.
      stopped: whether its guard has ended it: then the last network is the overfitted one.
    """
    robust = recipe.validation_attack is not None and progress.best_epoch.numpy() > 0
    return "best" if stopped and robust else recipe.select


def save_models(
    run_dir: str, models: dict[str, keras.Model], checkpoints: Checkpoints, select: str
) -> None:
    """Writes the models chosen by `select`, and the network of the best validation as `best.keras`.

    Args:
      run_dir: of the run.
      models: 'model', the network, and its auxiliary models, as they are at the end; on return
        as chosen.
      checkpoints: which know the best.
      select: 'last' or 'best'.
    """
    last = [model.get_weights() for model in models.values()]
    if _load_best(checkpoints, list(models.values()), select):
        run_folder.save_model(models["model"], os.path.join(run_dir, "best.keras"))
        if select == "last":
            for model, weights in zip(models.values(), last, strict=True):
                model.set_weights(weights)
    for name, model in models.items():
        run_folder.save_model(model, os.path.join(run_dir, f"{name}.keras"))


def _load_best(checkpoints: Checkpoints, models: list[keras.Model], select: str) -> bool:
    """As `Checkpoints.load_best`; one that is damaged is left out where it is not selected."""
    try:
        return checkpoints.load_best(models)
    except CheckpointError as error:
        if select == "best":
            raise
        warnings.warn(f"there will be no best.keras: {error}", stacklevel=2)
        return False


def is_finished(run_dir: str) -> bool:
    """Whether a run has its summary; a damaged one is made again, with a warning."""
    try:
        return bool(runs.read_summary(run_dir))
    except files.FileError as error:
        warnings.warn(f"{error} The run is evaluated again.", stacklevel=3)
        return False


def summary(
    recipe: Recipe, dataset: data.Data, network: keras.Model, about: dict[str, Any]
) -> dict[str, Any]:
    """Evaluates the network on the test images; all that a reader of the run wants to know."""
    result = evaluation.evaluate(
        network,
        dataset.test,
        recipe.evaluation_attacks,
        max_examples=recipe.evaluation_examples,
        seed=recipe.seed,
        # Of the six names the first, as in the papers; others may lie class by class.
        draw="first" if dataset.name in data.NAMES else "balanced",
    )
    return {
        **about,
        "natural_accuracy": result.natural_accuracy,
        "robust_accuracy": {name: result.accuracy(name) for name in result.robust},
        "worst_case": result.worst_case_accuracy,
        "data": runs.describe_data(dataset),
        "parameters": network.count_params(),
        "versions": runs.versions(),
        "evaluation": result.to_json(),
    }
