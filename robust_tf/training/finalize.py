"""What outlives a run: its models, its evaluation, and a summary of both."""

from __future__ import annotations

import os
from typing import Any

import keras

from robust_tf import data, evaluation, runs
from robust_tf.training import run_folder
from robust_tf.training.checkpoints import Checkpoints
from robust_tf.training.recipe import Recipe


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
    if checkpoints.load_best(list(models.values())):
        run_folder.save_model(models["model"], os.path.join(run_dir, "best.keras"))
        if select == "last":
            for model, weights in zip(models.values(), last, strict=True):
                model.set_weights(weights)
    for name, model in models.items():
        run_folder.save_model(model, os.path.join(run_dir, f"{name}.keras"))


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
