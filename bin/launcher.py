"""Runs a robust_tf command in an environment that has what it needs; `bin/launch` starts it.

Where the active environment has robust_tf and what it imports, that environment is used. Else the
clone gets an environment of its own (see `environments`). In both cases the code that runs is this
clone's (see `clone_first`). Standard library only.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parent))  # PYTHONSAFEPATH leaves it out

import environments  # noqa: E402

# What robust_tf imports. It counts as importable only together with these: without them it is
# just a folder on the path.
MODULES = (
    "robust_tf",
    "tensorflow",
    "keras",
    "tensorflow_datasets",
    "absl",
    "gin",
    "sklearn",
    "numpy",
    "tqdm",
    "tensorboard",
    "importlib_resources",
)
# What single commands need beyond that: the extra of setup.py, and what it makes importable.
EXTRAS = {
    "figures": (frozenset({"figures"}), ("matplotlib",)),
    "report": (frozenset({"report"}), ("plotly",)),
}
TEST_TOOLS = ("pytest", "xdist", "ruff", "mypy", "selenium", "plotly", "matplotlib")
# The whole suite is spread over processes: most of it is tracing, which takes one core.
SPREAD = ("-n", "auto", "--maxprocesses=4", "--dist=worksteal")


def clone_first() -> None:
    """Puts this clone before any other robust_tf that the environment may know.

    PYTHONPATH comes before site-packages and before the import hooks of editable installs, so this
    clone's code runs even where the environment's robust_tf belongs to another checkout. Python's
    -P (see `run`) keeps the current folder, which could be yet another checkout, from coming first.
    Only the other packages are the environment's.
    """
    rest = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(environments.CLONE)] + ([rest] if rest else []))


def run(python: str, module: str, args: Sequence[str]) -> NoReturn:
    """Becomes `python -m module args`.

    The process stays the same, so signals and the exit status are the command's own.
    """
    clone_first()
    os.execv(python, [python, "-P", "-m", module, *args])


def lint(python: str) -> int:
    """Runs the linter, the formatter's check and the type checker, whatever the others say."""
    clone_first()
    status = 0
    for arguments in (["ruff", "check"], ["ruff", "format", "--check"], ["mypy"]):
        environments.say(" ".join(arguments))
        command = [python, "-P", "-m", *arguments]
        status |= subprocess.run(command, cwd=environments.CLONE).returncode
    return status


def run_tests(args: Sequence[str]) -> int:
    """`bin/test`: the tests, or with --lint the linters, on one of the two stacks."""
    parser = argparse.ArgumentParser(
        prog="bin/test",
        description="Runs the tests on one of the two stacks. Other arguments go to pytest, whose "
        "paths are relative to the clone: tests/test_launchers.py, -k adr, -m slow, or -m '' for "
        "slow and fast tests together. Without any, the whole suite runs in several processes.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--stack",
        choices=sorted(environments.STACKS),
        default="default",
        help="default: TensorFlow and Keras 3; addons: TensorFlow and Keras 2.15 with "
        "tensorflow-addons",
    )
    parser.add_argument(
        "--lint", action="store_true", help="run ruff check, ruff format --check and mypy instead"
    )
    options, pytest_args = parser.parse_known_args(args)
    if options.lint and pytest_args:
        parser.error(f"--lint takes no further arguments, got {' '.join(pytest_args)}")
    stack = environments.STACKS[options.stack]
    if environments.importable(MODULES + TEST_TOOLS) and environments.has_pinned_identity(stack):
        python = sys.executable
    else:
        python = environments.set_up(stack, frozenset({"test"}))
    if options.lint:
        return lint(python)
    os.chdir(environments.CLONE)
    run(python, "pytest", pytest_args or list(SPREAD))


def main(argv: Sequence[str]) -> int:
    """Runs the command `argv[0]`, train or any other in bin/, with the rest as its arguments."""
    command, args = argv[0], argv[1:]
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up notes bury ours
    try:
        if command == "test":
            return run_tests(args)
        python = sys.executable
        extras, modules = EXTRAS.get(command, (frozenset(), ()))
        if not environments.importable(MODULES + modules):
            python = environments.set_up(environments.STACKS["default"], extras)
        run(python, f"robust_tf.cli.{command}", args)
    except environments.SetupError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
