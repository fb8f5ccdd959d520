"""One evaluation by one process, by several, and on Ray: seconds, and whether verdicts are equal.

    python -m benchmarks.devices --model=mnist.keras --dataset=mnist --images=200 \
        --attacks="PGD(eps=0.3, step_size=0.01, steps=40); Square(eps=0.3, queries=1000)"

Each row is a call of `bin/evaluate` with all that belongs to it: start, tracing, merging. One
process with one thread and with a thread for each core is compared with a process of one thread for
each core. What else the machine does is not taken out of the seconds; rounds are run in turn, and
the least is printed beside the median. Processor seconds are those of all processes that the call
has waited for, which are not Ray's.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np

from robust_tf.engines.devices import THREADS, available_cores
from robust_tf.evaluation import Evaluation


def main() -> None:
    """Prints the table."""
    parse = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parse.add_argument("--model", required=True, help="a .keras file")
    parse.add_argument("--dataset", default="mnist")
    parse.add_argument("--attacks", required=True, help="as of bin/evaluate")
    parse.add_argument("--images", type=int, default=200)
    parse.add_argument("--rounds", type=int, default=1)
    parse.add_argument("--without_ray", action="store_true")
    options = parse.parse_args()
    cores = available_cores()
    ways: dict[str, tuple[list[str], int]] = {
        "1 process, 1 thread": ([], 1),
        f"1 process, {cores} threads": ([], cores),
        f"{cores} processes, 1 thread each": ([f"--devices={cores}"], 0),
    }
    if not options.without_ray:
        ways[f"Ray, {cores} workers, 1 thread each"] = (
            [f"--devices={cores}", "--engine=ray"],
            0,
        )
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    found: dict[str, Evaluation] = {}
    for _ in range(options.rounds):
        for name, (words, threads) in ways.items():
            before = processor()
            taken, found[name] = evaluated(options, words, threads)
            seconds[name].append((taken, processor() - before))
    first = next(iter(found.values()))
    print(f"{options.attacks} on {len(first)} images, load {os.getloadavg()[0]:.1f} at the end")
    head = ("", "seconds, least", "median", "processor seconds", "robust in %", "equal verdicts")
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for name, result in found.items():
        same = sum(int((result.robust[n] == v).sum()) for n, v in first.robust.items())
        of = sum(len(verdict) for verdict in first.robust.values())
        walls, used = zip(*seconds[name], strict=True)
        cells = [name, f"{min(walls):.0f}", f"{statistics.median(walls):.0f}"]
        cells += ["" if "Ray" in name else f"{statistics.median(used):.0f}"]
        cells += [f"{100 * float(np.mean(result.worst_case)):.1f}", f"{same:,} of {of:,}"]
        print(f"| {' | '.join(cells)} |")


def processor() -> float:
    """Seconds of processors that processes took which have ended and were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def evaluated(options: Any, words: list[str], threads: int) -> tuple[float, Evaluation]:
    """Seconds of a call of `bin/evaluate`, and its result."""
    environment = dict(os.environ)
    for name in THREADS:
        environment.pop(name, None)
        if threads:
            environment[name] = str(threads)
    with tempfile.TemporaryDirectory() as folder:
        output = os.path.join(folder, "result.json")
        command = [sys.executable, "-P", "-m", "robust_tf.cli.evaluate", f"--model={options.model}"]
        command += [f"--dataset={options.dataset}", f"--attacks={options.attacks}"]
        command += [f"--max_examples={options.images}", "--draw=first", f"--output={output}"]
        began = time.perf_counter()
        subprocess.run([*command, *words], env=environment, check=True, stdout=subprocess.DEVNULL)
        taken = time.perf_counter() - began
        with open(output, encoding="utf-8") as file:
            return taken, Evaluation.from_json(json.load(file)["evaluation"])


if __name__ == "__main__":
    main()
