"""Two workers that train together: one is killed or stopped, or the network between them fails."""

from __future__ import annotations

import atexit
import contextlib
import functools
import itertools
import random
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from robust_tf.cli import train
from tests.faults import together
from tests.faults.harness import Count, case
from tests.faults.kills import LIMIT, processes
from tests.faults.proxy import Proxy
from tests.training import runs
from tests.training.test_clusters import free_ports

CALLS = together.EPOCHS * together.STEPS
# Seconds in which the other one is to end, of docs/many_machines.md, and as many again for a
# machine that has other work.
SOON = 22.0
SHORTLY = 4.0  # seconds for which a network may fail


class Pair:
    """Two workers, started; `join` has them end.

    Args:
      folder: of the run.
      notes: beginning of the names of the files that they write.
      strikes: of each, see `together.work`.
      proxies: whether each sees the other through a proxy.
    """

    def __init__(
        self, folder: Path, notes: Path, strikes: Sequence[Any] = ((), ()), proxied: bool = False
    ):
        self.notes = notes
        ports = free_ports(2)
        self.proxies = [Proxy(port) for port in ports] if proxied else []
        seen = [proxy.port for proxy in self.proxies] or ports
        self.processes = []
        for index in (0, 1):
            hosts = [f"127.0.0.1:{(ports if i == index else seen)[i]}" for i in (0, 1)]
            arguments = (str(folder), str(notes), hosts, index, tuple(strikes[index]))
            self.processes.append(processes().Process(target=together.work, args=arguments))

    def __enter__(self) -> Pair:
        for one in [*self.proxies, *self.processes]:
            one.__enter__() if isinstance(one, Proxy) else one.start()
        return self

    def __exit__(self, *error: object) -> None:
        for process in self.processes:
            process.kill()
            process.join()
        for proxy in self.proxies:
            proxy.__exit__()

    def join(self, limit: float = LIMIT) -> tuple[list[int | None], float]:
        """Exit statuses, None of one that has not ended; seconds between the two ends."""
        until, ends = time.monotonic() + limit, dict[int, float]()
        while len(ends) < 2 and time.monotonic() < until:
            for index, process in enumerate(self.processes):
                if process.exitcode is not None:
                    ends.setdefault(index, time.monotonic())
            time.sleep(0.1)
        last = max(ends.values(), default=until) if len(ends) == 2 else until
        apart = last - min(ends.values(), default=until)
        return [process.exitcode for process in self.processes], apart

    def hold(self) -> None:
        """Stops the network once the file of the moment is there."""
        moment, until = Path(f"{self.notes}.moment"), time.monotonic() + LIMIT
        while not moment.exists() and all(one.exitcode is None for one in self.processes):
            if time.monotonic() > until:
                break
            time.sleep(0.05)
        for proxy in self.proxies:
            proxy.flows.clear()

    def release(self) -> None:
        """Lets the network go on."""
        for proxy in self.proxies:
            proxy.flows.set()

    def errors(self, index: int) -> list[str]:
        """What one has said in the end: lines that begin with 'error:' or the name of a signal."""
        text = Path(f"{self.notes}.said{index}").read_text(errors="replace")
        return re.findall(r"(?m)^(?:error|SIGTERM): (?!saving).*$", text)


