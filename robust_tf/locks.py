"""One process at a time: a lock file that names who holds it.

The kernel keeps the lock (`flock`), so that it goes with a process however that ends. Where a file
system has no locks, such as a bucket, the file alone tells: a process that is gone holds nothing.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import os
import platform
import uuid
import weakref
from typing import Any

from robust_tf import files

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


class LockedError(OSError):
    """Another process holds a lock; the message is who: 'process 12 on HOST since TIME'.

    Attributes:
      sure: whether it is known to live; not so of a process on another machine that has not locked
        the file itself.
    """

    def __init__(self, holder: str, sure: bool):
        super().__init__(holder)
        self.sure = sure


class Lock:
    """Holds a lock file until `release`, the end of the object, or that of the process.

    Args:
      path: of the file, in a folder that exists.
      unsure: whether to take over what a process on another machine has left, of which it cannot
        be told whether it is gone.
      task: name of what is done, if an engine does it again elsewhere when a process is lost: a
        file of the same task that no process has locked keeps nobody away.

    Raises:
      LockedError: another process holds it.
      OSError: the file cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], unsure: bool = False, task: str | None = None):
        self.path, self._file = os.fspath(path), None
        self._token = uuid.uuid4().hex
        if "://" not in self.path and fcntl is not None:
            self._file = _locked(self.path)
        holder, sure = _holder(self.path)
        again = task is not None and _content(self.path).get("task") == task
        if holder and not again and (sure or not unsure):
            _close(self._file)
            raise LockedError(holder, sure)
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        process = {"pid": os.getpid(), "started": _started(os.getpid()), "host": platform.node()}
        content = {**process, "since": now, "token": self._token, "task": task}
        try:
            if self._file is None:
                files.write_json(self.path, content)
            else:  # in place: the lock is on this very file
                os.ftruncate(self._file, 0)
                os.pwrite(self._file, files.json_text(content).encode(), 0)
        except OSError:
            _close(self._file)
            raise
        self._end = weakref.finalize(self, _release, self.path, self._file, content)

    @property
    def held(self) -> bool:
        """Whether the file is still there and this lock's own."""
        return self._end.alive and _token(self.path) == self._token

    def release(self) -> None:
        """Removes the file."""
        self._end()

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()


def holder_of(path: str | os.PathLike[str]) -> str:
    """Who holds a lock: 'process 12 on HOST since TIME'; '' where nobody else does."""
    return _holder(os.fspath(path))[0]


def _locked(path: str) -> int | None:
    """Descriptor of the file, locked; None where the file system has no locks."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Its holder may have removed it in between: then this is not what others would open.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.stat(path), os.fstat(file)):
                    return file
        except BlockingIOError:
            os.close(file)
            if _content(path).get("pid") == os.getpid():
                return None  # by another object of this process
            raise LockedError(_holder(path)[0] or "another process", True) from None
        except OSError as error:
            os.close(file)
            if error.errno in _NO_LOCKS:
                return None
            raise
        os.close(file)


def _holder(path: str) -> tuple[str, bool]:
    """Who the file names, '' for nobody but this process, and whether that is known to live."""
    content = _content(path)
    try:
        pid, host = int(content["pid"]), str(content["host"])
    except (KeyError, TypeError, ValueError):
        return "", False
    since = f" since {content['since']}" if content.get("since") else ""
    name = f"process {pid} on {host}{since}"
    if host != platform.node():
        return name, False
    if pid == os.getpid() or pid < 1:
        return "", False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return "", False
    except PermissionError:
        pass
    # A number is given again: the process of then began when the file says, if it does.
    then, now = content.get("started"), _started(pid)
    gone = then is not None and now is not None and then != now
    return ("", False) if gone else (name, True)


def _content(path: str) -> dict[str, Any]:
    """{} of a file that is missing or damaged: nobody can hold that by its content."""
    try:
        content = files.read_json(path) if files.exists(path) else {}
    except files.FileError:
        return {}
    return content if isinstance(content, dict) else {}


def _token(path: str) -> Any:
    return _content(path).get("token")


def _started(pid: int) -> str | None:
    """When a process began, in ticks since the machine did; None where the system does not tell."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def _release(path: str, file: int | None, content: dict[str, Any]) -> None:
    """Removes the file if it is still that of this process."""
    if content["pid"] == os.getpid():  # a copy of the process leaves it
        if _token(path) == content["token"]:
            files.remove(path)
        _close(file)


def _close(file: int | None) -> None:
    if file is not None:
        os.close(file)
