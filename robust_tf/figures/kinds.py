"""Kinds of figures that users add to `bin/figures`: a function, registered by one decorator.

    @robust_tf.figures.kind("mean logits of each class")
    def logits(inputs):
        figure = Figure()
        for name, run in inputs.runs.items():
            figure.gca().plot(np.mean(run.model(inputs.images), 0), label=name)
        return figure

draws by `bin/figures logits --import=my_lab --run_dir=... --output=logits.pdf`; a run that records
the module needs no `--import`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from robust_tf.cli.figure_inputs import Inputs

Draw = TypeVar("Draw", bound="Callable[[Inputs], Figure | tuple[Figure, str]]")


@dataclasses.dataclass(frozen=True)
class Kind:
    """A user's kind: what it shows, and the function that draws it."""

    about: str
    draw: Callable[..., Any]


REGISTERED: dict[str, Kind] = {}


def kind(about: str) -> Callable[[Draw], Draw]:
    """Makes a function a kind of `bin/figures`, under its own name.

    The function takes one argument, whose attributes are read when they are asked for: `runs` (by
    name, see `runs.Run`), `images` (float32 in [0, 1]) and `labels` (the first test images of the
    runs' data, `--examples`, 500 by default), `eps`, `attack` (PGD of `--steps`), `seed`, `title`.
    It returns a `matplotlib.figure.Figure`, or that and a text to be printed.

    Args:
      about: what it shows, a line.

    Raises:
      ValueError: another function has the name.
    """

    def register(draw: Draw) -> Draw:
        name = draw.__name__
        before = REGISTERED.get(name)
        if before is not None and before.draw.__module__ != draw.__module__:
            raise ValueError(
                f"the figure {name!r} is registered by {before.draw.__module__} already; rename "
                f"that of {draw.__module__}."
            )
        REGISTERED[name] = Kind(about, draw)
        return draw

    return register
