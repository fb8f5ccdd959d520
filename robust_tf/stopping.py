"""SIGINT and SIGTERM: work that can be saved is saved, then the process ends.

A command is `handled`: a signal raises `Stopped` in it. What must not be torn is `deferred`: there
a first signal is only remembered, and whoever works looks at `asked` where it can save and end.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import ClassVar

SIGNALS = (signal.SIGINT, signal.SIGTERM)
PATIENCE = 5.0  # seconds for the main thread to come out of what it is in


class Stopped(KeyboardInterrupt):
    """A signal has ended the work; what was to be saved is saved.

    Args:
      number: of the signal.
      text: what was saved, and how to go on.

    Attributes:
      status: exit status, as a shell gives it to a process that a signal ended: 128 + number.
    """

    def __init__(self, number: int, text: str = ""):
        super().__init__(text or f"ended by {signal.Signals(number).name}")
        self.number, self.status = number, 128 + number


class _State:
    """Signals are the process's."""

    deferred = False
    asked: int | None = None
    seen = threading.Event()  # the main thread has been told of a signal
    saves: ClassVar[list[Callable[[], None]]] = []


def asked() -> int | None:
    """The signal that came since the work was `deferred`, or None."""
    return _State.asked


def _handle(number: int, frame: FrameType | None) -> None:
    _State.seen.set()
    if _State.deferred and _State.asked is None:
        _State.asked = number
    else:
        raise Stopped(number)


@contextlib.contextmanager
def handled() -> Iterator[None]:
    """For a command: a signal raises `Stopped`, a second one ends the process at once.

    So does a first one that the main thread does not come to see, since it waits in TensorFlow for
    another worker, say. A signal that was ignored (as by `nohup`) stays ignored.
    """
    with _installed() as done:
        if not done:
            yield
            return
        reading, writing = socket.socketpair()
        writing.setblocking(False)
        before = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
        watch = threading.Thread(target=_watch, args=(reading,), daemon=True)
        watch.start()
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)
            writing.close()
            watch.join()
            reading.close()


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Has a first signal only remembered; it raises `Stopped` at the end, if nobody did before."""
    with _installed():
        _State.deferred, _State.asked = True, None
        try:
            yield
            if _State.asked is not None:
                raise Stopped(_State.asked)
        finally:
            _State.deferred, _State.asked = False, None


@contextlib.contextmanager
def saving(save: Callable[[], None]) -> Iterator[None]:
    """Has `save` called where a command is ended in the middle of what its main thread waits for.

    Another thread calls it, the innermost of several first. Where the signal raises `Stopped`,
    saving is up to who catches it.
    """
    _State.saves.append(save)
    try:
        yield
    finally:
        _State.saves.remove(save)


@contextlib.contextmanager
def at_once() -> Iterator[None]:
    """Has the system end the process: for what holds Python's lock while it waits.

    At the end the handlers of before are back, also where TensorFlow has put its own in their place
    (it does for SIGTERM when it connects workers).
    """
    with contextlib.ExitStack() as stack:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    before = signal.signal(number, signal.SIG_DFL)
                    stack.callback(signal.signal, number, before)
        yield


def restored() -> Callable[[], None]:
    """A function that puts the handlers of now back, for a library that puts its own there.

    In another thread than the main one it does nothing: there nobody can set a handler.
    """
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def restore() -> None:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                if handler is not None:  # None: it was not set by Python
                    signal.signal(number, handler)

    return restore


def usual(number: int) -> bool:
    """Whether a signal does what it does in any Python: no handler of ours or of a program."""
    return signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler)


@contextlib.contextmanager
def _installed() -> Iterator[bool]:
    """With our handlers; False where they are there already, or a program has its own."""
    own: dict[int, object] = {}
    if threading.current_thread() is threading.main_thread():
        own = {n: signal.getsignal(n) for n in SIGNALS if usual(n)}
    for number in own:
        signal.signal(number, _handle)
    if own:
        _State.seen.clear()
    try:
        yield bool(own)
    finally:
        for number, handler in own.items():
            signal.signal(number, handler)  # type: ignore[arg-type]


def _watch(reading: socket.socket) -> None:
    """Sees signals that the main thread cannot: Python's handlers wait for it, this thread not."""
    first, since = 0, 0.0
    while True:
        waiting = first and not _State.seen.is_set() and not _State.deferred
        left = since + PATIENCE - time.monotonic() if waiting else None
        if left is not None and left <= 0:
            _save()
            _end(first, "ended, in the middle of what it waited for")
        if not select.select([reading], [], [], left)[0]:
            continue
        numbers = reading.recv(64)
        if not numbers:
            return
        for number in numbers:
            if number not in SIGNALS or signal.getsignal(number) is not _handle:
                continue  # a program's own handler deals with it
            if first:
                _end(number, "the second signal: ended at once")
            first, since = number, time.monotonic()
            if _State.deferred:
                _say(number, "saving after the current steps; a second signal ends at once")


def _save() -> None:
    """Saves what is to be saved; a disk that is full keeps nobody from ending."""
    for save in _State.saves[::-1]:
        try:
            save()
        except Exception as error:
            print(f"not saved: {error}", file=sys.stderr, flush=True)


def _say(number: int, what: str) -> None:
    print(f"{signal.Signals(number).name}: {what}.", file=sys.stderr, flush=True)


def _end(number: int, what: str) -> None:
    _say(number, what)
    os._exit(128 + number)
