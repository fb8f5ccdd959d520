"""Counts: `python -m tests.bad_inputs [--generated=N] [--output=results/bad_inputs.json]`.

Tries every listed command line, every wrong argument, bad data, and what Hypothesis makes; prints
what is not clear, and a table; `bin/study --tables=RESULTS.md` takes it from the file.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf  # noqa: E402
from hypothesis import HealthCheck, given, seed, settings  # noqa: E402

from robust_tf import files  # noqa: E402
from tests.bad_inputs import calls, generated  # noqa: E402
from tests.bad_inputs.command_lines import LINES  # noqa: E402
from tests.bad_inputs.running import Place  # noqa: E402

HEAD = ["what", "kind", "tried", "clear"]
Judged = tuple[str, str, str, str]  # what, kind, input, fault


def listed(place: Place) -> Iterator[Judged]:
    """The command lines of the list."""
    for line in LINES:
        fault = place.fault(line.command, line.argv, [line.names])
        yield f"`bin/{line.command}`", line.kind, str(line), fault


def generated_lines(place: Place, count: int) -> Iterator[Judged]:
    """Command lines that Hypothesis makes."""
    for command, argv, name in _drawn(generated.command_lines(), count):
        fault = place.fault(command, argv, [name])
        yield f"`bin/{command}`", "generated", f"{command} {argv}", fault


def of_python(folder: Path, count: int) -> Iterator[Judged]:
    """Calls of the Python API."""
    for call in [*calls.one_wrong(), *calls.bad_data(folder)]:
        yield "Python", call.kind, call.text, call.fault()
    for call in _drawn(generated.bad_calls(), count):
        yield "Python", f"{call.kind}, generated", call.text, call.fault()


def _drawn(strategy: Any, count: int) -> list[Any]:
    found: list[Any] = []

    @seed(0)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(value: Any) -> None:
        found.append(value)

    collect()
    return found[:count]


def main(argv: list[str]) -> int:
    """Runs all; 1 if something was not clear."""
    parse = argparse.ArgumentParser(prog="python -m tests.bad_inputs")
    parse.add_argument("--generated", type=int, default=500, help="of either kind (default: 500)")
    parse.add_argument("--output", help="JSON file for the table of RESULTS.md")
    options = parse.parse_args(argv)
    output = os.path.abspath(options.output) if options.output else None
    tf.get_logger().setLevel("ERROR")
    tried: Counter[tuple[str, str]] = Counter()
    clear: Counter[tuple[str, str]] = Counter()
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        with Place(Path(first)).entered() as place:
            sources: list[Callable[[], Iterator[Judged]]] = [
                lambda: listed(place),
                lambda: generated_lines(place, options.generated),
                lambda: of_python(Path(second), options.generated),
            ]
            for source in sources:
                for what, kind, text, fault in source():
                    tried[what, kind] += 1
                    clear[what, kind] += not fault
                    if fault:
                        print(f"{what}, {kind}: {text}: {fault}")
    lines = [[*key, count, clear[key]] for key, count in tried.items()]
    lines.append(["all", "", sum(tried.values()), sum(clear.values())])
    for line in [HEAD, *lines]:
        print(f"{line[0]:16}{line[1]:24}{line[2]:>8}{line[3]:>8}")
    if output:
        files.write_json(output, {"head": HEAD, "lines": lines})
    return int(clear.total() != tried.total())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