@functools.cache
def _straight() -> tuple[Path, Path]:
    """A run of one process, undisturbed, and its notes; made once."""
    place = Path(tempfile.mkdtemp(prefix="robust_tf_workers_"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    _alone(place / "run", place / "notes")
    return place / "run", place / "notes"


def _alone(folder: Path, notes: Path) -> None:
    process = processes().Process(target=together.work, args=(str(folder), str(notes), [], 0, ()))
    process.start()
    process.join(LIMIT)
    if process.exitcode != 0:
        process.kill()
        said = Path(f"{notes}.said0").read_text(errors="replace")
        raise RuntimeError(f"one process ended with {process.exitcode}: {said[-400:]}")


def _go_on(folder: Path, notes: Path, count: int) -> str:
    """Continues a run on so many processes; what is wrong then, or ''."""
    if count == 1:
        _alone(folder, notes)
    else:
        with Pair(folder, notes) as pair:
            statuses, _ = pair.join()
            if statuses != [0, 0]:
                return f"the two that continued ended with {statuses}: {pair.errors(1)}"
    return ""


def _differs(folder: Path, notes: Sequence[tuple[Path, int]]) -> str:
    """How a run differs from that of one process, or ''.

    Args:
      folder: of the run.
      notes: those of each of its parts, with the number of processes.
    """
    straight, its = _straight()
    wanted, seen = together.images(str(its), 1), set[int]()
    for own, count in notes:
        for step, images in together.images(str(own), count).items():
            seen.add(step)
            if step in wanted and images != wanted[step]:
                return f"other images in step {step + 1}"
    if not set(range(CALLS)) <= seen:
        return f"no images noted of steps {sorted(set(range(CALLS)) - seen)}"
    try:
        one, other = (runs.checkpoint(path, "last") for path in (straight, folder))
        assert one.keys() == other.keys()
        for name, value in one.items():
            np.testing.assert_allclose(value, other[name], atol=1e-4, err_msg=name)
    except AssertionError as error:
        return str(error)[:300]
    return ""


def _struck(
    place: Path, tries: int, rng: random.Random, number: int, expected: Sequence[int]
) -> Count:
    """One of the two gets a signal, by turns; they continue as two or as one, by turns.

    Args:
      expected: exit statuses, of the one that gets it and of the other.
    """
    count = Count()
    turns = itertools.islice(itertools.cycle(itertools.product((1, 2), (0, 1))), tries)
    for turn, (processes_then, who) in enumerate(turns):
        folder, notes = place / f"run{turn}", place / f"notes{turn}"
        call = rng.randrange(1, CALLS)
        strikes: list[Any] = [(), ()]
        strikes[who] = ((call, number),)
        with Pair(folder, notes, strikes) as pair:
            statuses, apart = pair.join()
            errors = [pair.errors(index) for index in (0, 1)]
        about = f"worker {who} after call {call}: {statuses}, {apart:.0f} s apart, {errors}"
        told = all(len(errors[i]) == 1 for i in (0, 1) if statuses[i] != -signal.SIGKILL)
        right = (statuses[who], statuses[1 - who]) == tuple(expected)
        if not right or not told or apart > SOON:
            count.lost.append(about)
            continue
        wrong = _go_on(folder, place / f"then{turn}", processes_then)
        wrong = wrong or _differs(folder, [(notes, 2), (place / f"then{turn}", processes_then)])
        on = "both" if processes_then == 2 else "one"
        count.check(not wrong, f"status {expected[1]}, one sentence; on {on}", f"{about}: {wrong}")
    return count


@case("workers", "SIGKILL of one of two, or of the chief, then the same command", short=0, long=4)
def workers_killed(place: Path, tries: int, rng: random.Random) -> Count:
    expected = (-signal.SIGKILL, train.GONE)
    return _struck(place, tries, rng, signal.SIGKILL, expected)


@case("workers", "SIGTERM of one of two, or of the chief, then the same command", short=0, long=4)
def workers_stopped(place: Path, tries: int, rng: random.Random) -> Count:
    return _struck(place, tries, rng, signal.SIGTERM, (143, 143))


@case("workers", "the network between two held up for 4 seconds", short=0, long=2)
def network_held_up(place: Path, tries: int, rng: random.Random) -> Count:
    """Training goes on, to the same result."""
    count = Count()
    for turn in range(tries):
        folder, notes = place / f"run{turn}", place / f"notes{turn}"
        with _held(folder, notes, rng) as (pair, call):
            time.sleep(SHORTLY)
            ran = [process.exitcode for process in pair.processes]
            pair.release()
            statuses, _ = pair.join()
            errors = [pair.errors(index) for index in (0, 1)]
        wrong = "" if ran == [None, None] and statuses == [0, 0] else f"{ran}, {statuses}, {errors}"
        wrong = wrong or _differs(folder, [(notes, 2)])
        count.check(not wrong, "training went on, the same result", f"after call {call}: {wrong}")
    return count


@case("workers", "the network between two lost, then the same command", short=0, long=2)
def network_lost(place: Path, tries: int, rng: random.Random) -> Count:
    """Both end; then one process goes on, or both do."""
    count = Count()
    for turn in range(tries):
        folder, notes = place / f"run{turn}", place / f"notes{turn}"
        then = 1 + turn % 2
        with _held(folder, notes, rng) as (pair, call):
            began = time.monotonic()
            statuses, _ = pair.join(10 * SOON)
            seconds = time.monotonic() - began
            errors = [pair.errors(index) for index in (0, 1)]
        about = f"after call {call}: {statuses} after {seconds:.0f} s, {errors}"
        if statuses != [train.GONE] * 2 or [len(lines) for lines in errors] != [1, 1]:
            count.lost.append(about)
            continue
        wrong = _go_on(folder, place / f"then{turn}", then)
        wrong = wrong or _differs(folder, [(notes, 2), (place / f"then{turn}", then)])
        on = "both" if then == 2 else "one"
        count.check(
            not wrong, f"status {train.GONE} of both, one sentence; on {on}", f"{about}: {wrong}"
        )
    return count


@contextlib.contextmanager
def _held(folder: Path, notes: Path, rng: random.Random) -> Iterator[tuple[Pair, int]]:
    """Two that train, and the network between them held up in the middle."""
    call = rng.randrange(2, CALLS - 2)
    with Pair(folder, notes, [((call, 0),), ()], proxied=True) as pair:
        pair.hold()
        yield pair, call
