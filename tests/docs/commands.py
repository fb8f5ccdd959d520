"""Commands of documents: checked against what there is, and run on a small scale."""

from __future__ import annotations

import argparse
import importlib
import os
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path

from robust_tf import evaluation, recipes, studies
from robust_tf.evaluation import batteries
from tests.docs import small
from tests.docs.pages import CLONE

NAMES = {path.name for path in (CLONE / "bin").iterdir()}
MODULES = {name for name in NAMES if (CLONE / f"robust_tf/cli/{name}.py").exists()}
# What an example reads; a later option wins, so that small numbers can be put behind.
READ = ("run_dir", "model", "checkpoint", "transfer_from", "discriminator", "merge", "evaluation")
SMALL = {
    "evaluate": ["--max_examples=8"],
    "report": ["--examples=5"],
    "figures": ["--examples=8"],
    "export": ["--max_examples=8"],
}
# Options by which a command starts processes of its own, each of which imports TensorFlow.
PROCESSES = ("devices", "engine")


def parsed(words: Sequence[str]) -> argparse.Namespace:
    """The options of one of the library's commands; UserError for what it has not."""
    module = importlib.import_module(f"robust_tf.cli.{Path(words[0]).name}")
    return module.parser().parse_args(list(words[1:]))


def check(words: Sequence[str]) -> None:
    """The program is there, takes these options, and what they name is there or can be read.

    Files that only the reader of the example has are left out.
    """
    name = Path(words[0]).name
    assert name in NAMES, f"there is no bin/{name}"
    if name not in MODULES:
        _check_paths(words[1:])
        return
    options = parsed(words)
    own = bool(options.imports)  # names of a module that is not here
    files = getattr(options, "gin_file", None) or []
    files = [files] if isinstance(files, str) else files
    missing = [path for path in files if not _is_there(path)]
    assert not [path for path in missing if path.startswith("gin/")], f"there is no {missing}"
    if name == "train" and not missing and not own:
        recipes.load(files, options.gin_param)
    if name == "study" and files and not missing and not own:
        studies.load(files[0])
    attacks = getattr(options, "attacks", None)
    if attacks and not own and "run=" not in attacks:
        evaluation.parse_attacks(attacks)
    if getattr(options, "battery", None) and not own:
        batteries.macros(options.battery)


def check_others(words: Sequence[str]) -> None:
    """Of a command that is not the library's: modules, extras and files of the clone are there."""
    extras = tomllib.loads((CLONE / "pyproject.toml").read_text())["project"]
    for before, word in zip(["", *words], words, strict=False):
        if before == "-m" and word.split(".")[0] in ("benchmarks", "tests", "robust_tf"):
            path = CLONE / word.replace(".", "/")
            assert path.with_suffix(".py").exists() or path.is_dir(), f"there is no module {word}"
        wanted = re.search(r"^(?:\.|robust_tf)\[([\w,]+)\]$", word)
        for extra in wanted[1].split(",") if wanted else ():
            assert extra in extras["optional-dependencies"], f"there is no extra {extra}"
        if word.startswith(("constraints/", "gin/", ".ci/", "tests/", "docs/")):
            assert (CLONE / word).exists(), f"there is no {word}"


def _check_paths(words: Sequence[str]) -> None:
    for word in words:
        assert "/" not in word or (CLONE / word.partition("::")[0]).exists(), f"there is no {word}"


def _is_there(path: str) -> bool:
    try:
        return bool(recipes.find(path))
    except recipes.ConfigurationError:
        return False


def why_only_checked(words: Sequence[str]) -> str:
    """Why a command is not run, of its options and of what lies in the current folder; '' if it is.

    A command that reads what no example before it has made cannot run.
    """
    name = Path(words[0]).name
    if name not in MODULES:
        return "it is no command of the library"
    options = parsed(words)
    for option in PROCESSES:
        if getattr(options, option, None):
            return f"--{option} starts processes of its own"
    if getattr(options, "status", False) and name == "evaluate":
        made = [f"{options.output}{end}" for end in ("", ".partial", ".shards")]
        return "" if any(map(os.path.exists, made)) else f"no example makes {options.output}"
    given = [] if name == "train" else [getattr(options, option, None) for option in READ]
    for value in given:
        for path in value if isinstance(value, list) else (value or "").split(","):
            if path and ":" not in path and not os.path.exists(path):
                return f"no example makes {path}"
    return ""


def provide(words: Sequence[str]) -> None:
    """Makes what a command reads and no example shows.

    These are checkpoints, which a page cannot bring, and runs that are named for their recipe.
    """
    if Path(words[0]).name not in MODULES - {"train", "study"}:
        return
    options = parsed(words)
    path = getattr(options, "checkpoint", None) or ""
    if path.endswith((".pt", ".pth", ".safetensors")) and not os.path.exists(path):
        small.write_checkpoint(path, options.network)
    runs = options.run_dir if isinstance(options.run_dir, list) else [options.run_dir]
    runs += (getattr(options, "transfer_from", None) or "").split(",")
    for path in filter(None, runs):
        name = path.removeprefix("runs/")
        if not os.path.exists(path) and name in recipes.names():
            status = run(["bin/train", f"--gin_file=gin/{name}.gin"])
            assert status == 0, f"training {path}: exit status {status}"


def run(words: Sequence[str], dry: bool = False) -> int:
    """The exit status of a command in this process, on a small scale.

    Args:
      words: the program and its arguments.
      dry: of a training, that nothing needs what it leaves: it is told all but trains nothing.
    """
    name = Path(words[0]).name
    module = importlib.import_module(f"robust_tf.cli.{name}")
    arguments = [*words[1:], *(["--dry_run"] if dry else [])]
    options = parsed(words)
    if name != "evaluate" or not (options.merge or options.status):
        arguments += SMALL.get(name, [])
    if name == "study" and not options.tables:
        arguments += [f"--seeds={options.seeds[0]}"]
    return module.main(arguments)
