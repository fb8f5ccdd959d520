"""`bin/train`: trains a recipe."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from robust_tf import stopping
from robust_tf.cli import Parser, UserError, command, dry_run, quiet_start, seed_list
from robust_tf.cli.summary_table import comparison, over_seeds

if TYPE_CHECKING:
    from robust_tf.recipes import LoadedRecipe

DEFAULT_RECIPE = "gin/adr_digits.gin"
EPILOG = """\
examples:
  bin/train --gin_file=gin/adr_digits.gin --gin_param=train.epochs=5
  bin/train --gin_file=gin/adr_mnist.gin --data_dir=FOLDER --run_dir=runs/adr_mnist
  bin/train --gin_file=gin/adr_mnist.gin --gin_file=gin/parts/mnist_short.gin --gin_param=eps=0.2
  bin/train --gin_file=gin/adr_digits.gin --seeds=0,1,2 --run_dir=runs/adr_digits_seeds

A run that gets SIGTERM or SIGINT saves where it stands after the current steps and ends; a second
signal ends it at once. The same command continues it, also with another number of workers. See
docs/many_machines.md for Slurm and Kubernetes.

exit status: 0 when all is done, 1 when workers could not be connected, 2 when something given was
wrong (before any training), 3 when training failed, 75 when another worker did not come or is gone
(start all again), 143 when stopped by SIGTERM, 130 by SIGINT.
"""
GONE = 75  # EX_TEMPFAIL of sysexits.h: try again


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
        "--seeds",
        type=seed_list,
        metavar="LIST",
        help="a run for each seed, e.g. 0,1,2, in RUN_DIR/seed-N; ends with mean and deviation",
    )
    parse.add_argument(
        "--restart",
        action="store_true",
        help="delete what an earlier run wrote in the folder; other files stay",
    )
    parse.add_argument(
        "--dry_run",
        action="store_true",
        help="check everything, read every image, train nothing, write nothing",
    )
    parse.add_argument(
        "--strategy",
        default="auto",
        metavar="NAME",
        help="auto (default), none, mirrored, multi_worker, tpu or tpu:NAME; workers find each "
        "other by TF_CONFIG, a Slurm step, or an indexed Job of Kubernetes",
    )
    parse.add_argument(
        "--wait_minutes",
        type=minutes,
        default=30.0,
        metavar="M",
        help="how long a worker waits for the others before it gives up (default: 30)",
    )
    return parse


def minutes(text: str) -> float:
    """An argparse type: a number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} must be a number of minutes > 0")
    return value


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    options = parser().parse_args(argv)
    with stopping.handled():
        return _main(options)


def _main(options: argparse.Namespace) -> int:
    # TensorFlow takes seconds to import: not before the arguments are known to be right.
    with quiet_start() as say:
        from robust_tf.training import MissingWorkerError, make_strategy

        # Collective operations must be set up before anything else touches TensorFlow.
        try:
            strategy = make_strategy(options.strategy, options.wait_minutes, say)
        except MissingWorkerError as error:
            say(f"error: {error}")
            return GONE
        from robust_tf import recipes

    gin_files = options.gin_file or [DEFAULT_RECIPE]
    earlier = [] if options.restart else _import_earlier(options, gin_files)
    recipe = recipes.load(gin_files, options.gin_param, [*options.imports, *earlier])
    run_dir = options.run_dir or os.path.join("runs", recipe.name)
    loaded = {run_dir: recipe}
    if options.seeds is not None:
        loaded = _by_seed(recipe, run_dir, options.seeds)
    first = next(iter(loaded.values()))
    # By folder of a run, what is trained in it and beside it.
    planned = {
        folder: {
            folder: own,
            **{os.path.join(folder, "comparison", n): one for n, one in own.comparisons().items()},
        }
        for folder, own in loaded.items()
    }
    for those in planned.values():
        for one in those.values():
            one.data(options.data_dir)
    if options.dry_run:
        for those in planned.values():
            for one in those.values():
                one.data().check()
                print(dry_run.describe(one, strategy))
        _note_idle(first)
        print("dry run: nothing was trained or written.")
        return 0
    import tensorflow as tf

    from robust_tf.training.distribution import is_lost

    try:
        # All are made ready before one is trained: what is wrong with the last is told at once.
        trainers = {
            folder: [
                one.trainer(place, strategy=strategy, restart=options.restart)
                for place, one in those.items()
            ]
            for folder, those in planned.items()
        }
        _note_idle(first)
        return _train(trainers)
    except tf.errors.OpError as error:
        if not is_lost(error):
            raise
        if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
            what = "another worker is gone; its own output says why. Start all workers again: the "
        else:  # a bucket, a TPU
            what = f"what this run uses does not answer ({_line(error)}). Start it again: the "
        print(f"error: {what}run continues from the last checkpoint in {run_dir}.", file=sys.stderr)
        return GONE


