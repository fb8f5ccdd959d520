"""Seconds from a command to its first training step, or of an evaluation, by what they go to.

    python -m benchmarks.startup [--cases train_digits train_mnist pgd autoattack]

Each case is a command in a process of its own, in which functions are timed from outside: a moment
belongs to the innermost of them. `import`: modules, TensorFlow's too; `data`: reading and checking
it; `build`: networks and methods; `read back`: the new run's model, saved and loaded; `precision`:
measuring the device; `tracing`: Python that makes graphs, of the attacks and of the step; `checks`:
signs of masked gradients; `run`: the first step, or the attacks and their verdicts; `other`: the
rest. Seconds of the processor (`--clock=wall`: on the wall), which other work disturbs less. The
evaluations attack 200 images of the digits model that is trained first, in a small ball, so that
all stages of AutoAttack run.
"""

from __future__ import annotations

import argparse
import builtins
import collections
import functools
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.pairing import CLOCKS

# What is timed, of which command: module, name there, phase.
BOTH = (
    ("tensorflow.python.framework.func_graph", "func_graph_from_py_func", "tracing"),
    ("robust_tf.precision", "choose", "precision"),
)
TIMED = {
    "train": (
        *BOTH,
        ("robust_tf.recipes.loaded", "LoadedRecipe.data", "data"),
        ("robust_tf.data.dataset", "Data.check", "data"),
        ("robust_tf.training.recipe", "Recipe.build", "build"),
        ("robust_tf.training.readback", "check", "read back"),
        ("robust_tf.training.loop", "Loop.train", "run"),
    ),
    "evaluate": (
        *BOTH,
        ("robust_tf.cli.subject", "Subject.data", "data"),
        ("robust_tf.evaluation.loading", "load_model", "build"),
        ("robust_tf.evaluation.checks", "inspect", "checks"),
        ("robust_tf.evaluation.runner", "AttackRunner.run_stage", "run"),
    ),
}
PHASES = (
    "import",
    "data",
    "build",
    "read back",
    "precision",
    "tracing",
    "checks",
    "run",
    "other",
)


