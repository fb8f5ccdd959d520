"""Tables for reading: a caption, headers with scopes, sorting by every column."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from robust_tf.report.markup import Html, join, tag

LONG, LONG_HEAD = 36, 18  # characters, in a cell and in a row header


class Cell(NamedTuple):
    """What a cell shows, and by what it is sorted if not by that."""

    shown: Any
    value: float | None = None


class Row(NamedTuple):
    """Cells, the first of which heads the row; `run` is the number of the run that it is of."""

    cells: Sequence[Any]
    run: int | None = None
    strong: bool = False


def table(caption: str, columns: Sequence[str], rows: Sequence[Row], name: str) -> Html:
    """A table that scrolls within itself; columns with a number in every row are set right.

    Args:
      caption: says what it is without the text around it.
      columns: headers.
      rows: each with as many cells as there are columns; a cell is text, `Html`, `Cell` or None.
      name: for its id, unique on the page.
    """
    cells = [[_cell(value) for value in row.cells] for row in rows]
    numeric = [
        any(row[k].value is not None for row in cells)
        and all(row[k].value is not None or row[k].shown in ("", "–") for row in cells)
        for k in range(len(columns))
    ]
    head = tag(
        "tr",
        [
            tag("th", title, scope="col", class_="number" if number else None)
            for title, number in zip(columns, numeric, strict=True)
        ],
    )
    body = []
    for row, values in zip(rows, cells, strict=True):
        parts = []
        for k, (cell, number) in enumerate(zip(values, numeric, strict=True)):
            kind = {"scope": "row"} if k == 0 else {}
            value = None if cell.value is None else f"{cell.value:.10g}"
            # Short texts stay on one line, so that rows stay low in a narrow window.
            style = (
                "number"
                if number
                else "long"
                if len(str(cell.shown)) > (LONG if k else LONG_HEAD)
                else None
            )
            parts.append(
                tag("th" if k == 0 else "td", cell.shown, data_value=value, class_=style, **kind)
            )
        body.append(tag("tr", parts, data_run=row.run, class_="strong" if row.strong else None))
    label = f"caption-{name}"
    inner = tag(
        "table",
        tag("caption", tag("span", caption), id=label),
        tag("thead", head),
        tag("tbody", body),
        id=f"table-{name}",
        class_="sortable" if len(rows) > 1 else None,
    )
    return tag("div", inner, class_="scroll", role="region", aria_labelledby=label, tabindex="0")


def facts(pairs: Sequence[tuple[str, Any]]) -> Html:
    """A list of names and values; what is None or '' is left out."""
    said = [(name, value) for name, value in pairs if value not in (None, "")]
    return tag("dl", [join(tag("dt", name), tag("dd", value)) for name, value in said])


def percent(share: float | None, digits: int = 2) -> Cell:
    """A share in [0, 1] as a number of percent, without the sign."""
    if share is None or not math.isfinite(share):
        return Cell("–")
    return Cell(f"{100 * share:.{digits}f}", 100 * share)


def interval(low: float, high: float) -> Cell:
    """A 95 % interval of a share, in percent."""
    return Cell(f"{100 * low:.1f} to {100 * high:.1f}", 100 * low)


def count(number: float | None) -> Cell:
    """A whole number."""
    return Cell("–") if number is None else Cell(f"{number:,.0f}", number)


def number(value: float | None, digits: int = 4) -> Cell:
    """A number with so many significant digits."""
    if value is None or not math.isfinite(value):
        return Cell("–")
    return Cell(f"{value:.{digits}g}", value)


def slug(text: str) -> str:
    """`text` as part of an id."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "x"


def _cell(value: Any) -> Cell:
    if isinstance(value, Cell):
        return value
    if value is None or value == "":
        return Cell("–")
    return Cell(value)
