"""Full disks, read-only folders, quotas, folders that go away, two processes, clocks, memory."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import tensorflow as tf

from robust_tf import files
from robust_tf.attacks import PGD, Square
from robust_tf.cli import report as report_command
from robust_tf.evaluation import EvaluationState, evaluate
from robust_tf.evaluation.memory import Memory
from robust_tf.training import CheckpointError, RunFolderError
from robust_tf.training.reporting import Reporter
from robust_tf.training.run_folder import LOCK, Claim
from tests.faults import jobs
from tests.faults.harness import Count, LeftOut, case, finished_run, named
from tests.training import runs as small


@contextlib.contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """Every write beyond so many bytes of a file fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def tmpfs(place: Path, size: int) -> Iterator[Path]:
    """A file system of so many KiB; needs the rights to mount one."""
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def can_mount(place: Path) -> bool:
    """Whether this process may mount a tmpfs."""
    try:
        with tmpfs(place / "try", 64):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


@case("disk", "full, by a limit of the size of files", short=3, long=3)
def full(place: Path, tries: int, rng: random.Random) -> Count:
    """A file, a checkpoint and the record of an evaluation keep what was there."""
    count = Count()
    path = place / "a.json"
    files.write_json(path, {"old": 1})
    with no_file_above(1000):
        error = _raised(lambda: files.write_json(path, {"new": "x" * 5000}))
    right = isinstance(error, files.FileError) and files.read_json(path) == {"old": 1}
    right = right and os.listdir(place) == ["a.json"]
    count.check(right, "the old file stayed, one sentence", f"write_json: {error}")

    folder = place / "run"
    shutil.copytree(finished_run(), folder)
    with jobs.quiet():
        trainer = jobs.trainer(str(folder))
    trainer.progress.epoch.assign(3)
    with no_file_above(2000):
        error = _raised(trainer.checkpoints.save_last)
    right = isinstance(error, CheckpointError) and named(folder / "checkpoints" / "last", error)
    del trainer
    with jobs.quiet():
        again = jobs.trainer(str(folder))
    right = right and int(again.progress.epoch.numpy()) == 2
    count.check(right, "the checkpoint before stayed, one sentence", f"save_last: {error}")

    state = EvaluationState(str(place / "out.json.partial"))
    state.open({"seed": 0})
    state.put("a", {"broken": [1]})
    state.save()
    with no_file_above(1000):
        state.put("b", {"broken": list(range(2000))})
        error = _raised(state.save)
    again_state = EvaluationState(str(place / "out.json.partial"))
    right = isinstance(error, files.FileError) and again_state.open({"seed": 0}) == 1
    count.check(right, "the record stayed, one sentence", f"record: {error}")
    return count


@case("disk", "full, a tmpfs: training, then more room", short=0, long=6)
def full_tmpfs(place: Path, tries: int, rng: random.Random) -> Count:
    if not can_mount(place):
        raise LeftOut("this process may not mount a file system")
    count = Count()
    for number in range(tries):
        size = 30 + 25 * number
        with tmpfs(place / f"small{number}", size) as folder:
            error = _raised(lambda folder=folder: jobs.train(str(folder / "run")))
            if error is None:
                count.survived("there was room for all")
                continue
            if not isinstance(error, OSError) or len(str(error).splitlines()) != 1:
                count.lost.append(f"{size} KiB: {type(error).__name__}: {error}")
                continue
            subprocess.run(["mount", "-o", "remount,size=64m", folder], check=True)
            jobs.train(str(folder / "run"))
            try:
                small.assert_same_run(finished_run(), folder / "run")
            except AssertionError as wrong:
                count.lost.append(f"{size} KiB: {str(wrong)[:200]}")
            else:
                count.survived("one sentence; then on to the same bits")
    return count


@case("disk", "read-only", short=2, long=2)
def read_only(place: Path, tries: int, rng: random.Random) -> Count:
    """A folder in which even the superuser cannot make one."""
    count, folder = Count(), "/proc/robust_tf"
    error = _raised(lambda: Claim(folder))
    right = isinstance(error, RunFolderError) and folder in str(error)
    count.check(right, "refused at once, one sentence", f"Claim: {error}")
    with jobs.quiet():
        arguments = [f"--run_dir={finished_run()}", "--no_model", f"--output={folder}/a.html"]
        status = report_command.main(arguments)
    count.check(status == 2, "refused at once, one sentence", f"report: status {status}")
    return count


@case("disk", "quota exceeded", short=1, long=1)
def quota(place: Path, tries: int, rng: random.Random) -> Count:
    count, path = Count(), place / "a.json"
    files.write_json(path, {"old": 1})
    fault = OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
    with mock.patch.object(tf.io.gfile.GFile, "write", side_effect=fault):
        error = _raised(lambda: files.write_json(path, {"new": 2}))
    right = isinstance(error, files.FileError) and "quota" in str(error).lower()
    right = right and files.read_json(path) == {"old": 1} and os.listdir(place) == ["a.json"]
    count.check(right, "the old file stayed, one sentence", f"write_json: {error}")
    return count


