"""Tasks as processes of this machine, one for each device at a time."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import robust_tf
from robust_tf.engines.child import GRACE
from robust_tf.engines.devices import Device, found
from robust_tf.engines.tasks import Ending, Task

_POLL = 0.2  # seconds


class Processes:
    """One process for each device at a time.

    Each sees its device alone, and has its share of the cores. A process that is killed is reported
    and leaves the others alone; when this process ends, by whatever, they end.

    Args:
      devices: see `devices.found`.

    Attributes:
      devices: of this machine.
      workers: number of them.
    """

    def __init__(self, devices: Any = "all"):
        self.devices = found(devices)
        self.workers = len(self.devices)

    def run(
        self,
        tasks: Sequence[Task],
        watch: Callable[[], None] = lambda: None,
        ended: Callable[[Task, Ending], None] = lambda task, ending: None,
    ) -> dict[str, Ending]:
        """See `Engine.run`."""
        waiting, free = list(tasks), list(self.devices)
        running: list[_Process] = []
        endings: dict[str, Ending] = {}
        try:
            while waiting or running:
                while waiting and free:
                    running.append(_Process(waiting.pop(0), free.pop(0)))
                for process in [one for one in running if one.done]:
                    running.remove(process)
                    free.append(process.device)
                    ending = endings[process.task.name] = process.ending()
                    ended(process.task, ending)
                watch()
                time.sleep(_POLL)
        finally:
            _end(running)
        return endings

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *error: object) -> None:
        pass


class _Process:
    """A task that runs."""

    def __init__(self, task: Task, device: Device):
        self.task, self.device = task, device
        self._log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "robust_tf.engines.child", task.module, *task.arguments],
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **device.environment, "PYTHONPATH": _python_path()},
            start_new_session=True,  # Ctrl-C reaches this process, which asks them to end
        )

    @property
    def done(self) -> bool:
        return self.process.poll() is not None

    def ending(self) -> Ending:
        self._log.seek(0)
        text = self._log.read().decode(errors="replace")
        self.close()
        return Ending(self.process.returncode, text)

    def close(self) -> None:
        self._log.close()
        with contextlib.suppress(OSError):
            self.process.stdin.close()  # type: ignore[union-attr]


def _end(running: Sequence[_Process]) -> None:
    """Asks processes to end, which saves what they have, and ends those that do not in time."""
    for one in running:
        with contextlib.suppress(ProcessLookupError):
            one.process.send_signal(signal.SIGINT)
    until = time.monotonic() + GRACE
    for one in running:
        try:
            one.process.wait(max(until - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            one.process.kill()
            one.process.wait()
        one.close()


def _python_path() -> str:
    """PYTHONPATH by which a process finds the same library as this one."""
    folder = str(Path(robust_tf.__file__).resolve().parent.parent)
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    installed = {"site-packages", "dist-packages"} & set(Path(folder).parts)
    own = [] if installed or folder in given else [folder]
    return os.pathsep.join([*own, *filter(None, given)])
