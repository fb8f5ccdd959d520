"""What an engine is given, and what it gives back."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol

# The variable that tells a process which task it does; the same when it is done again.
TASK = "ROBUST_TF_TASK"


@dataclasses.dataclass(frozen=True)
class Task:
    """A call of `main(arguments)` of a module, which returns an exit status, in its own process.

    Attributes:
      name: what messages call it: 'shard 1/4'.
      module: 'robust_tf.cli.evaluate'.
      arguments: of `main`.
      output: the file that it leaves when it is done, whose content a worker sends that does not
        share this machine's disk; '': none.
      sends: files named in the arguments whose content a worker gets that does not see them.
    """

    name: str
    module: str
    arguments: tuple[str, ...]
    output: str = ""
    sends: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Ending:
    """How a task ended.

    Attributes:
      status: its exit status; minus the number of the signal that killed it.
      text: what it wrote.
    """

    status: int
    text: str = ""

    @property
    def error(self) -> str:
        """The user's error that it wrote, else its last line; '' where there is none."""
        lines = [line.strip() for line in self.text.splitlines() if line.strip()]
        errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        return (errors or lines or [""])[-1]

    @property
    def reason(self) -> str:
        """Why it is not done, a clause."""
        if self.status >= 0:
            return self.error or f"ended with status {self.status}"
        number = -self.status
        known = number in {one.value for one in signal.Signals}
        name = signal.Signals(number).name if known else f"signal {number}"
        memory = ", as the system does when memory runs out" if number == signal.SIGKILL else ""
        return f"its process was killed by {name}{memory}"

    @property
    def remarks(self) -> list[str]:
        """The warnings and notes among what it wrote."""
        return [line for line in self.text.splitlines() if line.startswith(("warning: ", "note: "))]


class Engine(Protocol):
    """Runs tasks at the same time; a context manager.

    Attributes:
      workers: tasks that run at once.
    """

    workers: int

    def run(
        self,
        tasks: Sequence[Task],
        watch: Callable[[], None] = lambda: None,
        ended: Callable[[Task, Ending], None] = lambda task, ending: None,
    ) -> dict[str, Ending]:
        """Runs tasks to their ends; one that fails leaves the others alone.

        Args:
          tasks: whose names differ.
          watch: called several times a second while they run.
          ended: called when a task has ended.

        Returns:
          How each ended, by its name.

        Raises:
          KeyboardInterrupt: all that run have ended, too.
        """

    def __enter__(self) -> Engine: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...
