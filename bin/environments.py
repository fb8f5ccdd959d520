"""The environments that a clone makes for itself, and what the active one has.

A stack is a set of pinned versions; its environment is made once, from the constraints, in a folder
of the clone (`.venv`, or `.venv-addons` for the older stack). Standard library only.
"""

from __future__ import annotations

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

CLONE = Path(__file__).resolve().parent.parent


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
