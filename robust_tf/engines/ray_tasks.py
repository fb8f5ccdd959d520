"""Tasks on a Ray cluster, which schedules them and does those of lost workers again.

A worker imports this file before it knows its share of the cores, so TensorFlow is imported later.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import io
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from robust_tf import stopping
from robust_tf.engines.child import GRACE
from robust_tf.engines.devices import THREADS, available_cores, checked
from robust_tf.engines.tasks import TASK, Ending, Task

# A worker that was lost (its process killed, its machine gone) is replaced so often for each task.
RETRIES = 5
STARTS = 3  # tries to start a cluster
_PASSED = ("TFDS_DATA_DIR", "ROBUST_TF_PROG", "TF_CPP_MIN_LOG_LEVEL")
_POLL = 0.2  # seconds


class RayTasks:
    """Tasks of Ray, on the cluster at an address, or on one that is started on this machine.

    The library, and what the tasks read by paths, must be there on all machines; of files that a
    task names to be sent (models in `.keras` files) the content goes through the object store where
    the path is not there. What tasks keep on the way serves the task of a lost worker if it lies in
    a folder that the machines share.

    Args:
      devices: how many tasks at once; 'all': one for each GPU of the cluster, or where it has none,
        for each core.
      address: see `engines.engine`.

    Attributes:
      workers: tasks at once.

    Raises:
      ImportError: Ray is not installed.
      OSError: no cluster at that address, or it cannot be started.
      ValueError: another number of devices.
    """

    def __init__(self, devices: Any = "all", address: str | None = None):
        try:
            import ray
        except ImportError as error:
            raise ImportError("engine='ray' needs Ray: pip install 'robust_tf[ray]'.") from error
        count = checked(devices)
        self._ray, self._own = ray, not ray.is_initialized()
        self._restore = stopping.restored()
        if self._own:
            # Ray handles SIGTERM itself, by an exit without what a command saves and says. It may
            # where nobody else does, as it ends the cluster; to the end of the cluster.
            free = stopping.usual(signal.SIGTERM)
            try:
                _start(ray, address, count)
            except BaseException:
                self._restore()
                raise
            if not free:
                self._restore()
        resources = ray.cluster_resources()
        gpus, cores = int(resources.get("GPU", 0)), int(resources.get("CPU", 0))
        self.workers = count or gpus or max(cores, 1)
        # No more cores than the smallest machine has: else a task might fit on none.
        each = [
            int(node.get("Resources", {}).get("CPU", 0)) for node in ray.nodes() if node["Alive"]
        ]
        share = min([cores // self.workers, *filter(None, each)])
        self._resources = {"num_gpus": 1 if gpus else 0, "num_cpus": max(share, 1)}

    def run(
        self,
        tasks: Sequence[Task],
        watch: Callable[[], None] = lambda: None,
        ended: Callable[[Task, Ending], None] = lambda task, ending: None,
    ) -> dict[str, Ending]:
        """See `Engine.run`."""
        ray = self._ray
        named = dict.fromkeys(path for task in tasks for path in task.sends)
        stored = {path: ray.put(_content(path)) for path in named}
        passed = {name: os.environ[name] for name in _PASSED if name in os.environ}
        # A process serves one task: TensorFlow neither gives memory back nor changes its threads.
        call = ray.remote(max_calls=1, max_retries=RETRIES)(_call)
        running: dict[Any, Task] = {}
        for task in tasks:
            sent = {path: stored[path] for path in task.sends}
            options = {**self._resources, "name": task.name}
            reference = call.options(**options).remote(
                task, list(sent), list(sent.values()), passed, os.getcwd(), options["num_cpus"]
            )
            running[reference] = task
        endings: dict[str, Ending] = {}
        try:
            while running:
                done, _ = ray.wait(list(running), timeout=_POLL)
                for reference in done:
                    task = running.pop(reference)
                    ending = endings[task.name] = self._ending(task, reference)
                    ended(task, ending)
                watch()
        finally:
            self._cancel(running)
        return endings

    def _ending(self, task: Task, reference: Any) -> Ending:
        """How a task ended; a file that it left elsewhere is written here."""
        from robust_tf import files

        try:
            status, text, content = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            return Ending(1, str(error))
        except self._ray.exceptions.RayError as error:  # the worker, as often as it is replaced
            return Ending(-9, str(error))
        if content is not None and not files.exists(task.output):
            with files.atomic(task.output) as temporary:
                with open(temporary, "wb") as file:
                    file.write(content)
        return Ending(status, text)

    def _cancel(self, running: Mapping[Any, Task]) -> None:
        """Asks tasks to end, which saves what they have, and ends those that do not in time."""
        for reference in running:
            self._ray.cancel(reference, force=False)
        until = time.monotonic() + GRACE
        for reference in running:
            left = max(until - time.monotonic(), 0.1)
            if not self._ray.wait([reference], timeout=left)[0]:
                self._ray.cancel(reference, force=True)

    def __enter__(self) -> RayTasks:
        return self

    def __exit__(self, *error: object) -> None:
        if self._own:
            self._ray.shutdown()
            self._restore()


def _start(ray: Any, address: str | None, count: int | None) -> None:
    """Connects to the cluster, or starts one on this machine.

    Raises:
      OSError: there is none at the address; it cannot be started.
    """
    from robust_tf import files

    address = address or os.environ.get("RAY_ADDRESS")
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address and address != "local":
        try:
            ray.init(address=address, **quiet)
        except (ConnectionError, RuntimeError, TimeoutError) as error:
            raise OSError(
                f"there is no Ray cluster at {address} ({files.reason(error)}); start one with "
                "`ray start --head`, or leave the address out to have one on this machine."
            ) from error
        return
    # Nobody is asked on this machine, so nothing is sent; a cluster has settings of its own.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    cores = max(available_cores(), count or 1)
    for left in reversed(range(STARTS)):
        try:
            ray.init(address="local", num_cpus=cores, include_dashboard=False, **quiet)
            return
        except Exception as error:  # Ray has no class of its own for it
            ray.shutdown()
            if not left:
                raise OSError(
                    f"Ray cannot be started on this machine ({files.reason(error)}); it gives up "
                    "when its processes take more than 15 seconds to start, as on a machine with "
                    "much else to do. Try again later, or without --engine=ray."
                ) from error


def _content(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _call(
    task: Task,
    paths: Sequence[str],
    contents: Sequence[Any],
    passed: Mapping[str, str],
    folder: str,
    threads: int,
) -> tuple[int, str, bytes | None]:
    """Runs a task in a worker: exit status, what it wrote, and the content of its output."""
    import ray

    for name, value in {**passed, **dict.fromkeys(THREADS, str(max(threads, 1)))}.items():
        os.environ.setdefault(name, value)
    os.environ[TASK] = str(ray.get_runtime_context().get_task_id())
    if os.path.isdir(folder):
        os.chdir(folder)  # where relative paths mean what they mean to who gave them
    if threading.current_thread() is threading.main_thread():
        # Ignored where the driver was started in the background; here it is how to ask for the end.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    arguments = list(task.arguments)
    for path, content in zip(paths, contents, strict=True):
        if not os.path.exists(path):
            arguments = [_with(word, path, copied(path, ray.get(content))) for word in arguments]
    text = io.StringIO()
    called = importlib.import_module(task.module)
    sys.argv = [str(called.__file__), *arguments]
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        status = called.main(arguments)
    there = status == 0 and task.output and os.path.exists(task.output)
    return status, text.getvalue(), _content(task.output) if there else None


def _with(word: str, path: str, own: str) -> str:
    """A word of a command, `PATH` or `--option=PATH,PATH`, with another path."""
    option, equals, value = word.partition("=")
    if equals and option.startswith("--"):
        values = (own if one.strip() == path else one for one in value.split(","))
        return f"{option}={','.join(values)}"
    return own if word == path else word


def copied(path: str, content: bytes) -> str:
    """A file of this content on this machine.

    It has one place for each content, so that a task that is done again finds the same path.
    """
    from robust_tf import files

    digest = hashlib.sha256(content).hexdigest()[:16]
    own = os.path.join(tempfile.gettempdir(), f"robust_tf-{digest}", os.path.basename(path))
    if not os.path.exists(own):
        with files.atomic(own) as temporary, open(temporary, "wb") as file:
            file.write(content)
    return own
