"""Progress of one attack of an evaluation, on stderr."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from tqdm import tqdm


class Progress:
    """A bar with the robust accuracy so far and the time left, or one line at the end.

    Args:
      name: of the attack.
      examples: number of images evaluated.
      standing: number of them that the attack starts from.
      stages: number of the attack's stages.
      show: True: bar; None: bar if stderr is a terminal, else a line; False: nothing.
    """

    def __init__(self, name: str, examples: int, standing: int, stages: int, show: bool | None):
        self.name, self.examples, self.standing = name, examples, standing
        self.line = show is None and not sys.stderr.isatty()
        self.began = time.perf_counter()
        self.bar = None
        if show or (show is None and not self.line):
            self.bar = tqdm(total=standing * stages, desc=name, unit="image", file=sys.stderr)

    def done(self, images: int, broken: int, stages_left: int) -> None:
        """So many images went through a stage; `broken` of them are spared the stages left."""
        self.standing -= broken
        if self.bar is not None:
            self.bar.total -= broken * stages_left
            self.bar.set_postfix_str(f"robust {self._accuracy()}", refresh=False)
            self.bar.update(images)

    def _accuracy(self) -> str:
        return f"{100 * self.standing / self.examples:.2f} %"

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.bar is not None:
            self.bar.close()
        if self.line and kind is None:
            seconds = time.perf_counter() - self.began
            print(f"{self.name}: robust {self._accuracy()}, {seconds:.0f} s", file=sys.stderr)
