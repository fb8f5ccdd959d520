"""`--devices` and `--status` of `bin/evaluate`: one evaluation in many processes."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from robust_tf import evaluation_progress
from robust_tf.cli import Parser, UserError, engine_options
from robust_tf.evaluation_progress import SHARDS

if TYPE_CHECKING:
    from robust_tf.engines import Engine

MODULE = "robust_tf.cli.evaluate"
# What a shard's command has otherwise than the whole's.
OWN = ("devices", "engine", "address", "output", "save_adversarial", "shard")
DEVICES = """\
one process for each, on a part of the images; the result is that of one process, verdict by
verdict. What is done is kept in OUTPUT.shards until all is; --status tells how far it is."""


def add_options(parser: Parser) -> None:
    """The options of an evaluation in many processes."""
    group = parser.add_argument_group("many devices", DEVICES)
    engine_options.add_options(group, "so many shards at once")


def check_options(options: argparse.Namespace) -> None:
    """Raises UserError for options that do not go together, or a number that is none."""
    engine_options.check(options, ("merge", "status"))
    if options.status and not options.output:
        raise UserError("--status needs the --output of the evaluation.")


def status(output: str) -> str:
    """How far an evaluation is, from its files."""
    try:
        return evaluation_progress.table(evaluation_progress.read(output))
    except FileNotFoundError as error:
        raise UserError(str(error)) from None


def check_single(output: str | None) -> None:
    """Raises UserError where an evaluation by one process was begun by several."""
    from robust_tf import files

    if output and files.exists(output + SHARDS):
        raise UserError(
            f"{output}{SHARDS} holds an unfinished evaluation in shards; continue it with "
            "--devices=all, or delete it."
        )


def run(options: argparse.Namespace, engine: Engine, argv: Sequence[str]) -> int:
    """Runs the command `argv` in shards; the exit status."""
    from robust_tf.evaluation.shards import check_single
    from robust_tf.evaluation.state import parse_shard

    if options.save_adversarial:
        _check_images(options.save_adversarial)
    within = parse_shard(options.shard) if options.shard else None
    if options.output:
        check_single(options.output)
        return _run(options, engine, argv, within, options.output + SHARDS)
    with tempfile.TemporaryDirectory() as folder:
        return _run(options, engine, argv, within, os.path.join(folder, "shards"))


def _run(
    options: argparse.Namespace,
    engine: Engine,
    argv: Sequence[str],
    within: tuple[int, int] | None,
    folder: str,
) -> int:
    from robust_tf.cli import evaluate_file
    from robust_tf.evaluation.shards import ShardError, Shards

    words = list(without(argv, OWN))
    count = min(engine.workers, options.max_examples or engine.workers)
    fixed = options.devices not in (None, "all")
    about = {"command": words, "shard": within}
    shards = Shards(folder, about, count, fixed, kept=bool(options.output))
    print(f"{shards.count} shards, {engine.workers} at once", file=sys.stderr)
    try:
        if options.search_dtype == "auto":
            dtype = shards.search_dtype(engine)
            print(f"attacks compute in {dtype}, where the model is one of Keras", file=sys.stderr)
            words.append(f"--settled_dtype={dtype}")
        shards.run(_tasks(options, words, within, shards), engine)
    except KeyboardInterrupt:
        if options.output:
            print(f"\nkept in {folder}; the same command continues.", file=sys.stderr)
        raise
    except ShardError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if {one.status for one in error.endings.values()} == {2} else 3
    result, about = evaluate_file.merged(shards.outputs, within)
    if options.model:
        about["model"] = options.model
    if options.save_adversarial:
        _gather(_images(options.save_adversarial), options.save_adversarial, shards.count)
    evaluate_file.write(result, about, options.output)
    shards.close()
    return 0


def _tasks(
    options: argparse.Namespace,
    words: Sequence[str],
    within: tuple[int, int] | None,
    shards: Any,
) -> list[Any]:
    """The command of each shard."""
    from robust_tf.engines import Task
    from robust_tf.evaluation.shards import shard_within

    named = [options.model, options.discriminator, options.dataset]
    named += (options.transfer_from or "").split(",")
    sends = tuple(
        dict.fromkeys(one.strip() for one in named if one and os.path.isfile(one.strip()))
    )
    tasks = []
    for index, output in enumerate(shards.outputs, 1):
        part, parts = shard_within(within, index, shards.count)
        own = [*words, f"--shard={part}/{parts}", f"--output={os.path.abspath(output)}"]
        if options.save_adversarial:
            folder = os.path.join(_images(options.save_adversarial), f"{index}-of-{shards.count}")
            own.append(f"--save_adversarial={folder}")
        name = f"shard {index}/{shards.count}"
        tasks.append(Task(name, MODULE, tuple(own), os.path.abspath(output), sends))
    return tasks


def _images(folder: str) -> str:
    """Where the shards keep their adversarial images until all are there."""
    return folder.rstrip("/") + SHARDS


def _check_images(folder: str) -> None:
    """Raises UserError for a folder with the images of another evaluation."""
    import tensorflow as tf

    from robust_tf import files

    if tf.io.gfile.glob(os.path.join(folder, "*/*.npz")) and not files.exists(_images(folder)):
        raise UserError(f"{folder} holds the images of another evaluation; choose an empty folder.")


def _gather(source: str, target: str, count: int) -> None:
    """Moves the images of all shards, whose files have different names, into one folder."""
    import tensorflow as tf

    from robust_tf import files

    for folder in (os.path.join(source, f"{k + 1}-of-{count}") for k in range(count)):
        for path in sorted(tf.io.gfile.glob(os.path.join(folder, "*", "*.npz"))):
            attack, name = path.split("/")[-2:]
            tf.io.gfile.makedirs(os.path.join(target, attack))
            tf.io.gfile.rename(path, os.path.join(target, attack, name), overwrite=True)
        files.remove(folder)
    if files.exists(source) and not tf.io.gfile.listdir(source):
        files.remove(source)


def without(argv: Sequence[str], names: Sequence[str]) -> Iterator[str]:
    """The words of a command without these options and their values."""
    words = iter(argv)
    for word in words:
        option, equals, _ = word.partition("=")
        if option.startswith("--") and option[2:] in names:
            if not equals:
                next(words, None)
        else:
            yield word
