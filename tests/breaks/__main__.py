"""Breaks the library in the ways of `changes.py`, one at a time, and runs the tests that must fail.

    python -m tests.breaks [NUMBER ...]

Each change is made in a temporary copy of the clone, from where the tests named with it are run.
Exit status 0: each was caught. A change whose text is no longer found exactly once, or whose tests
do not pass without it, is an error: bring `changes.py` up to date.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.breaks.changes import CHANGES, CLONE, Change

CAUGHT = 1  # pytest's status where tests failed; others tell that they did not run
PASSED = 0


def run(change: Change, folder: Path) -> int:
    """Pytest's status for the change's tests in that copy of the clone."""
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(
        [*command, *change.tests], cwd=folder, env=environment, capture_output=True, text=True
    )
    if done.returncode not in (PASSED, CAUGHT):
        print(done.stdout[-2000:], done.stderr[-2000:], file=sys.stderr)
    return done.returncode


def main(argv: list[str]) -> int:
    """Makes the changes of these numbers, all without any; 0 if each was caught."""
    parser = argparse.ArgumentParser(prog="python -m tests.breaks", description=__doc__)
    parser.add_argument("numbers", nargs="*", type=int, help="of the changes, from 1 on")
    parser.add_argument("--sound", action="store_true", help="also run their tests without them")
    options = parser.parse_args(argv)
    missed = []
    for number, change in enumerate(CHANGES, 1):
        if options.numbers and number not in options.numbers:
            continue
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as parent:
            folder = Path(parent) / "clone"
            shutil.copytree(
                CLONE,
                folder,
                symlinks=True,
                ignore=shutil.ignore_patterns(".*", "__pycache__", "runs?", "*.egg-info"),
            )
            sound = not options.sound or run(change, folder) == PASSED
            try:
                change.make(folder)
            except ValueError as error:
                print(f"{number:2} {error}", flush=True)
                missed.append(number)
                continue
            status = run(change, folder)
        verdict = {PASSED: "NOT CAUGHT", CAUGHT: "caught"}.get(status, "TESTS DID NOT RUN")
        verdict = verdict if sound else "TESTS FAIL WITHOUT IT"
        seconds = time.perf_counter() - began
        print(f"{number:2} {verdict}: {change.title} ({seconds:.0f} s)", flush=True)
        if verdict != "caught":
            missed.append(number)
    print(f"not caught: {missed}" if missed else "each was caught")
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
