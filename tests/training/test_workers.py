"""Two workers on this machine: one is preempted, one is lost, and a single process goes on."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from robust_tf import recipes
from robust_tf.cli import train
from tests.training.runs import NO_STRATEGY, Stopped, checkpoint
from tests.training.test_clusters import free_ports

# One import of TensorFlow, then two processes that run the command; `advance` is called by every
# worker after each call of the loop.
WORKERS = """
import json, os, signal, sys, time
import tensorflow, robust_tf.recipes, robust_tf.training
from robust_tf.cli import train
from robust_tf.training.reporting import Reporter

folder, ports, who, call, number, *words = sys.argv[1:]
flags = os.O_CREAT | os.O_TRUNC | os.O_WRONLY
hosts = [f"127.0.0.1:{port}" for port in ports.split(",")]

def work(index):
    for descriptor, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{folder}.{name}{index}", flags, 0o600), descriptor)
    os.environ["TF_CONFIG"] = json.dumps(
        {"cluster": {"worker": hosts}, "task": {"type": "worker", "index": index}}
    )
    original, left = Reporter.advance, [int(call)]
    def advance(self, *args):
        original(self, *args)
        left[0] -= 1
        if index == int(who) and not left[0]:
            print("signal", time.time(), flush=True)
            os.kill(os.getpid(), int(number))
    Reporter.advance = advance
    try:
        sys.exit(train.main(words))
    finally:
        print("end", time.time(), flush=True)

children = []
for index in (0, 1):
    child = os.fork()
    if not child:
        work(index)
    children.append(child)
print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]))
"""

# Steps that do not depend on the device that an image is on; four to an epoch.
BINDINGS = [
    "CNN.filters=2",
    "CNN.hidden=8",
    "CNN.dropout=0.0",
    "train.optimizer=@SGD",
    "train.learning_rate=0.05",
    "train.epochs=60",
    "train.batch_size=320",
    "train.steps_per_call=1",
    "train.checkpoint_minutes=9",
    "train.validation_attack=None",
    "train.evaluation_attacks=[]",
    "train.compare_with=None",
]


def start(folder, who, call, number):
    """Exit statuses of both workers, and what they wrote, of which one gets a signal."""
    own = ["--gin_file=gin/standard_digits.gin", f"--run_dir={folder}", "--strategy=multi_worker"]
    own += [f"--gin_param={binding}" for binding in BINDINGS]
    ports = ",".join(map(str, free_ports(2)))
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }
    program = [sys.executable, "-c", WORKERS, str(folder), ports, str(who), str(call)]
    command = [*program, str(int(number)), *own]
    # A session of their own: all of it is ended, whatever becomes of the test.
    streams = {"stdout": subprocess.PIPE, "start_new_session": True}
    process = subprocess.Popen(command, env=environment, **streams)
    try:
        out, _ = process.communicate(timeout=900)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    said = [Path(f"{folder}.err{index}").read_text() for index in (0, 1)]
    assert process.returncode == 0, said
    return json.loads(out), said


def on_one_device(folder, epoch, stop_after):
    """Weights after an epoch, of a run that this process begins or continues."""
    loaded = recipes.load(["gin/standard_digits.gin"], BINDINGS)
    run = loaded.trainer(str(folder), strategy=NO_STRATEGY)
    stop_after("close_epoch", epoch - int(run.progress.epoch.numpy()))
    with pytest.raises(Stopped):
        run.train()
    assert int(run.progress.epoch.numpy()) == epoch
    return run.resumed, run.model.network.get_weights()


def test_workers_stop_together_end_together_and_one_goes_on(stop_after, tmp_path):
    folder = tmp_path / "run"
    # SIGTERM to the second: both save at one step, the chief writes it.
    statuses, said = start(folder, who=1, call=6, number=signal.SIGTERM)
    assert statuses == [143, 143], said
    where = [re.search(r"SIGTERM: saved (in|after) epoch .*", one) for one in said]
    assert where[0][0] == where[1][0]
    assert all("all 2 workers are there" in one for one in said)
    before = checkpoint(folder, "last")
    assert before["progress/epoch/.ATTRIBUTES/VARIABLE_VALUE"] >= 1
    # The chief is lost: the other says so, and is not left waiting.
    statuses, said = start(folder, who=0, call=2, number=signal.SIGKILL)
    assert statuses == [-signal.SIGKILL, train.GONE], said
    assert "error: another worker is gone" in said[1]
    assert checkpoint(folder, "last").keys() == before.keys()
    # One process goes on, to what it would have come to alone.
    epoch = int(before["progress/epoch/.ATTRIBUTES/VARIABLE_VALUE"]) + 2
    resumed, weights = on_one_device(folder, epoch, stop_after)
    _, alone = on_one_device(tmp_path / "alone", epoch, stop_after)
    assert resumed
    for one, other in zip(weights, alone, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
