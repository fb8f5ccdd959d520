"""Breaks things and counts what survives.

    python -m tests.faults                             the short run, a few tries of each case
    python -m tests.faults --long --output=results/faults.json --tables
    python -m tests.faults --long --only=of_training,checkpoint
    python -m tests.faults --long --only=workers       the cases of a group

Exit status 0: all tries of all cases were survived.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
import warnings
from typing import Any

import tensorflow as tf

from robust_tf import files
from robust_tf.version import __version__
from tests.faults import cases
from tests.faults.harness import LeftOut
from tests.faults.table import DOCUMENT, rewritten


def main(argv: list[str] | None = None) -> int:
    """Runs the cases; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--long", action="store_true", help="all cases, with many tries")
    names = ", ".join(cases.CASES)
    parser.add_argument("--only", metavar="NAMES", help=f"cases of {names}; or groups, as workers")
    parser.add_argument("--output", metavar="FILE", help="JSON; cases that were not run stay in it")
    parser.add_argument("--tables", action="store_true", help="write the table into RESULTS.md")
    options = parser.parse_args(argv)
    asked = options.only.split(",") if options.only else list(cases.CASES)
    if unknown := [one for one in asked if not cases.named(one)]:
        parser.error(f"there is no case {', '.join(unknown)}; see --help.")
    chosen = list(dict.fromkeys(name for one in asked for name in cases.named(one)))
    warnings.simplefilter("ignore")
    lost = 0
    there = options.output and files.exists(options.output)
    content: dict[str, Any] = files.read_json(options.output) if there else {"cases": []}
    known = {one["name"]: one for one in content["cases"]}
    for name in chosen:
        case = cases.CASES[name]
        tries = case.long if options.long else case.short
        if not tries:
            continue
        began = time.monotonic()
        try:
            count = case.count(tries)
        except LeftOut as error:
            print(f"{name}: left out, {error}", flush=True)
            continue
        seconds = time.monotonic() - began
        print(f"{name}: {count.how.total()} of {count.tries} survived, {seconds:.0f} s", flush=True)
        for text in count.lost:
            print(f"  {text}", flush=True)
        lost += len(count.lost)
        known[name] = {"name": name, "group": case.group, "title": case.title, **count.to_json()}
        if options.output:
            own = [known[one] for one in cases.CASES if one in known]
            files.write_json(options.output, {**_about(), "cases": own})
    if options.tables:
        files.write_text(DOCUMENT, rewritten(files.read_text(DOCUMENT)))
    return int(lost > 0)


def _about() -> dict[str, Any]:
    machine = f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}"
    return {"robust_tf": __version__, "tensorflow": tf.__version__, "machine": machine}


if __name__ == "__main__":
    sys.exit(main())
