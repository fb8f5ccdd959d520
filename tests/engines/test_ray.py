"""A local Ray cluster of two workers, one of which is killed: the result is that of one process."""

import json
import os
import signal
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest

from robust_tf import engines, files, stopping
from robust_tf.cli import evaluate
from robust_tf.engines import Task, tasks
from tests.tiny import labelled, plain_network

ray_tasks = pytest.importorskip("robust_tf.engines.ray_tasks")
ray = pytest.importorskip("ray", reason="the extra ray is not installed")
LAB = Path(__file__).resolve().parent.parent / "users" / "fatal_lab.py"


@pytest.fixture(scope="module")
def cluster():
    """Of two workers, which all tests use: `RayTasks` leaves one that it finds as it is."""
    try:
        with engines.engine("ray", 2) as found:
            yield found
    except OSError as error:
        pytest.skip(f"no cluster: {error}")


def test_tasks_end_as_in_processes(cluster, tmp_path):
    def task(what, *more):
        output = str(tmp_path / f"{what}.json")
        return Task(what, "tests.engines.jobs", (what, output, *more), output)

    endings = cluster.run([task("work", "a b"), task("refuse", "eps is wrong.")])
    assert endings["work"].status == 0 and endings["refuse"].status == 2
    assert endings["refuse"].error == "eps is wrong."
    found = json.loads((tmp_path / "work.json").read_text())
    assert found["more"] == ["a b"] and int(found["TF_NUM_INTRAOP_THREADS"]) >= 1
    assert not ray_tasks.RayTasks(2, None)._own  # one cluster for all

    def interrupt():
        if (tmp_path / "wait.json.pid").exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cluster.run([task("wait")], watch=interrupt)
    until = time.monotonic() + 20  # Ray does not wait for what a task does then
    while not (tmp_path / "wait.json.asked").exists() and time.monotonic() < until:
        time.sleep(0.1)
    assert (tmp_path / "wait.json.asked").exists()


def test_a_lost_worker_is_replaced(cluster, tmp_path):
    """Its shard goes on from the record; the model is sent where its path is not there."""
    model, (x, _) = plain_network(), labelled(24)
    model.compile("adam", "mse")
    model.save(tmp_path / "model.keras")
    y = np.argmax(model(x), axis=1)
    np.savez(tmp_path / "data.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    attacks = (
        "PGD(eps=0.3, step_size=0.1, steps=2); Square(eps=0.2, queries=10); "
        f"fatal_lab.Fatal(eps=0.2, mark='{tmp_path}/mark')"
    )
    own = [f"--model={tmp_path}/model.keras", f"--dataset={tmp_path}/data.npz", "--batch_size=5"]
    own += [f"--import={LAB}", f"--attacks={attacks}", "--draw=first"]
    ray_own = [*own, "--engine=ray", "--devices=2", f"--output={tmp_path}/ray.json"]
    assert evaluate.main(ray_own) == 0
    assert (tmp_path / "mark.2").exists()  # which is made just before the process is killed
    assert evaluate.main([*own, f"--output={tmp_path}/one.json"]) == 0
    results = []
    for name in ("ray", "one"):
        results.append(files.read_json(tmp_path / f"{name}.json"))
        for one in results[-1]["evaluation"]["attacks"].values():
            one.pop("seconds")
    assert results[0] == results[1]
    assert not (tmp_path / "ray.json.shards").exists()


def test_paths_that_a_worker_does_not_see(tmp_path):
    own = ray_tasks.copied(str(tmp_path / "nowhere" / "model.keras"), b"content")
    assert os.path.basename(own) == "model.keras" and Path(own).read_bytes() == b"content"
    assert ray_tasks.copied("elsewhere/model.keras", b"content") == own
    assert ray_tasks.copied("elsewhere/model.keras", b"other") != own
    for word, expected in (
        ("--model=a/m.keras", "--model=own"),
        ("--transfer_from=b, a/m.keras", "--transfer_from=b,own"),
        ("a/m.keras", "own"),
        ("--model=a/m.keras2", "--model=a/m.keras2"),
        ("--attacks=PGD(eps=a/m.keras)", "--attacks=PGD(eps=a/m.keras)"),
    ):
        assert ray_tasks._with(word, "a/m.keras", "own") == expected


class Lost(Exception):
    """What the stand-in says when a worker is lost."""


class StandIn:
    """What `RayTasks` uses of Ray, in this process; without retries a worker is lost."""

    exceptions = types.SimpleNamespace(RayTaskError=ZeroDivisionError, RayError=Lost)

    def __init__(self):
        self.options, self.stored = {}, []

    def is_initialized(self):
        return True

    def cluster_resources(self):
        return {"CPU": 12.0}

    def nodes(self):
        return [{"Alive": True, "Resources": {"CPU": cores}} for cores in (8.0, 4.0)]

    def put(self, value):
        self.stored.append(value)
        return ("stored", value)

    def remote(self, max_calls, max_retries):
        def decorate(function):
            def bind(**options):
                self.options[options["name"]] = options

                def call(*arguments):
                    return lambda: self._done(function, arguments, max_retries)

                return types.SimpleNamespace(remote=call)

            return types.SimpleNamespace(options=bind)

        return decorate

    def _done(self, function, arguments, left):
        if left < 1:
            raise Lost("the worker died")
        return function(*arguments)

    def wait(self, references, timeout):
        return references[:1], references[1:]

    def get(self, reference):
        return reference[1] if isinstance(reference, tuple) else reference()

    def cancel(self, reference, force):
        raise AssertionError("nothing runs any more")

    def get_runtime_context(self):
        return types.SimpleNamespace(get_task_id=lambda: "the task")


