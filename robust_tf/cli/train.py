"""`bin/train`: trains a recipe."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

import gin
import tensorflow as tf

from robust_tf import data, files
from robust_tf.cli import configuration
from robust_tf.training import NonFiniteLossError, Recipe, RunFolderError, Trainer, make_strategy


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parse = argparse.ArgumentParser(
        prog="bin/train",
        description="Trains a robust classifier by a gin recipe. A run that was stopped continues "
        "when the same command is given again.",
        epilog="example: bin/train --gin_file=gin/adr_digits.gin --gin_param=train.epochs=5",
    )
    parse.add_argument(
        "--gin_file",
        action="append",
        default=[],
        metavar="FILE",
        help="recipe; may be repeated, later ones win",
    )
    parse.add_argument(
        "--gin_param",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="one binding, e.g. PGD.eps=0.2; may be repeated",
    )
    parse.add_argument("--run_dir", help="folder of the run (default: runs/NAME_OF_RECIPE)")
    parse.add_argument(
        "--data_dir", help="folder of prepared tfds datasets (default: TFDS_DATA_DIR)"
    )
    parse.add_argument(
        "--restart", action="store_true", help="delete what an earlier run left in the folder"
    )
    parse.add_argument(
        "--dry_run", action="store_true", help="check everything, train nothing, write nothing"
    )
    parse.add_argument(
        "--strategy", default="auto", help="auto, none, mirrored, multi_worker, tpu or tpu:NAME"
    )
    return parse


def main(argv: list[str] | None = None) -> int:
    """Runs the command; 0 on success, 2 where the input was wrong, 3 where training failed."""
    arguments = parser().parse_args(argv)
    try:
        _train(arguments)
    except (ValueError, TypeError, RunFolderError, data.DataError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except tf.errors.ResourceExhaustedError as error:
        print(f"error: out of memory or disk: {error.message}", file=sys.stderr)
        return 3
    except NonFiniteLossError as error:
        print(f"error: {error}", file=sys.stderr)
        return 3
    return 0


def _train(arguments: argparse.Namespace) -> None:
    # Collective operations must be set up before anything else touches TensorFlow.
    strategy = make_strategy(arguments.strategy)
    recipes = arguments.gin_file or ["gin/adr_digits.gin"]
    text = configuration.load(recipes, arguments.gin_param)
    gin.finalize()
    recipe = Recipe()
    dataset = data.load(data_dir=arguments.data_dir)
    name = os.path.splitext(os.path.basename(recipes[0]))[0]
    run_dir = arguments.run_dir or os.path.join("runs", name)
    if arguments.dry_run:
        print(describe(recipe, dataset, strategy, text))
        return
    rows = {}
    for method, folder in methods_of(recipe, run_dir):
        trainer = Trainer(method, dataset, folder, strategy, text, arguments.restart)
        files.write_text(os.path.join(folder, "config.gin"), gin.operative_config_str())
        title = type(trainer.model).__name__
        if trainer.resumed:
            print(f"{title}: continuing at epoch {trainer.progress.epoch.numpy() + 1} in {folder}")
        else:
            print(f"{title}: {len(dataset.train)} images of {dataset.name}, run folder {folder}")
        rows[title] = trainer.train()
    print(comparison(rows))
    print(f"results: {os.path.join(run_dir, 'summary.json')}")


def methods_of(recipe: Recipe, run_dir: str) -> list[tuple[Recipe, str]]:
    """The recipe, and the same with the method that it is compared with, each with its folder."""
    import dataclasses

    runs = [(recipe, run_dir)]
    if recipe.compare_with is not None:
        other = dataclasses.replace(recipe, method=recipe.compare_with, compare_with=None)
        runs.append((other, os.path.join(run_dir, "comparison")))
    return runs


def describe(recipe: Recipe, dataset: data.Data, strategy: Any, text: str) -> str:
    """What a run would do."""
    model = recipe.build(dataset, strategy)
    steps = data.steps_per_epoch(dataset.train, recipe.batch_size)
    return "\n".join(
        [
            text,
            f"method      {type(model).__name__}, terms {model.term_weights}",
            f"network     {model.network.name}, {model.network.count_params():,} parameters",
            f"data        {dataset.name}: {len(dataset.train)} training, {len(dataset.validation)} "
            f"validation, {len(dataset.test)} test",
            f"schedule    {recipe.epochs} epochs of {steps} steps of {recipe.batch_size} images",
            f"strategy    {type(strategy).__name__}, {strategy.num_replicas_in_sync} replica(s)",
            "dry run: nothing was trained or written.",
        ]
    )


def comparison(rows: dict[str, dict[str, Any]]) -> str:
    """A table of summaries, one row for each method."""
    first = next(iter(rows.values()))
    count = first["evaluation"]["examples"]
    columns = ["natural", *first["robust_accuracy"], "worst case"]
    lines = [f"\naccuracy on {count} test images, %"]
    lines.append(f"{'':24}" + "".join(f"{name:>{max(len(name), 9) + 2}}" for name in columns))
    for title, row in rows.items():
        values = [row["natural_accuracy"], *row["robust_accuracy"].values(), row["worst_case"]]
        cells = "".join(
            f"{100 * value:>{max(len(name), 9) + 2}.2f}"
            for name, value in zip(columns, values, strict=True)
        )
        lines.append(f"{title:24}{cells}")
    return "\n".join(lines)


def run() -> None:
    """Console entry point."""
    sys.exit(main())


if __name__ == "__main__":
    run()
