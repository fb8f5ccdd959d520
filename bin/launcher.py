"""Runs a robust_tf command in an environment that has what it needs; `bin/launch` starts it.

Where the active environment has robust_tf and what it imports, that environment is used. Else the
clone gets an environment of its own (`.venv`, or `.venv-addons` for the older stack), made once
from the pinned constraints. In both cases the code that runs is this clone's (see `clone_first`).
Standard library only.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

CLONE = Path(__file__).resolve().parent.parent

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
TEST_TOOLS = ("pytest", "ruff", "mypy")


@dataclass(frozen=True)
class Stack:
    """One set of pinned versions.

    Attributes:
        venv: The folder of its environment, in the clone.
        constraints: Its constraints file, in the clone.
        pythons: The Python versions that its pins have wheels for.
        extras: The extras of setup.py that make it.
        identity: The distributions whose pinned versions tell this stack from the other.
    """

    venv: str
    constraints: str
    pythons: tuple[str, ...]
    extras: frozenset[str]
    identity: tuple[str, ...]

    @property
    def python(self) -> Path:
        """The interpreter of this stack's own environment."""
        return CLONE / self.venv / "bin" / "python"

    @property
    def marker(self) -> Path:
        """The file that says that the environment is complete, and for what."""
        return CLONE / self.venv / "robust_tf.json"


STACKS = {
    "default": Stack(
        ".venv", "constraints/default.txt", ("3.11", "3.12"), frozenset(), ("tensorflow", "keras")
    ),
    "addons": Stack(
        ".venv-addons",
        "constraints/addons.txt",
        ("3.11",),
        frozenset({"addons"}),
        ("tensorflow", "keras", "tensorflow-addons"),
    ),
}


class SetupError(Exception):
    """The environment cannot be made; the message says why, and the way out."""


def importable(modules: Sequence[str]) -> bool:
    """Whether the active environment (the one that runs this file) has all `modules`.

    Looked up, not imported: TensorFlow takes seconds. The clone is not on the path here (Python
    puts this file's folder there, not the current one), so robust_tf counts only where somebody
    installed it or named it in PYTHONPATH.
    """
    for module in modules:
        spec = importlib.util.find_spec(module)
        # A folder without __init__.py (the clone's gin/, say) has a spec too, but no origin.
        if spec is None or spec.origin is None:
            return False
    return True


def has_pinned_identity(stack: Stack) -> bool:
    """Whether the active environment is this very stack, so that a test run there speaks for it."""
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)", (CLONE / stack.constraints).read_text(), re.M))
    try:
        return all(importlib.metadata.version(name) == pins[name] for name in stack.identity)
    except importlib.metadata.PackageNotFoundError:
        return False


def key(stack: Stack) -> str:
    """A hash of all that the environment was made from; another key means making it anew."""
    digest = hashlib.sha256(str(CLONE).encode())  # an environment does not survive being moved
    for file in ("setup.py", stack.constraints):
        digest.update((CLONE / file).read_bytes())
    return digest.hexdigest()


def installed_extras(stack: Stack) -> frozenset[str] | None:
    """The extras in this stack's own environment; None where none is complete and current."""
    try:
        state = json.loads(stack.marker.read_text())
    except (OSError, ValueError):
        return None
    if state["key"] != key(stack) or not stack.python.exists():
        return None
    return frozenset(state["extras"])


def find_python(stack: Stack) -> str:
    """The interpreter to make this stack's environment with.

    python3.11 comes first: the pins were tested on it.
    """
    found = []
    for name in ("python3.11", sys.executable):
        command = [name, "-I", "-c", "import sys; print(*sys.version_info[:2], sep='.')"]
        try:
            version = subprocess.run(
                command, capture_output=True, text=True, check=True
            ).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            continue
        if version in stack.pythons:
            return name
        found.append(f"{name} is {version}")
    raise SetupError(
        f"{stack.constraints} needs Python {' or '.join(stack.pythons)}; "
        f"found: {', '.join(found)}. Install Python 3.11 so that python3.11 is on the PATH, and "
        "run this again."
    )


def call(command: Sequence[str]) -> None:
    """Runs a step of the set-up quietly; its output is shown only if it fails."""
    done = subprocess.run(
        command,
        cwd=CLONE,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        close_fds=False,  # it holds the lock too: see `lock`
    )
    if done.returncode:
        raise SetupError(
            f"{done.stdout.strip()}\n\nrobust_tf: setting up failed in `{' '.join(command)}`, "
            "which said the above. Run this again once that is mended, or install robust_tf in an "
            "environment of your own and activate it."
        )


