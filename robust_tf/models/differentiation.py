"""Says to a network, while it is called, that a gradient is taken through it.

`tf.custom_gradient` could say so as well, but of a graph TensorFlow keeps each of its functions,
and so the graph, for as long as the process lives.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any

Counts = list[Callable[[], Any]]

_COUNTS: contextvars.ContextVar[Counts | None] = contextvars.ContextVar("counts", default=None)


@contextlib.contextmanager
def differentiated() -> Iterator[Counts]:
    """A network that is called in here is the forward of a gradient.

    Yields:
      A list to which networks add what is to be called, without arguments, for each gradient that
      is then taken through them: it counts the gradient.
    """
    counts: Counts = []
    token = _COUNTS.set(counts)
    try:
        yield counts
    finally:
        _COUNTS.reset(token)


def counts_of_gradients() -> Counts | None:
    """The list of the gradient whose forward runs; None where none is taken."""
    return _COUNTS.get()
