"""Waits until all workers of a cluster are there, before TensorFlow does, which says nothing."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from robust_tf import files, stopping
from robust_tf.training.cluster import Cluster

WAIT_MINUTES = 30.0
EVERY = 10.0  # seconds between two lines
_PAUSE, _TRY = 0.5, 1.0  # seconds between two rounds, and for a host to answer
_CONNECTING = 120.0  # seconds that TensorFlow has to connect workers that are there


class MissingWorkerError(OSError):
    """A worker did not come, or is gone; all are to be started again."""


def to_stderr(text: str) -> None:
    """A line."""
    print(text, file=sys.stderr, flush=True)


def wait(cluster: Cluster, minutes: float, say: Callable[[str], None] = to_stderr) -> None:
    """Returns when the port of every other worker answers; meanwhile this one's does.

    Args:
      cluster: of which this process is a worker.
      minutes: after which to give up, > 0.
      say: is given a line every `EVERY` seconds.

    Raises:
      MissingWorkerError: some did not come.
      ValueError: this worker's port cannot be used.
    """
    missing, count = {address: "" for address in cluster.others}, len(cluster.others) + 1
    if not missing:
        return
    began, lines = time.monotonic(), 1
    with _listening(cluster):
        while True:
            found = {address: _refusal(address) for address in missing}
            missing = {address: why for address, why in found.items() if why}
            if not missing:
                break
            waited = time.monotonic() - began
            who = ", ".join(f"{address} ({why})" for address, why in missing.items())
            if waited >= 60 * minutes:
                raise MissingWorkerError(
                    f"{cluster.address} has waited {minutes:g} minutes for {who}; see there what "
                    "keeps that worker, or give more --wait_minutes, and start all workers again."
                )
            if waited >= lines * EVERY:
                lines += 1
                say(
                    f"{cluster.address} waits for {who}: {waited:.0f} s of {60 * minutes:.0f}, "
                    f"{count - len(missing)} of {count} workers are there."
                )
            time.sleep(min(_PAUSE, 60 * minutes))


@contextlib.contextmanager
def connecting(cluster: Cluster, say: Callable[[str], None] = to_stderr) -> Iterator[None]:
    """While TensorFlow connects workers that are there; ends the process if that takes too long.

    TensorFlow holds Python's lock meanwhile, so that no thread and no handler of Python's runs.
    When time is up a thread without Python ends the process, with status 1; SIGINT has the system
    end it. SIGTERM goes to a handler that TensorFlow installs, and is without effect until the end,
    when ours is back.
    """
    if not cluster.others:
        yield
        return
    say(
        f"{cluster.address}: all {len(cluster.others) + 1} workers are there; they are connected, "
        f"or this ends with status 1 after {_CONNECTING:.0f} s."
    )
    with open(os.devnull, "w") as nothing, stopping.at_once():
        faulthandler.dump_traceback_later(_CONNECTING, exit=True, file=nothing)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()


@contextlib.contextmanager
def noted(
    who: str, others: Sequence[str], say: Callable[[str], None] = to_stderr
) -> Iterator[None]:
    """Says that a worker waits for the others, in the middle of a run: ever more seldom.

    Args:
      who: address of this one.
      others: of the others, which have not come as far, or of which some have not.
      say: is given the lines.
    """
    over = threading.Event()

    def words() -> None:
        began, pause = time.monotonic(), EVERY
        while not over.wait(pause):
            pause = time.monotonic() - began
            say(f"{who} waits for {', '.join(others)} to come as far: {pause:.0f} s.")

    thread = threading.Thread(target=words, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextlib.contextmanager
def _listening(cluster: Cluster) -> Iterator[None]:
    """Lets others see that this worker is there."""
    port = int(cluster.address.rpartition(":")[2])
    dual = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual else socket.AF_INET
    try:
        server = socket.create_server(("", port), family=family, backlog=1024, dualstack_ipv6=dual)
    except (OSError, OverflowError) as error:
        raise ValueError(
            f"port {port}, which {cluster.source} gives this worker ({cluster.address}), cannot be "
            f"used: {files.reason(error)}; end what uses it, or take another."
        ) from error
    with server:
        yield


def _refusal(address: str) -> str:
    """Why a port does not answer; '' where it does."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _TRY).close()
    except (OSError, OverflowError) as error:
        return (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()
    return ""
