"""How much a reader has to open: files, their sizes, and those on three ways through the package.

    python -m benchmarks.structure sizes
    python -m benchmarks.structure way robust_tf.cli.train --gin_file=gin/standard_digits.gin ...
    python -m benchmarks.structure way robust_tf.cli.evaluate --run_dir=... --attacks='PGD(...)'
    python -m benchmarks.structure way robust_tf.cli.report --run_dirs=... --output=...

`way` runs a command and stops at its goal: the first step of an optimiser (train), the first
`run` of an attack (evaluate), the first chart (report). It prints the files of robust_tf in
which a function had been called until then, and those on the stack at that moment. Whatever an
import runs does not count.
"""

from __future__ import annotations

import runpy
import sys
import types
from pathlib import Path

import robust_tf

PACKAGE = Path(robust_tf.__file__).parent
GOALS = {
    "train": ("keras", ("apply_gradients",)),
    "evaluate": ("robust_tf.attacks", ("run", "tf__run")),
    "report": ("robust_tf.report", ("add", "chart")),
}


class GoalReachedError(BaseException):
    """Ends the command; not an Exception, so that no handler of it takes this for an error."""


def sizes() -> None:
    """Prints the number of packages and files, and the lines of the mean and the largest file."""
    files = {p: len(p.read_text().splitlines()) for p in sorted(PACKAGE.rglob("*.py"))}
    packages = {p.parent for p in files if p.name == "__init__.py"}
    largest = max(files, key=files.__getitem__)
    print(
        f"{len(packages)} packages, {len(files)} files, {sum(files.values()):,} lines, mean "
        f"{sum(files.values()) / len(files):.0f}, largest {largest.relative_to(PACKAGE)} "
        f"{files[largest]}"
    )


def way(command: str, arguments: list[str]) -> None:
    """Runs a command up to its goal and prints the files that it went through."""
    where, names = GOALS[command.rsplit(".", 1)[-1]]
    called: set[str] = set()
    stack: list[str] = []

    def file_of(frame: types.FrameType) -> str | None:
        # By the module's name: what AutoGraph has rewritten lies in a temporary file.
        module = str(frame.f_globals.get("__name__"))
        if module == "__main__" and frame.f_code.co_filename.startswith(str(PACKAGE)):
            module = command
        own = module.split(".")[0] == "robust_tf" and frame.f_code.co_name != "<module>"
        return module if own else None

    def importing(frame: types.FrameType | None) -> bool:
        while frame is not None:
            if frame.f_code.co_name == "<module>" and frame.f_globals.get("__name__") != "__main__":
                return True
            frame = frame.f_back
        return False

    def profile(frame: types.FrameType, event: str, _: object) -> None:
        if event != "call":
            return
        path = file_of(frame)
        if path is not None and path not in called and not importing(frame):
            called.add(path)
        if frame.f_code.co_name in names and where in str(frame.f_globals.get("__name__")):
            step: types.FrameType | None = frame
            while step is not None:
                path = file_of(step)
                if path is not None and path not in stack:
                    stack.insert(0, path)
                step = step.f_back
            sys.setprofile(None)
            raise GoalReachedError

    sys.argv = [command, *arguments]
    sys.setprofile(profile)
    try:
        runpy.run_module(command, run_name="__main__")
    except GoalReachedError:
        pass
    finally:
        sys.setprofile(None)
    print(f"{command}: {len(called)} files called before the goal, {len(stack)} on the stack")
    print("  called: " + " ".join(sorted(called)))
    print("  stack:  " + " > ".join(stack))


if __name__ == "__main__":
    if sys.argv[1] == "sizes":
        sizes()
    else:
        way(sys.argv[2], sys.argv[3:])
