"""A worker of a Ray cluster that is killed in the middle of a shard."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from tests.faults.harness import CLONE, Count, LeftOut, case
from tests.tiny import labelled, plain_network

LAB = CLONE / "tests" / "users" / "fatal_lab.py"
LIMIT = 900  # seconds


@case("workers", "SIGKILL of a worker of Ray in the middle of a shard", short=0, long=3)
def ray_worker(place: Path, tries: int, rng: random.Random) -> Count:
    """Its shard is done again from the record, to the verdicts of one process."""
    try:
        import ray
    except ImportError:
        raise LeftOut("the extra ray is not installed") from None
    del ray
    model, (x, _) = plain_network(), labelled(24)
    model.compile("adam", "mse")
    model.save(place / "model.keras")
    y = np.argmax(model(x), axis=1)
    np.savez(place / "data.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    count = Count()
    for turn in range(tries):
        # The attack that kills comes first, in the middle, or last.
        attacks = ["PGD(eps=0.3, step_size=0.1, steps=2)", "Square(eps=0.2, queries=10)"]
        attacks.insert(turn % 3, f"fatal_lab.Fatal(eps=0.2, mark='{place}/mark{turn}')")
        words = [f"--model={place}/model.keras", f"--dataset={place}/data.npz", "--batch_size=5"]
        words += [f"--import={LAB}", f"--attacks={'; '.join(attacks)}", "--draw=first"]
        output = place / f"ray{turn}.json"
        found = _evaluate([*words, "--engine=ray", "--devices=2", f"--output={output}"])
        if "Ray cannot be started" in found.stderr:
            raise LeftOut("Ray cannot be started on this machine")
        killed = (place / f"mark{turn}.2").exists()  # made just before the process is killed
        if found.returncode or not killed:
            said = found.stderr.strip()[-400:]
            count.lost.append(f"status {found.returncode}, killed: {killed}: {said}")
            continue
        straight = place / f"one{turn}.json"
        one = _evaluate([*words, f"--output={straight}"])
        right = one.returncode == 0 and _verdicts(output) == _verdicts(straight)
        right = right and not Path(f"{output}.shards").exists()
        count.check(right, "done again, equal verdicts", f"other verdicts: {one.stderr[-400:]}")
    return count


def _evaluate(words: list[str]) -> Any:
    """`bin/evaluate` in a session of its own, which is ended whatever becomes of it."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(CLONE), *sys.path])}
    command = [sys.executable, "-P", "-m", "robust_tf.cli.evaluate", *words]
    streams: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with subprocess.Popen(
        command, env=environment, text=True, start_new_session=True, **streams
    ) as process:
        try:
            _, said = process.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            _, said = process.communicate()
    return subprocess.CompletedProcess(command, process.returncode, "", said)


def _verdicts(path: Path) -> Any:
    """All of a result of `bin/evaluate` but how long it took."""
    found = json.loads(path.read_text())["evaluation"]
    for one in found["attacks"].values():
        one.pop("seconds")
    return found
