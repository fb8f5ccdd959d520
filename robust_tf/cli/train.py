"""`bin/train`: trains a recipe."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from robust_tf.cli import Parser, command, quiet_start

if TYPE_CHECKING:
    from robust_tf.recipes import LoadedRecipe

DEFAULT_RECIPE = "gin/adr_digits.gin"
EPILOG = """\
examples:
  bin/train --gin_file=gin/adr_digits.gin --gin_param=train.epochs=5
  bin/train --gin_file=gin/adr_mnist.gin --data_dir=FOLDER --run_dir=runs/adr_mnist
  bin/train --gin_file=gin/adr_mnist.gin --gin_file=gin/parts/mnist_short.gin --gin_param=eps=0.2

exit status: 0 when all is done, 2 when something given was wrong (before any training), 3 when
training failed, 130 when interrupted.
"""


def parser() -> Parser:
    """The command line."""
    parse = Parser(
        prog="train",
        description="Trains a robust classifier by a gin recipe. A run that was stopped continues "
        "when the same\ncommand is given again.",
        epilog=EPILOG,
    )
    parse.add_argument(
        "--gin_file",
        action="append",
        default=[],
        metavar="FILE",
        help=f"recipe; may be repeated, later ones win (default: {DEFAULT_RECIPE})",
    )
    parse.add_argument(
        "--gin_param",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="one binding, e.g. PGD.eps=0.2; may be repeated",
    )
    parse.add_argument(
        "--run_dir", metavar="DIR", help="folder of the run (default: runs/NAME_OF_RECIPE)"
    )
    parse.add_argument(
        "--data_dir",
        metavar="DIR",
        help="folder of prepared tfds datasets (default: TFDS_DATA_DIR)",
    )
    parse.add_argument(
        "--restart",
        action="store_true",
        help="delete what an earlier run wrote in the folder; other files stay",
    )
    parse.add_argument(
        "--dry_run", action="store_true", help="check everything, train nothing, write nothing"
    )
    parse.add_argument(
        "--strategy",
        default="auto",
        metavar="NAME",
        help="auto (default), none, mirrored, multi_worker, tpu or tpu:NAME",
    )
    return parse


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    options = parser().parse_args(argv)
    # TensorFlow takes seconds to import: not before the arguments are known to be right.
    with quiet_start():
        from robust_tf.training import make_strategy

        # Collective operations must be set up before anything else touches TensorFlow.
        strategy = make_strategy(options.strategy)
        from robust_tf import recipes

    recipe = recipes.load(options.gin_file or [DEFAULT_RECIPE], options.gin_param)
    compared = recipe.comparisons()
    for one in (recipe, *compared.values()):
        one.data(options.data_dir)
    if options.dry_run:
        for one in (recipe, *compared.values()):
            print(_describe(one, strategy))
        _note_idle(recipe)
        print("dry run: nothing was trained or written.")
        return 0
    import tensorflow as tf

    run_dir = options.run_dir or os.path.join("runs", recipe.name)
    folders = {name: os.path.join(run_dir, "comparison", name) for name in compared}
    try:
        # All are made ready before one is trained: what is wrong with the last is told at once.
        trainers = [recipe.trainer(run_dir, strategy=strategy, restart=options.restart)]
        trainers += [
            one.trainer(folders[name], strategy=strategy, restart=options.restart)
            for name, one in compared.items()
        ]
        _note_idle(recipe)
        return _train(trainers, run_dir)
    except (tf.errors.UnavailableError, tf.errors.AbortedError):
        print(
            "error: another worker is gone; its own output says why. Start all workers again: the "
            f"run continues from the last checkpoint in {run_dir}.",
            file=sys.stderr,
        )
        return 3


def _note_idle(recipe: LoadedRecipe) -> None:
    for binding in recipe.without_effect():
        owner = binding.split("=")[0].rpartition(".")[0].strip()
        print(f"note: {binding} has no effect, this run has no {owner}.", file=sys.stderr)


def _train(trainers: Sequence[Any], run_dir: str) -> int:
    """Trains one after the other and prints a table of all, the recipe's own method last."""
    import tensorflow as tf

    from robust_tf.training import NonFiniteLossError

    rows: dict[str, Any] = {}
    chief = trainers[0].chief
    for trainer in trainers:
        title = type(trainer.model).__name__
        if chief:
            print(f"{title}: {_state(trainer)}", flush=True)
            if trainer.precision.asked == "auto":
                print(f"precision: {trainer.precision.dtype}, {trainer.precision.reason}")
        title = title if title not in rows else f"{title}, {os.path.basename(trainer.run_dir)}"
        try:
            rows[title] = trainer.train()
        except (NonFiniteLossError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 3
        except tf.errors.ResourceExhaustedError as error:
            print(f"error: out of memory or disk: {_line(error)}", file=sys.stderr)
            return 3
    if chief:
        own, *others = rows.items()
        print(comparison(dict([*others, own])))
        print(f"results: {os.path.join(run_dir, 'summary.json')}")
    return 0


def _state(trainer: Any) -> str:
    """Where a run stands before it goes on."""
    epoch, epochs = int(trainer.progress.epoch.numpy()), trainer.recipe.epochs
    if trainer.finished:
        return f"finished earlier in {trainer.run_dir}"
    if trainer.resumed and trainer.over:
        return f"trained earlier in {trainer.run_dir}; evaluating"
    if trainer.resumed:
        return f"continuing in epoch {epoch + 1} of {epochs} in {trainer.run_dir}"
    images = f"{len(trainer.dataset.train)} images of {trainer.dataset.name}"
    return f"{images}, {epochs} epochs, run folder {trainer.run_dir}"


def _describe(recipe: LoadedRecipe, strategy: Any) -> str:
    """What a run would do."""
    from robust_tf import precision
    from robust_tf.data import steps_per_epoch

    model, settings, dataset = recipe.model(strategy=strategy), recipe.settings, recipe.data()
    steps = steps_per_epoch(dataset.train, settings.batch_size)
    with warnings.catch_warnings():  # said when the model was built
        warnings.simplefilter("ignore")
        chosen = precision.choose(settings.dtype_policy)
    weights = ", ".join(f"{name} {weight:g}" for name, weight in model.term_weights.items())
    return "\n".join(
        [
            recipe.text,
            f"method      {type(model).__name__}: {weights}",
            f"network     {model.network.name}, {model.network.count_params():,} parameters",
            f"data        {dataset.name}: {len(dataset.train)} training, {len(dataset.validation)} "
            f"validation, {len(dataset.test)} test",
            f"schedule    {settings.epochs} epochs of {steps} steps of "
            f"{settings.batch_size} images",
            f"precision   {chosen.dtype}, {chosen.reason}",
            f"strategy    {type(strategy).__name__}, {strategy.num_replicas_in_sync} replica(s)",
            "",
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


def _line(error: Any) -> str:
    return (str(getattr(error, "message", error)).strip().splitlines() or [type(error).__name__])[0]


def run() -> None:
    """Console entry point."""
    sys.exit(main())


if __name__ == "__main__":
    run()
