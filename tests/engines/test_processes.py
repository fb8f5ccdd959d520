"""Tasks in processes of this machine: shares of devices, failures, interruptions."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from robust_tf import engines
from robust_tf.engines import Ending, Task, devices, processes

MODULE = "tests.engines.jobs"


def task(folder, what, *more, name=None):
    output = str(folder / f"{name or what}.json")
    return Task(name or what, MODULE, (what, output, *more), output)


@pytest.fixture
def two(monkeypatch):
    """An engine of two processes on five cores without a GPU."""
    monkeypatch.setattr(devices, "visible_gpus", lambda: [])
    monkeypatch.setattr(devices, "available_cores", lambda: 5)
    for name in (*devices.THREADS, "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    return engines.engine(devices=2)


def test_all_run_and_failures_leave_the_others_alone(two, tmp_path):
    tasks = [task(tmp_path, "work", str(k), name=f"work {k}") for k in range(3)]
    tasks[1:1] = [task(tmp_path, "die"), task(tmp_path, "refuse", "eps is wrong.")]
    ended = []
    endings = two.run(tasks, ended=lambda one, ending: ended.append(one.name))
    assert sorted(ended) == sorted(endings) == sorted(one.name for one in tasks)
    assert [endings[one.name].status for one in tasks] == [0, -signal.SIGKILL, 2, 0, 0]
    assert endings["refuse"].error == "eps is wrong." and endings["refuse"].remarks == [
        "note: before"
    ]
    assert "killed by SIGKILL, as the system does when memory runs out" in endings["die"].reason
    for k, one in enumerate([tasks[0], *tasks[3:]]):
        found = json.loads(open(one.output).read())
        assert found["more"] == [str(k)] and found["gpu"] is None
        assert found["TF_NUM_INTRAOP_THREADS"] == found["OMP_NUM_THREADS"] == "2"


def test_each_process_sees_one_gpu(monkeypatch):
    monkeypatch.setattr(devices, "available_cores", lambda: 8)
    for visible, gpus in ((None, ["0", "1", "2"]), ("GPU-aa, GPU-bb,3", ["GPU-aa", "GPU-bb", "3"])):
        monkeypatch.setattr(devices, "visible_gpus", lambda gpus=gpus: gpus)
        found = devices.found("all")
        assert [one.environment["CUDA_VISIBLE_DEVICES"] for one in found] == gpus, visible
        assert len(devices.found(2)) == 2
        with pytest.raises(ValueError, match=r"devices=4: must be 1 .. 3, as many as there are"):
            devices.found(4)


def test_gpus_are_those_that_are_visible(monkeypatch):
    import tensorflow as tf

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["a", "b"])
    for visible, gpus in (("GPU-aa, 7", ["GPU-aa", "7"]), ("", ["0", "1"])):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert devices.visible_gpus() == gpus
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert devices.visible_gpus() == []


def test_threads_that_the_user_sets_are_kept(monkeypatch, two):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert "OMP_NUM_THREADS" not in devices.found(2)[0].environment
    assert [one.environment["TF_NUM_INTRAOP_THREADS"] for one in devices.found("all")] == ["1"] * 5


@pytest.mark.parametrize("wrong", ["0", "-1", "two", 0, 1.5, True, ""])
def test_numbers_of_devices_that_are_none(wrong):
    with pytest.raises(ValueError, match="must be all, or a whole number >= 1"):
        devices.checked(wrong)


def test_an_engine_of_another_name():
    with pytest.raises(ValueError, match="engine='dask': must be one of processes, ray"):
        engines.engine("dask")
    with pytest.raises(ValueError, match="give engine='ray', too"):
        engines.engine("processes", address="auto")


def waits_for(path, seconds=60):
    until = time.monotonic() + seconds
    while not path.exists() or not path.read_text():
        assert time.monotonic() < until, path
        time.sleep(0.05)
    return int(path.read_text())


def gone(pid, seconds=60):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            with open(f"/proc/{pid}/stat") as file:
                if file.read().rpartition(")")[2].split()[0] == "Z":
                    return True
        except FileNotFoundError:
            return True
        time.sleep(0.05)
    return False


def test_an_interruption_ends_all(two, tmp_path, monkeypatch):
    """The one is asked and saves; the other does not listen, and is ended."""
    monkeypatch.setattr(processes, "GRACE", 1.0)
    tasks = [task(tmp_path, "wait"), task(tmp_path, "stubborn")]
    files = [tmp_path / f"{name}.json.pid" for name in ("wait", "stubborn")]

    def interrupt():
        if all(file.exists() and file.read_text() for file in files):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        two.run(tasks, watch=interrupt)
    assert (tmp_path / "wait.json.asked").exists()
    assert all(gone(waits_for(file)) for file in files)


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="no /proc to look for processes")
def test_a_parent_that_is_killed_leaves_nobody_behind(tmp_path):
    program = (
        "import sys; from robust_tf.engines import processes, devices, Task\n"
        "devices.visible_gpus = list\n"
        f"processes.Processes(1).run([Task('wait', {MODULE!r}, ('wait', sys.argv[1]), '')])\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "out")])
    child = waits_for(tmp_path / "out.pid")
    parent.kill()
    parent.wait()
    assert gone(child) and (tmp_path / "out.asked").exists()


def test_how_an_ending_reads():
    assert Ending(-15).reason == "its process was killed by SIGTERM"
    assert Ending(3).reason == "ended with status 3"
    assert Ending(1, "Traceback:\n  x\nKeyError: 'a'\n").reason == "KeyError: 'a'"
