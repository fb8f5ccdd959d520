"""Charts as plain data for plotly; the page's script draws them in the reader's colors."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import numpy as np

from robust_tf.figures.style import DASHED, DOTTED, Look, looks
from robust_tf.report.blocks import Chart, Table
from robust_tf.runs import Run

_MARKERS = {
    "o": "circle", "s": "square", "^": "triangle-up", "v": "triangle-down", "D": "diamond",
    "P": "cross", "X": "x", "<": "triangle-left", ">": "triangle-right", "p": "pentagon",
    "h": "hexagon", "*": "star", "d": "diamond-tall", ".": "hourglass",
}  # fmt: skip


# Of the second bar of one color, the third, and so on.
_PATTERNS = ("", "/", ".", "x", "-", "+")


class Charts:
    """The charts of a page, in order.

    Args:
      runs: each gets the look of its method.
    """

    def __init__(self, runs: Sequence[Run]):
        names = [f"{run.label} ({k})" for k, run in enumerate(runs)]
        self.specs: list[dict[str, Any]] = []
        self._looks = list(looks(names).values())
        colors = [look.color for look in self._looks]
        self._twins = [colors[:k].count(color) for k, color in enumerate(colors)]

    def look(self, run: int) -> Look:
        """Colour, marker and dashes of a run."""
        return self._looks[run]

    def fill(self, run: int) -> dict[str, Any]:
        """The `marker` of a run's bars: its color, and a pattern from the second of it on."""
        shape = _PATTERNS[min(self._twins[run], len(_PATTERNS) - 1)]
        pattern = {"shape": shape, "fillmode": "overlay", "fgcolor": "white", "size": 7}
        return {"color": self.look(run).color, "pattern": pattern}

    def line(self, run: int, name: str, x: Any, y: Any, hover: str, **more: Any) -> dict[str, Any]:
        """A trace of a run, with its look; the hover text is a plotly template."""
        look = self.look(run)
        dash = {DASHED: "dash", DOTTED: "dot"}.get(look.dash, "solid")
        trace = {
            "type": "scatter",
            "mode": "lines+markers",
            "name": plain(name),
            "x": np.asarray(x),
            "y": np.asarray(y),
            "line": {"color": look.color, "dash": dash, "width": 2},
            "marker": {"symbol": _MARKERS.get(look.marker, "circle"), "size": 7},
            "hovertemplate": f"{hover}<extra>{plain(name)}</extra>",
            "meta": {"run": run},
        }
        return {**trace, **more}

    def add(
        self,
        name: str,
        title: str,
        label: str,
        traces: Sequence[dict[str, Any]],
        axes: tuple[str, str],
        layout: dict[str, Any] | None = None,
        values: Table | None = None,
        run: int | None = None,
        height: int = 340,
    ) -> Chart:
        """A figure with its chart.

        Args:
          name: for ids, unique on the page.
          title: below the chart.
          label: what a reader who does not see it should know.
          traces: of plotly.
          axes: titles of x and y.
          layout: of plotly, beside the axes' titles.
          values: a table of the same numbers, to be opened.
          run: number of the run that it is of; None: of all.
          height: in pixels.
        """
        layout = {"height": height, **(layout or {})}
        for key, text in zip(("xaxis", "yaxis"), axes, strict=True):
            layout[key] = {"title": {"text": plain(text)}, **layout.get(key, {})}
        self.specs.append({"id": f"chart-{name}", "data": list(traces), "layout": layout})
        return Chart(name, title, label, height, values, run)


def plain(text: str) -> str:
    """`text` for plotly, which takes tags for formatting, to be shown as it is."""
    return html.escape(text, quote=False)
