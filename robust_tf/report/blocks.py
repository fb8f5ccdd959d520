"""What a section of the page is made of: texts, tables, charts, facts; the template shows them."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

LONG, LONG_HEAD = 36, 18  # characters, in a cell and in a row header


class Cell(NamedTuple):
    """What a cell shows, by what it is sorted if not by that, and the id that it links to."""

    shown: Any
    value: float | None = None
    link: str = ""


class Row(NamedTuple):
    """Cells, the first of which heads the row; `run` is the number of the run that it is of."""

    cells: Sequence[Any]
    run: int | None = None
    strong: bool = False


@dataclasses.dataclass(frozen=True)
class Block:
    """A part of a section; `kind` names the macro of `blocks.html.j2` that shows it."""

    kind: ClassVar[str] = ""


@dataclasses.dataclass(frozen=True)
class Text(Block):
    """A paragraph; `style` is '', 'hint' or 'missing'."""

    kind: ClassVar[str] = "text"
    text: str
    style: str = ""


@dataclasses.dataclass(frozen=True)
class Items(Block):
    """A list of sentences."""

    kind: ClassVar[str] = "items"
    texts: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Facts(Block):
    """A list of names and values; what is None or '' is left out.

    Attributes:
      pairs: (name, value), or (name, value, True) where the value is code.
    """

    kind: ClassVar[str] = "facts"
    pairs: Sequence[tuple[Any, ...]]

    @property
    def said(self) -> list[tuple[str, str, bool]]:
        """Name, value, and whether it is code, of those that have a value."""
        return [(p[0], str(p[1]), len(p) > 2) for p in self.pairs if p[1] not in (None, "")]


@dataclasses.dataclass(frozen=True)
class Code(Block):
    """Text as it stands; `summary`: of what hides it until it is opened."""

    kind: ClassVar[str] = "code"
    text: str
    label: str
    wrap: bool = True
    summary: str = ""


@dataclasses.dataclass(frozen=True)
class Table(Block):
    """A table that scrolls within itself; columns with a number in every row are set right.

    Attributes:
      caption: says what it is without the text around it.
      columns: headers.
      rows: each with as many cells as there are columns; a cell is text, `Cell` or None.
      name: for its id, unique on the page.
      filters: of columns by which rows can be hidden: 'choice' of their texts, 'most' or 'least'
        of numbers. The page's script makes the controls.
    """

    kind: ClassVar[str] = "table"
    caption: str
    columns: Sequence[str]
    rows: Sequence[Row]
    name: str
    filters: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def cells(self) -> list[list[Cell]]:
        """Of each row."""
        return [[_cell(value) for value in row.cells] for row in self.rows]

    @property
    def numeric(self) -> list[bool]:
        """Of each column, whether its cells are numbers or empty."""
        cells = self.cells
        return [
            any(row[k].value is not None for row in cells)
            and all(row[k].value is not None or row[k].shown in ("", "–") for row in cells)
            for k in range(len(self.columns))
        ]

    @property
    def body(self) -> list[tuple[Row, list[tuple[Cell, str, str | None]]]]:
        """Each row, and of each of its cells its style and by what it is sorted."""
        made, numeric = [], self.numeric
        for row, cells in zip(self.rows, self.cells, strict=True):
            styled = []
            for k, (cell, number) in enumerate(zip(cells, numeric, strict=True)):
                # Short texts stay on one line, so that rows stay low in a narrow window.
                long = len(str(cell.shown)) > (LONG if k else LONG_HEAD)
                style = "number" if number else "long" if long else ""
                styled.append((cell, style, None if cell.value is None else f"{cell.value:.10g}"))
            made.append((row, styled))
        return made


@dataclasses.dataclass(frozen=True)
class Folded(Block):
    """What is hidden until it is opened, by its summary."""

    kind: ClassVar[str] = "folded"
    summary: str
    block: Block


@dataclasses.dataclass(frozen=True)
class Chart(Block):
    """A figure whose chart the page's script draws, see `charts.Charts.add`."""

    kind: ClassVar[str] = "chart"
    name: str
    title: str
    label: str
    height: int
    values: Table | None = None
    run: int | None = None


@dataclasses.dataclass(frozen=True)
class Flag(Block):
    """A sign of a weak evaluation: title, explanation, advice, and where it was found."""

    kind: ClassVar[str] = "flag"
    title: str
    explanation: str
    advice: str
    found: str


@dataclasses.dataclass(frozen=True)
class Pictures(Block):
    """Rows of images.

    Attributes:
      rows: (title, images), each image (data URI, alternative text, what is written below it).
    """

    kind: ClassVar[str] = "pictures"
    caption: str
    rows: Sequence[tuple[str, Sequence[tuple[str, str, str]]]]
    name: str
    run: int | None = None


@dataclasses.dataclass(frozen=True)
class Group(Block):
    """Blocks that belong together, with a heading or side by side.

    Attributes:
      title: heading, or ''.
      run: number of the run that it is of; None: of all.
      style: '' , 'figures' or 'figures narrow' (side by side where there is room).
      element: 'div' or 'article'.
      name: its id, unique on the page, where something links to it.
    """

    kind: ClassVar[str] = "group"
    blocks: Sequence[Block]
    title: str = ""
    run: int | None = None
    style: str = ""
    element: str = "div"
    name: str = ""


class Section(NamedTuple):
    """A section of the page: its id, its heading, and what it is made of."""

    name: str
    title: str
    blocks: Sequence[Block]


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


def radius(balls: Sequence[tuple[str, float | None]]) -> Cell:
    """The radius of a threat model, of several balls, or of one that is not L-inf, with norms."""
    if not balls or (len(balls) == 1 and balls[0][0] == "Linf"):
        return number(balls[0][1] if balls else None)
    said = [f"{norm} {eps:.4g}" for norm, eps in balls if eps is not None]
    return Cell(", ".join(said) or "–", balls[0][1])


def slug(text: str) -> str:
    """`text` as part of an id."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "x"


def as_json(value: Any) -> str:
    """JSON that may stand inside <script>: without '<', and null for what is not finite."""
    text = json.dumps(_finite(value), separators=(",", ":"), ensure_ascii=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _cell(value: Any) -> Cell:
    if isinstance(value, Cell):
        return value
    return Cell("–") if value is None or value == "" else Cell(value)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if hasattr(value, "tolist"):  # NumPy
        return _finite(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
