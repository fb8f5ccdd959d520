"""The battery `quick` beside `autoattack`: difference in points, share of passes, seconds.

    python -m benchmarks.quick robust=runs/at_mnist/model.keras,0.3 \
        masked=runs/at_mnist/model.keras,0.3,Linf,x1000 --images 200 --kept /tmp/autoattack

A model is NAME=FILE,EPS[,NORM[,CHANGE]]; CHANGE is x1000 (logits times 1000) or round16 (pixels
rounded to 16 levels, whose gradient is zero). FILE is a .keras file or, with --network, a
checkpoint of PyTorch. AutoAttack's verdicts are kept under --kept, so that it is run once for a
model and its images. Passes are forwards and backwards of images, added up. With the same seed the
first and last stages of `quick` draw what AutoAttack draws; --seed=1 compares other draws.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import pathlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from robust_tf import data, evaluation, load_model
from robust_tf.evaluation import Evaluation

CHANGES: dict[str, Callable[[Any], Any]] = {
    "": lambda network: network,
    "x1000": lambda network: lambda x: 1000.0 * network(x, training=False),
    "round16": lambda network: lambda x: network(tf.round(x * 15.0) / 15.0, training=False),
}


class Case(NamedTuple):
    """A model to judge: its name, file, ball, and what is changed about it."""

    name: str
    file: str
    eps: float
    norm: str = "Linf"
    change: str = ""


def case_of(text: str) -> Case:
    """The case that NAME=FILE,EPS[,NORM[,CHANGE]] describes."""
    name, _, rest = text.partition("=")
    file, eps, *more = rest.split(",")
    return Case(name, file, evaluation.attack_parser.number(eps), *more)


def judged(case: Case, battery: str, x: np.ndarray, y: np.ndarray, options: Any) -> Evaluation:
    """The evaluation by this battery; that of AutoAttack from its file if it is there."""
    whole = pathlib.Path(case.file).read_bytes() + x.tobytes() + repr(case[2:]).encode()
    key = hashlib.sha256(whole).hexdigest()[:12]
    path = pathlib.Path(options.kept) / f"{case.name}-{battery}-{len(y)}-{key}.json"
    if battery == "autoattack" and path.exists():
        return Evaluation.from_json(json.loads(path.read_text()))
    network = load_model(case.file, options.network if case.file.endswith(".pth") else None)
    attacks = evaluation.battery(battery, case.eps, case.norm)
    settings = {"checks": False, "progress": False, "seed": options.seed * (battery == "quick")}
    result = evaluation.evaluate(CHANGES[case.change](network), (x, y), attacks, **settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result.to_json()))
    return result


def main() -> None:
    """Prints a line of a table for each model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", type=case_of, metavar="NAME=FILE,EPS[,NORM[,CHANGE]]")
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--split", default="test", help="test, or train")
    parser.add_argument("--first", type=int, default=0, help="number of the first image")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of quick; AutoAttack's is 0")
    parser.add_argument("--network", default="StridedCNN()", help="of PyTorch checkpoints")
    parser.add_argument("--kept", default="/tmp/quick", help="folder of the verdicts")
    parser.add_argument("--only", help="one battery, without the table")
    options = parser.parse_args()
    split = getattr(data.load(options.dataset), options.split)
    places = np.arange(options.first, options.first + options.images)
    x, y = np.asarray(split.images)[places], np.asarray(split.labels)[places]
    print("| model | natural | autoattack | quick | difference | passes | seconds |")
    print("|---|---|---|---|---|---|---|")
    for case in options.models:
        began = time.perf_counter()
        if options.only:
            judged(case, options.only, x, y, options)
            print(case.name, f"{time.perf_counter() - began:.0f} s", flush=True)
            continue
        whole, quick = (judged(case, name, x, y, options) for name in ("autoattack", "quick"))
        print(row(case, whole, quick), flush=True)


def row(case: Case, whole: Evaluation, quick: Evaluation) -> str:
    """One line of the table."""
    accuracies = [100 * one.worst_case_accuracy for one in (whole, quick)]
    (theirs,), (ours,) = whole.outcomes.values(), quick.outcomes.values()
    passes = [one.forwards + one.gradients for one in (theirs, ours)]
    cells = [
        f"{case.name}, {case.norm} {evaluation.attack_names.fraction(case.eps)}",
        f"{100 * whole.natural_accuracy:.1f}",
        *(f"{accuracy:.1f}" for accuracy in accuracies),
        f"{accuracies[1] - accuracies[0]:+.1f}",
        f"{passes[1] / max(passes[0], 1):.3f}",
        f"{ours.seconds:.0f} / {theirs.seconds:.0f}",
    ]
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