class Phases:
    """Seconds by phase, each moment in the innermost that is open.

    Args:
      clock: in seconds, from the beginning of the process.
    """

    def __init__(self, clock: Callable[[], float]):
        self.clock, self.open, self.since = clock, ["other"], 0.0
        self.seconds: dict[str, float] = collections.Counter()
        self.counts: dict[str, int] = collections.Counter()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """What is done in here belongs to this phase."""
        self.counts[name] += self.open[-1] != name
        self._note()
        self.open.append(name)
        try:
            yield
        finally:
            self._note()
            self.open.pop()

    def _note(self) -> None:
        now = self.clock()
        self.seconds[self.open[-1]] += now - self.since
        self.since = now

    def timed(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        """The function, whose calls are of this phase."""

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            with self.phase(name):
                return function(*args, **kwargs)

        return call

    def result(self) -> dict[str, Any]:
        """Seconds by phase, and how often it was entered."""
        self._note()
        return {"seconds": dict(self.seconds), "counts": dict(self.counts)}


class _Enough(BaseException):
    """The first step is done."""


def inside(command: str, arguments: list[str], clock: str) -> dict[str, Any]:
    """Runs a command in this process; what its seconds went to."""
    began = {"wall": time.perf_counter() - _age(), "processor": 0.0}[clock]
    phases = Phases(lambda: CLOCKS[clock]() - began)
    original = builtins.__import__
    builtins.__import__ = phases.timed(original, "import")
    module = importlib.import_module(f"robust_tf.cli.{command}")
    with phases.phase("import"):
        for path, name, phase in TIMED[command]:
            _put(importlib.import_module(path), name, lambda f, p=phase: phases.timed(f, p))
        if command == "train":
            _put(importlib.import_module("robust_tf.training.loop"), "Loop.train", _once)
    try:
        status = module.main(arguments)
    except _Enough:
        status = 0
    builtins.__import__ = original
    if status:
        raise SystemExit(f"the command ended with {status}")
    return phases.result()


def _put(owner: Any, name: str, around: Callable[[Any], Any]) -> None:
    """Puts a function around one of a module or of a class in it, wherever it was imported to."""
    *classes, last = name.split(".")
    for one in classes:
        owner = getattr(owner, one)
    old = getattr(owner, last)
    new = around(old)
    setattr(owner, last, new)
    if not classes:
        for module in list(sys.modules.values()):
            if getattr(module, "__dict__", {}).get(last) is old:
                setattr(module, last, new)


def _once(train: Any) -> Any:
    """The training loop, which ends the command after its first call."""

    @functools.wraps(train)
    def call(self: Any, iterator: Any, steps: Any) -> Any:
        # A `tf.function` is bound to its object by `__get__`.
        bound = train.__get__(self) if hasattr(train, "__get__") else functools.partial(train, self)
        bound(iterator, steps)
        raise _Enough

    return call


def _age() -> float:
    """Seconds since this process began."""
    with open("/proc/self/stat") as file:
        ticks = int(file.read().rpartition(")")[2].split()[19])
    with open("/proc/uptime") as file:
        return float(file.read().split()[0]) - ticks / os.sysconf("SC_CLK_TCK")


def case(command: str, arguments: list[str], clock: str) -> dict[str, Any]:
    """The same in a new process."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "phases.json")
        line = [sys.executable, "-m", "benchmarks.startup", "--clock", clock, "--inside", path]
        subprocess.run([*line, command, *arguments], check=True)
        with open(path) as file:
            return json.load(file)


def row(name: str, found: dict[str, Any]) -> str:
    """A row of the table."""
    seconds = found["seconds"]
    cells = [f"{seconds.get(phase, 0.0):.1f}" for phase in PHASES]
    cells[PHASES.index("tracing")] += f" ({found['counts'].get('tracing', 0)})"
    return f"| {name} | {sum(seconds.values()):.1f} | {' | '.join(cells)} |"


def main() -> None:
    """Runs the benchmark."""
    parse = argparse.ArgumentParser(description=__doc__)
    parse.add_argument("--cases", nargs="+", default=["train_digits", "train_mnist", *EVALUATIONS])
    parse.add_argument("--model", help="of digits, to evaluate; default: one that is trained first")
    parse.add_argument("--data_dir", help="of MNIST, as for bin/train")
    parse.add_argument("--clock", choices=list(CLOCKS), default="processor")
    parse.add_argument("--inside", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    options = parse.parse_args()
    if options.inside:
        path, command, *arguments = options.inside
        found = inside(command, arguments, options.clock)
        with open(path, "w") as file:
            json.dump(found, file)
        return
    print(f"| seconds, {options.clock} | all | {' | '.join(PHASES)} |\n{'|---' * 11}|", flush=True)
    data = [f"--data_dir={options.data_dir}"] if options.data_dir else []
    with tempfile.TemporaryDirectory() as folder:
        for name in options.cases:
            if name in EVALUATIONS:
                options.model = options.model or _trained(folder)
                flags = [f"--model={options.model}", "--dataset=digits", "--max_examples=200"]
                flags = ["evaluate", *flags, *EVALUATIONS[name]]
            else:
                recipe = f"--gin_file=gin/adr_{name.removeprefix('train_')}.gin"
                run_dir = f"--run_dir={folder}/{name}"
                own = [*(data if "mnist" in name else []), "--gin_param=train.steps_per_call=1"]
                flags = ["train", recipe, run_dir, *own]
            print(row(name, case(flags[0], flags[1:], options.clock)), flush=True)


# Options of bin/evaluate.
EVALUATIONS = {
    "pgd": ["--attacks=PGD(eps=0.01, step_size=0.0025, steps=20)"],
    "autoattack": ["--battery=autoattack", "--eps=0.01"],
}


def _trained(folder: str) -> str:
    """A model of the digits, two epochs old."""
    from robust_tf.cli.train import main as train

    run_dir = os.path.join(folder, "model")
    train(
        [
            "--gin_file=gin/standard_digits.gin",
            f"--run_dir={run_dir}",
            "--gin_param=train.epochs=2",
            "--gin_param=train.evaluation_examples=8",
        ]
    )
    return os.path.join(run_dir, "model.keras")


if __name__ == "__main__":
    main()
