"""Every class of `keras.applications`: cut, trained for a step, attacked, evaluated, exported.

    python -m benchmarks.applications [NAME ...] [--limit_s=1200]

Each at the smallest images that it takes, with random weights, in a process of its own; the export
is loaded in another one and must give the same logits. `docs/applications.json` keeps what came
out, and classes that it has are left out; the table is written to `docs/applications.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

KEPT, TABLE = "docs/applications.json", "docs/applications.md"
SIDES = {"xception": 71, "inception_v3": 75, "inception_resnet_v2": 75}  # else 32
STEPS = ("split", "TRADES step", "PGD", "evaluate", "export")
LOADED = """
import sys, numpy as np, tensorflow as tf
with np.load(sys.argv[2]) as arrays:
    served = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
    logits = served(images=tf.constant(arrays["x"]))["logits"]
    np.testing.assert_allclose(logits, arrays["logits"], rtol=1e-4, atol=1e-4)
"""


def one(name: str) -> dict[str, Any]:
    """What works of a class, in seconds, and the first line of what does not."""
    import numpy as np
    import tensorflow as tf

    import robust_tf
    from robust_tf import attacks, data, export, methods
    from robust_tf.models import application

    builder = application.applications()[name]
    side = SIDES.get(application.family(builder), 32)
    shape, eps = (side, side, 3), 4 / 255
    x = np.random.default_rng(0).random((4, *shape), np.float32)
    y = np.array([0, 1, 2, 1], np.int32)
    done: dict[str, Any] = {"side": side}
    kept: dict[str, Any] = {}

    def cut() -> None:
        kept["network"] = network = application.Application(shape, 3, name, momentum=0.9)
        done["features"] = list(network.generator.output_shape[1:])
        done["parameters"] = int(network.count_params())

    def step() -> None:
        model = methods.TRADES(kept["network"], attacks.TRADESAttack(eps, eps / 4, 2))
        model.compile("sgd")
        before = kept["network"].get_weights()
        values = model.train_on_batch(x, y)
        assert np.isfinite(np.asarray(values)).all(), values
        after = kept["network"].get_weights()
        assert any((a != b).any() for a, b in zip(before, after, strict=True))

    def pgd() -> None:
        made = attacks.PGD(eps, eps / 4, 2)(kept["network"], x, y).numpy()
        assert 0 < np.abs(made - x).max() <= eps

    def judge() -> None:
        split = data.Split(x, y)
        attack = {"PGD": attacks.PGD(eps, eps / 4, 2)}
        # The checks are 170 further gradients and as many seconds as all the rest.
        robust_tf.evaluate(kept["network"], split, attack, batch_size=4, checks=False)
        done["checks"] = False

    def write() -> None:
        with tempfile.TemporaryDirectory() as folder:
            place, arrays = os.path.join(folder, "export"), os.path.join(folder, "x.npz")
            export.export(kept["network"], place)
            logits = kept["network"](tf.constant(x), training=False).numpy()
            np.savez(arrays, x=x, logits=logits)
            found = subprocess.run(
                [sys.executable, "-c", LOADED, place, arrays], capture_output=True, text=True
            )
            assert found.returncode == 0, found.stderr.strip().splitlines()[-1]

    parts: list[Callable[[], None]] = [cut, step, pgd, judge, write]
    for title, part in zip(STEPS, parts, strict=True):
        began = time.monotonic()
        try:
            part()
            done[title] = round(time.monotonic() - began, 1)
        except Exception as error:  # that is what is looked for
            lines = str(error).strip().splitlines() or [""]
            done[title] = f"{type(error).__name__}: {lines[0][:200]}"
            if title == STEPS[0]:
                break
    return done


def table(kept: dict[str, Any]) -> str:
    """The Markdown page of what was kept."""
    rows = [f"| class | images | parameters | features | {' | '.join(STEPS)} |"]
    rows.append("|---" * (4 + len(STEPS)) + "|")
    for name, found in sorted(kept.items()):
        cells = [name, str(found.get("side", "")), f"{found.get('parameters', 0) / 1e6:.1f} M"]
        cells.append(" x ".join(map(str, found.get("features", []))))
        for step in STEPS:
            value = found.get(step, "")
            with_checks = step == "evaluate" and found.get("checks", True)
            seconds = f"{value} s{' with checks' if with_checks else ''}"
            cells.append(seconds if isinstance(value, (int, float)) else str(value))
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--one")
    parser.add_argument("--limit_s", type=float, default=1200)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(one(asked.one)))
        return
    from robust_tf.models import application

    kept = {}
    if os.path.exists(KEPT):
        with open(KEPT) as file:
            kept = json.load(file)
    for name in asked.names or application.applications():
        if name in kept:
            continue
        command = [sys.executable, "-m", "benchmarks.applications", "--one", name]
        try:
            ran = subprocess.run(command, capture_output=True, text=True, timeout=asked.limit_s)
            lines = ran.stdout.strip().splitlines() or ["{}"]
            found = json.loads(lines[-1])
            if ran.returncode:
                found = {STEPS[0]: (ran.stderr.strip().splitlines() or ["?"])[-1][:200]}
        except subprocess.TimeoutExpired:
            found = {STEPS[0]: f"not within {asked.limit_s:.0f} s"}
        print(name, found, flush=True)
        kept[name] = found
        with open(KEPT, "w") as file:
            json.dump(kept, file, indent=1)
    page = TABLE_HEAD + table(kept)
    with open(TABLE, "w") as file:
        file.write(page)


TABLE_HEAD = """# The classes of keras.applications

`python -m benchmarks.applications`: random weights, the smallest images that a class takes, three
classes, four images, one core. Split: `models.Application`, cut after the average over the feature
map. TRADES step: one batch of `train_on_batch`, two attack steps, tracing included. PGD: two steps.
Evaluate: `robust_tf.evaluate` by that PGD, of some classes with its checks for masked gradients,
170 more gradients. Export: a SavedModel that gives the same logits in a new process without this
library. Seconds are nearly all tracing, beside other work.

"""

if __name__ == "__main__":
    main()
