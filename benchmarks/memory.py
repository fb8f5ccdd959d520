"""What accumulation and rematerialization cost and save: peak memory and seconds of a step.

    python -m benchmarks.memory [--network WRN-28-10] [--batch 32] [--steps 2] [--rows plain,remat]

Steps of training on FGSM's images, one process for each row, one after the other: the largest
resident memory of the process on a CPU, of TensorFlow's allocator on a GPU, and the shortest step
after the first. What a process needs before its first step, weights and momentum included, stands
in the row 'before'.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from typing import Any

ROWS: dict[str, dict[str, Any]] = {
    "before": {},
    "plain": {},
    "accumulate 2": {"accumulate": 2},
    "accumulate 4": {"accumulate": 4},
    "remat": {"remat": True},
    "accumulate 4, remat": {"accumulate": 4, "remat": True},
}
# Builder, its arguments, side of an image, number of classes.
NETWORKS: dict[str, tuple[str, dict[str, Any], int, int]] = {
    "ResNet-18": ("ResNet18", {}, 32, 10),
    "WRN-16-1": ("WideResNet", {"depth": 16, "width": 1}, 32, 10),
    "WRN-16-4": ("WideResNet", {"depth": 16, "width": 4}, 32, 10),
    "WRN-28-10": ("WideResNet", {"depth": 28, "width": 10}, 32, 10),
    "ResNet-50": ("ResNet50", {}, 224, 1000),
}


def measure(network: str, batch: int, steps: int, row: str) -> dict[str, float]:
    """MiB and seconds of a row, in this process."""
    import keras
    import numpy as np
    import tensorflow as tf

    from robust_tf import attacks, methods, models

    name, arguments, side, classes = NETWORKS[network]
    shape = (side, side, 3)
    if name == "ResNet50":
        built = keras.applications.ResNet50(weights=None, input_shape=shape)
    else:
        built = getattr(models, name)(shape, classes, **arguments)
    model = methods.AdversarialTraining(built, attacks.FGSM(8 / 255))
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    model.compile(optimizer, weight_decay=5e-4, execution=methods.Execution(**ROWS[row]))
    rng = np.random.default_rng(0)
    x = tf.constant(rng.random((batch, *shape), np.float32))
    y = tf.constant(rng.integers(0, classes, batch, np.int32))
    step = tf.function(lambda: model.train_step((x, y))["loss"], autograph=False)
    seconds = []
    for _ in range(0 if row == "before" else steps + 1):
        began = time.perf_counter()
        step().numpy()
        seconds.append(time.perf_counter() - began)
    if tf.config.list_physical_devices("GPU"):
        peak = tf.config.experimental.get_memory_info("GPU:0")["peak"] / 2**20
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    return {"mib": peak, "seconds": min(seconds[1:], default=0.0)}


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--network", choices=NETWORKS, default="WRN-28-10")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--rows", default=",".join(ROWS).replace(", remat", "; remat"))
    parser.add_argument("--row", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        print(json.dumps(measure(options.network, options.batch, options.steps, options.row)))
        return
    print("|  | peak memory, MiB | seconds a step |\n| --- | --- | --- |")
    for row in options.rows.split(","):
        row = row.replace("; ", ", ")
        command = [sys.executable, "-m", "benchmarks.memory", f"--row={row}"]
        command += [f"--{name}={getattr(options, name)}" for name in ("network", "batch", "steps")]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found = json.loads(done.stdout.splitlines()[-1])
        took = f"{found['seconds']:.2f}" if found["seconds"] else ""
        print(f"| {row} | {found['mib']:,.0f} | {took} |", flush=True)


if __name__ == "__main__":
    main()