@contextlib.contextmanager
def lock(stack: Stack) -> Iterator[None]:
    """Lets one launcher at a time change the environment.

    The lock falls with the last process that holds it, however that ends: a pip that outlives a
    killed launcher still keeps the next one out.
    """
    path = CLONE / f"{stack.venv}.lock"
    try:
        file = path.open("w")
    except OSError as error:
        raise SetupError(
            "robust_tf is not installed in this environment, and the clone cannot be written to "
            f"({error}). Make the clone writable, or install robust_tf in an environment of your "
            "own and activate it."
        ) from error
    with file:
        os.set_inheritable(file.fileno(), True)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another launcher, which is making {stack.venv}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def set_up(stack: Stack, extras: frozenset[str]) -> str:
    """Makes this stack's own environment where that is still to be done.

    Args:
        stack: The stack.
        extras: Extras of setup.py that are needed beside those of the stack.

    Returns:
        The environment's interpreter.

    Raises:
        SetupError: No fitting Python, a folder that cannot be written, or pip failed.
    """
    wanted = stack.extras | extras
    have = installed_extras(stack)
    if have is not None and wanted <= have:
        return str(stack.python)
    with lock(stack):
        have = installed_extras(stack)  # another launcher may have done it while this one waited
        if have is not None and wanted <= have:
            return str(stack.python)
        if have is None:
            message = f"making {stack.venv} with the pinned packages (once; a minute or two)"
            python = find_python(stack)
            say(message)
            # From nothing, never on top of what an interrupted or outdated set-up left.
            shutil.rmtree(CLONE / stack.venv, ignore_errors=True)
            call([python, "-I", "-m", "venv", str(CLONE / stack.venv)])
        else:
            say(f"adding {', '.join(sorted(wanted - have))} to {stack.venv} (once)")
            wanted |= have
            stack.marker.unlink()
        requirement = f".[{','.join(sorted(wanted))}]" if wanted else "."
        # -I: a PYTHONPATH of the caller's would pass for installed packages.
        pip = [str(stack.python), "-I", "-m", "pip", "install", "--quiet", "--no-input"]
        pip += ["--disable-pip-version-check", "-c", stack.constraints, "-e", requirement]
        call(pip)
        # Last, and in one move: an environment without its marker does not count.
        new = stack.marker.with_suffix(".new")
        new.write_text(json.dumps({"key": key(stack), "extras": sorted(wanted)}))
        new.replace(stack.marker)
    return str(stack.python)


def say(message: str) -> None:
    """One line to the user, apart from the command's own output."""
    print(f"robust_tf: {message}", file=sys.stderr, flush=True)


def clone_first() -> None:
    """Puts this clone before any other robust_tf that the environment may know.

    PYTHONPATH comes before site-packages and before the import hooks of editable installs, so this
    clone's code runs even where the environment's robust_tf belongs to another checkout. Python's
    -P (see `run`) keeps the current folder, which could be yet another checkout, from coming first.
    Only the other packages are the environment's.
    """
    rest = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(CLONE)] + ([rest] if rest else []))


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
        say(" ".join(arguments))
        status |= subprocess.run([python, "-P", "-m", *arguments], cwd=CLONE).returncode
    return status


def run_tests(args: Sequence[str]) -> int:
    """`bin/test`: the tests, or with --lint the linters, on one of the two stacks."""
    parser = argparse.ArgumentParser(
        prog="bin/test",
        description="Runs the tests on one of the two stacks. Other arguments go to pytest, whose "
        "paths are relative to the clone: tests/test_launchers.py, -k adr, -m slow, or -m '' for "
        "slow and fast tests together.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--stack",
        choices=sorted(STACKS),
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
    stack = STACKS[options.stack]
    if importable(MODULES + TEST_TOOLS) and has_pinned_identity(stack):
        python = sys.executable
    else:
        python = set_up(stack, frozenset({"test"}))
    if options.lint:
        return lint(python)
    os.chdir(CLONE)
    run(python, "pytest", pytest_args)


def main(argv: Sequence[str]) -> int:
    """Runs `argv[0]` (train, evaluate, export or test) with the rest as its arguments."""
    command, args = argv[0], argv[1:]
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up notes bury ours
    try:
        if command == "test":
            return run_tests(args)
        python = sys.executable if importable(MODULES) else set_up(STACKS["default"], frozenset())
        run(python, f"robust_tf.cli.{command}", args)
    except SetupError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