@case("folder", "of the run removed while it trains", short=1, long=4)
def removed(place: Path, tries: int, rng: random.Random) -> Count:
    """The training ends with a sentence, and no folder without an identity is left."""
    count = Count()
    for number in range(tries):
        folder = place / f"run{number}"
        at = rng.randrange(1, 6)

        def remove(calls: int, at: int = at, folder: Path = folder) -> None:
            if calls == at:
                shutil.rmtree(folder)

        with _after_each_call(remove):
            error = _raised(lambda folder=folder: jobs.train(str(folder)))
        right = isinstance(error, RunFolderError) and str(folder) in str(error)
        left = sorted(os.listdir(folder)) if folder.exists() else []
        count.check(right and not left, "ended by a sentence", f"call {at}: {error}; left {left}")
    return count


@contextlib.contextmanager
def _after_each_call(work: Any) -> Iterator[None]:
    """Calls `work` with the number of calls of the loop done, after each."""
    original, done = Reporter.advance, [0]

    def advance(self: Reporter, *arguments: Any) -> None:
        original(self, *arguments)
        done[0] += 1
        work(done[0])

    with mock.patch.object(Reporter, "advance", advance):
        yield


HOLDER = """
import fcntl, json, os, platform, sys, time
file = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(file, fcntl.LOCK_EX)
about = {"pid": os.getpid(), "host": platform.node(), "since": "2026-01-02 03:04:05 UTC"}
os.write(file, json.dumps(about).encode())
print("ready", flush=True)
time.sleep(600)
"""


@case("processes", "two in one run folder, the first killed", short=1, long=20)
def two_processes(place: Path, tries: int, rng: random.Random) -> Count:
    count = Count()
    for _ in range(tries):
        path = place / LOCK
        command = [sys.executable, "-c", HOLDER, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
            assert other.stdout is not None and other.stdout.readline() == "ready\n"
            error = _raised(lambda: Claim(str(place)))
            other.kill()
            other.wait()
        text = str(error)
        told = all(part in text for part in (f"process {other.pid} on ", "since 2026-01-02"))
        if not isinstance(error, RunFolderError) or not told:
            count.lost.append(f"not refused by name: {error}")
            continue
        with Claim(str(place)) as claim:
            claim.check()
            holder = json.loads(path.read_text())["pid"]
        right = holder == os.getpid() and not path.exists()
        count.check(right, "refused by pid, host and time; then taken over", "not taken over")
    return count


@case("clock", "set back while a run trains", short=1, long=3)
def clock(place: Path, tries: int, rng: random.Random) -> Count:
    """The same run, and durations that are none of that clock's."""
    count = Count()
    for number in range(tries):
        folder, real, now = place / f"run{number}", time.time, time.time()
        with mock.patch.object(time, "time", lambda real=real, now=now: 2 * now - real()):
            error = _raised(lambda folder=folder: jobs.train(str(folder)))
        if error is not None:
            count.lost.append(str(error))
            continue
        small.assert_same_run(finished_run(), folder)
        summary = files.read_json(folder / "summary.json")
        seconds = summary["training_seconds"]
        count.check(0 < seconds < 3600, "the same run, the same bits", f"{seconds} seconds")
    return count


@case("memory", "not enough in an evaluation", short=2, long=6)
def memory(place: Path, tries: int, rng: random.Random) -> Count:
    """Batches are halved until they fit; the verdicts are those of small batches."""
    count, draw = Count(), np.random.default_rng(0)
    x, weights = draw.random((24, 6), dtype=np.float32), tf.constant(draw.normal(size=(6, 3)))
    weights = tf.cast(weights, tf.float32)
    y = (x @ weights.numpy()).argmax(1).astype(np.int32)
    attacks = {"PGD": PGD(0.1, 0.05, 3), "Square": Square(0.1, queries=10)}
    settings: dict[str, Any] = {"checks": False, "progress": False}
    wanted = evaluate(lambda z: z @ weights, (x, y), attacks, batch_size=3, **settings)
    run = Memory.run
    for most in (5, 0, 1, 2, 3, 11)[:tries]:
        armed: list[bool] = []  # only for batches: a first look at the model is none

        def look(size: np.ndarray, most: int = most, armed: list[bool] = armed) -> np.ndarray:
            if armed and size > most:
                raise MemoryError("no more")
            return np.float32(0)

        def model(images: tf.Tensor, look: Any = look) -> tf.Tensor:
            zero = tf.numpy_function(look, [tf.shape(images)[0]], tf.float32)
            return images @ weights + tf.ensure_shape(zero, ())

        def armed_run(self: Memory, *about: Any, armed: list[bool] = armed) -> Any:
            armed.append(True)
            try:
                return run(self, *about)
            finally:
                armed.clear()

        with warnings.catch_warnings(record=True) as said, jobs.quiet():
            warnings.simplefilter("always")
            with mock.patch.object(Memory, "run", armed_run):
                try:
                    found = evaluate(model, (x, y), attacks, batch_size=12, **settings)
                except MemoryError as error:
                    right = not most and "single image" in str(error)
                    count.check(right, "not one image fits: one sentence", str(error))
                    continue
                except Exception as error:
                    count.lost.append(f"{most} images: {type(error).__name__}: {error!s:.300}")
                    continue
        told = any("--batch_size=" in str(one.message) for one in said)
        same = all(np.array_equal(wanted.robust[n], found.robust[n]) for n in attacks)
        count.check(same and told, "halved, and said so: the same verdicts", f"{most} images")
    return count


def _raised(work: Any) -> BaseException | None:
    try:
        work()
    except Exception as error:
        return error
    return None
