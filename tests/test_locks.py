"""One process at a time: who holds a lock file, and what becomes of it when a process is gone."""

import json
import os
import platform
import subprocess
import sys

import pytest

from robust_tf import files, locks

GONE = 2**22 + 1  # above the highest number that Linux gives a process


def left(path, **about):
    """A lock file that a process has left, which has not locked it."""
    path.write_text(json.dumps({"pid": os.getppid(), "host": platform.node(), **about}))


def test_a_lock_names_its_holder_and_goes_with_it(tmp_path):
    path = tmp_path / "a.lock"
    with locks.Lock(path) as lock:
        content = files.read_json(path)
        assert content["pid"] == os.getpid() and content["host"] == platform.node()
        assert lock.held and locks.holder_of(path) == ""  # of this process itself
    assert not path.exists() and not lock.held


def test_a_living_process_keeps_others_away(tmp_path):
    path = tmp_path / "a.lock"
    left(path, since="2026-01-02 03:04:05 UTC")
    who = f"process {os.getppid()} on {platform.node()} since 2026-01-02 03:04:05 UTC"
    assert locks.holder_of(path) == who
    with pytest.raises(locks.LockedError, match=f"^{who}$"):
        locks.Lock(path, unsure=True)
    assert json.loads(path.read_text())["pid"] == os.getppid()


@pytest.mark.parametrize(
    "about",
    [{"pid": GONE}, {"pid": 0}, {"pid": "x"}, {"host": None}, {"started": "1"}],
)
def test_one_that_is_gone_keeps_nobody_away(tmp_path, about):
    """Its number may have been given to another process since, which began later."""
    left(tmp_path / "a.lock", **about)
    if about != {"host": None}:
        assert locks.holder_of(tmp_path / "a.lock") == ""
    with locks.Lock(tmp_path / "a.lock", unsure=True) as lock:
        assert lock.held


def test_a_process_on_another_machine(tmp_path):
    path = tmp_path / "a.lock"
    left(path, host="elsewhere", task="row 1")
    with pytest.raises(locks.LockedError, match=f"process {os.getppid()} on elsewhere") as error:
        locks.Lock(path)
    assert not error.value.sure
    with locks.Lock(path, unsure=True):
        pass
    left(path, host="elsewhere", task="row 1")
    with pytest.raises(locks.LockedError):
        locks.Lock(path, task="row 2")
    with locks.Lock(path, task="row 1") as lock:  # done again by the engine that lost the other
        assert lock.held


def test_damaged_files_keep_nobody_away(tmp_path):
    for content in (b"", b"{", b"\xff", b"[1]", b"3"):
        (tmp_path / "a.lock").write_bytes(content)
        with locks.Lock(tmp_path / "a.lock") as lock:
            assert lock.held


def test_a_file_that_goes_or_is_replaced_is_not_held(tmp_path):
    with locks.Lock(tmp_path / "a.lock") as lock:
        os.remove(tmp_path / "a.lock")
        assert not lock.held
        left(tmp_path / "a.lock")
        assert not lock.held
    assert (tmp_path / "a.lock").exists()  # another's


def test_where_there_are_no_locks_the_file_alone_tells(monkeypatch):
    path = "ram://locks/a.lock"
    with locks.Lock(path) as lock:
        assert lock.held and files.read_json(path)["pid"] == os.getpid()
    assert not files.exists(path)
    files.write_json(path, {"pid": os.getppid(), "host": platform.node()})
    with pytest.raises(locks.LockedError):
        locks.Lock(path)


KILLED = """
import fcntl, os, sys, time
file = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(file, fcntl.LOCK_EX)
print("ready", flush=True)
time.sleep(600)
"""


def test_the_kernel_tells_even_where_the_file_does_not(tmp_path):
    path = tmp_path / "a.lock"
    command = [sys.executable, "-c", KILLED, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "ready\n"
        with pytest.raises(locks.LockedError, match="another process"):
            locks.Lock(path)
        other.kill()
    with locks.Lock(path) as lock:
        assert lock.held