def _import_earlier(options: Any, gin_files: Sequence[str]) -> list[str]:
    """The modules that the run in the folder records, imported for it to be continued.

    They are first looked for beside the recipes, which import some of them again.
    """
    from robust_tf import modules, recipes

    name = os.path.splitext(os.path.basename(gin_files[0]))[0]
    run_dir = options.run_dir or os.path.join("runs", name)
    folders = [run_dir, *(os.path.join(run_dir, f"seed-{seed}") for seed in options.seeds or ())]
    places = [os.path.dirname(os.path.abspath(recipes.find(path))) for path in gin_files]
    found: dict[str, None] = {}
    for folder in folders:
        recorded = modules.recorded_in(folder)
        if recorded and options.imports:  # of those of --import the user says where they are
            recipes.import_modules(options.imports, gin_files)
        modules.import_recorded(recorded, folder, places)
        found |= {one["name"]: None for one in recorded if one["name"] in sys.modules}
    return list(found)


def _by_seed(recipe: LoadedRecipe, run_dir: str, seeds: Sequence[int]) -> dict[str, LoadedRecipe]:
    """The recipe with each seed, by its folder."""
    from robust_tf import files, recipes

    if any(param.split("=")[0].strip() == "train.seed" for param in recipe.params):
        raise UserError("--seeds and --gin_param=train.seed=... say the same; give one of them.")
    if files.exists(os.path.join(run_dir, "identity.json")):
        raise UserError(
            f"{run_dir} is the folder of a run; with --seeds the runs lie in folders inside it, so "
            "choose another --run_dir."
        )
    return {
        os.path.join(run_dir, f"seed-{seed}"): recipes.load(
            recipe.files, [*recipe.params, f"train.seed={seed}"], recipe.imports
        )
        for seed in seeds
    }


def _note_idle(recipe: LoadedRecipe) -> None:
    for binding in recipe.without_effect():
        owner = binding.split("=")[0].rpartition(".")[0].strip()
        print(f"note: {binding} has no effect, this run has no {owner}.", file=sys.stderr)


def _train(trainers: dict[str, list[Any]]) -> int:
    """Trains one after the other, by folder; prints a table, each recipe's own method last."""
    import tensorflow as tf

    from robust_tf.training import NonFiniteLossError

    if len(trainers) > 1:
        tf.get_logger().setLevel("ERROR")  # it warns of one graph for each seed, which is meant
    rows: dict[str, list[dict[str, Any]]] = {}
    titles: list[str] = []
    chief = True
    for run_dir, those in trainers.items():
        chief, titles = those[0].chief, []
        for trainer in those:
            title = type(trainer.model).__name__
            if chief:
                print(f"{title}: {_state(trainer)}", flush=True)
                if trainer.precision.asked == "auto":
                    print(f"precision: {trainer.precision.dtype}, {trainer.precision.reason}")
                if trainer.xla.asked != "off":
                    print(f"xla: {trainer.xla.chosen}, {trainer.xla.reason}")
            if title in titles:
                title += f", {os.path.basename(trainer.run_dir)}"
            titles.append(title)
            try:
                rows.setdefault(title, []).append(trainer.train())
            except (NonFiniteLossError, OSError) as error:
                print(f"error: {error}", file=sys.stderr)
                return 3
            except tf.errors.ResourceExhaustedError as error:
                print(f"error: out of memory or disk: {_line(error)}", file=sys.stderr)
                return 3
        if chief:
            named = list(rows.items())
            print(comparison({name: values[-1] for name, values in [*named[1:], named[0]]}))
            print(f"results: {os.path.join(run_dir, 'summary.json')}")
    if chief and len(trainers) > 1:
        named = list(rows.items())
        print(over_seeds(dict([*named[1:], named[0]])))
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


def _line(error: Any) -> str:
    return (str(getattr(error, "message", error)).strip().splitlines() or [type(error).__name__])[0]


def run() -> None:
    """Console entry point."""
    sys.exit(main())


if __name__ == "__main__":
    run()