def test_what_ray_is_asked_for(monkeypatch, tmp_path):
    """Cores of the smallest machine, each file once, and results that come back by value."""
    stand_in = StandIn()
    monkeypatch.setitem(sys.modules, "ray", stand_in)
    for name in (*ray_tasks.THREADS, tasks.TASK, "TF_CPP_MIN_LOG_LEVEL"):
        monkeypatch.setenv(name, "")  # put back afterwards
        monkeypatch.delenv(name)
    monkeypatch.setattr(sys, "argv", sys.argv)
    here, gone = tmp_path / "here.npz", tmp_path / "gone.keras"
    here.write_bytes(b"data")
    gone.write_bytes(b"model")
    output = tmp_path / "out.json"

    def read(path):  # the file is away once it is stored, as on another machine
        found = Path(path).read_bytes()
        if path == str(gone):
            gone.unlink()
        return found

    monkeypatch.setattr(ray_tasks, "_content", read)
    words = ("work", str(output), f"--model={gone}", f"--dataset={here}")
    sends = (str(here), str(gone))
    with ray_tasks.RayTasks(2) as engine:
        assert engine.workers == 2
        made = [Task(name, "tests.engines.jobs", words, str(output), sends) for name in "ab"]
        endings = engine.run(made)
    assert [ending.status for ending in endings.values()] == [0, 0]
    assert stand_in.stored == [b"data", b"model"]
    assert stand_in.options["a"] == {"num_gpus": 0, "num_cpus": 4, "name": "a"}
    found = json.loads(output.read_text())
    assert found["TF_NUM_INTRAOP_THREADS"] == "4" and found["more"][1] == f"--dataset={here}"
    own = found["more"][0].removeprefix("--model=")
    assert own != str(gone) and Path(own).read_bytes() == b"model"
    assert os.environ[tasks.TASK] == "the task"
    monkeypatch.setattr(ray_tasks, "RETRIES", 0)
    with ray_tasks.RayTasks() as engine:
        assert engine.workers == 12
        ending = engine.run([Task("c", "tests.engines.jobs", ("work", "x"))])["c"]
    assert ending.status < 0 and ending.text == "the worker died"


class Handling(StandIn):
    """Sets a handler of its own, as Ray does, and may fail then."""

    def __init__(self, fails=False):
        super().__init__()
        self.fails = fails

    def is_initialized(self):
        return False

    def init(self, **options):
        signal.signal(signal.SIGTERM, self.handle)
        if self.fails:
            raise RuntimeError("The current node timed out during startup.")

    def handle(self, number, frame):
        raise SystemExit(number)

    def shutdown(self):
        pass


@pytest.fixture
def no_handler():
    """Of SIGTERM: the cluster of the other tests has one."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


def test_signals_are_the_commands_and_not_rays(monkeypatch, no_handler):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    stand_in = Handling()
    monkeypatch.setitem(sys.modules, "ray", stand_in)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    with ray_tasks.RayTasks(2):  # nobody else ends the cluster
        assert signal.getsignal(signal.SIGTERM) == stand_in.handle
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    with pytest.raises(stopping.Stopped) as error, stopping.handled(), ray_tasks.RayTasks(2):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)
    assert error.value.status == 143
    monkeypatch.setitem(sys.modules, "ray", Handling(fails=True))
    with pytest.raises(OSError, match="cannot be started"):
        ray_tasks.RayTasks(2)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


class Failing:
    """Ray as on a machine on which it cannot be started."""

    def __init__(self, times):
        self.times, self.stopped = times, 0

    def init(self, **options):
        self.options = options
        self.times -= 1
        if self.times >= 0:
            raise RuntimeError("The current node timed out during startup.\nMore.")

    def shutdown(self):
        self.stopped += 1


def test_a_start_is_tried_again(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    once = Failing(1)
    ray_tasks._start(once, None, 3)
    assert once.stopped == 1 and once.options["address"] == "local"
    assert once.options["num_cpus"] >= 3 and os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    with pytest.raises(OSError, match=r"timed out during startup\); it gives up when its"):
        ray_tasks._start(Failing(9), None, None)
    with pytest.raises(OSError, match="there is no Ray cluster at auto"):
        ray_tasks._start(Failing(9), "auto", None)
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    found = Failing(0)
    ray_tasks._start(found, None, None)
    assert found.options["address"] == "head:6379" and "num_cpus" not in found.options
