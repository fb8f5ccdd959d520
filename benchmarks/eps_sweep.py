"""A sweep over eps: what it costs in traces and in time per image.

    python -m benchmarks.eps_sweep [--images 64] [--rounds 7]

Eight radii of PGD-10 on an MNIST-sized CNN with random weights, given at the call, against eight
graphs in each of which the radius is a constant. Ratios are of one run, timed in turn.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.pairing import in_turn, row
from robust_tf import attacks, models

RADII = [k / 40 for k in range(1, 9)]
STEPS = 10


class Counted:
    """A network, and how often it was traced: a trace of PGD calls it a fixed number of times."""

    def __init__(self, network: Any):
        self.network, self.calls = network, 0

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        self.calls += not tf.executing_eagerly()
        return self.network(x, training=False)


def main() -> None:
    """Prints traces and ratios."""
    parse = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parse.add_argument("--images", type=int, default=64)
    parse.add_argument("--rounds", type=int, default=7)
    options = parse.parse_args()
    rng = np.random.default_rng(0)
    x = tf.constant(rng.random((options.images, 28, 28, 1)).astype("float32"))
    y = tf.constant(rng.integers(0, 10, options.images).astype("int32"))
    model = Counted(models.CNN((28, 28, 1), 10))
    attack = attacks.PGD(RADII[0], 0.01, STEPS)

    began = time.perf_counter()
    attack(model, x, y)
    once, first = model.calls, time.perf_counter() - began
    sweep = [lambda eps=eps: attack(model, x, y, eps=eps) for eps in RADII]
    for run in sweep:
        run()
    print(f"traces for {len(RADII)} radii: {model.calls // once}, of {first:.2f} s with its run")

    def alone(eps: float) -> Any:
        own = attacks.PGD(eps, 0.01, STEPS)
        graph = tf.function(lambda x, y: own(model.network, x, y))
        return lambda: graph(x, y)

    constants = [alone(eps) for eps in RADII]
    pairs = zip(sweep, constants, strict=True)
    times = np.array(in_turn([run for pair in pairs for run in pair], options.rounds))
    tensor, constant = times[0::2], times[1::2]
    each = 1e3 * np.median(tensor) / options.images
    print(f"PGD-{STEPS}: {each:.2f} ms per image")
    print(row("a radius: tensor / constant of a graph", list((tensor / constant).ravel()), 1.05))
    print(row("all: one graph / eight graphs", list(tensor.sum(0) / constant.sum(0)), 1.05))


if __name__ == "__main__":
    main()
