"""How every figure looks: one color, marker and line for each method, sizes, fonts."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from robust_tf.data.labels import class_name, shortened

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Draw = TypeVar("Draw", bound=Callable[..., Any])

# Widths in inches of one and of both columns of a page.
COLUMN, PAGE = 3.4, 6.9


class Look(NamedTuple):
    """Of a method: color, marker and dashes, so that no two are told apart by color alone."""

    color: str
    marker: str
    dash: Any


SOLID, DASHED, DOTTED = "-", (0, (4, 1.6)), (0, (1, 1.2))
# Okabe & Ito's colors and Tol's muted ones, which stay apart under every color blindness; steps
# of one method are steps of one hue, from light to dark.
METHODS = {
    "Standard": Look("#6E6E6E", "o", DOTTED),
    "ADV": Look("#D55E00", "s", SOLID),
    "ADV-TRADES": Look("#882255", "s", DOTTED),
    "AT": Look("#A04000", "s", DASHED),
    "TRADES": Look("#E69F00", "^", SOLID),
    "ADR LC": Look("#56B4E9", "v", SOLID),
    "ADR LC/GB": Look("#0072B2", "D", SOLID),
    "ADR LC/GB/CA": Look("#00335C", "o", SOLID),
    "ADR-TRADES": Look("#CC79A7", "D", DASHED),
    "ATLD": Look("#009E73", "P", SOLID),
    "Feature Scattering": Look("#999933", "X", SOLID),
    "Bilateral": Look("#661100", "<", SOLID),
    "ST": Look("#5B00C8", "X", DASHED),
    "MART": Look("#44AA99", ">", DASHED),
    "ALP": Look("#DDCC77", "p", DASHED),
    "LAT": Look("#332288", "h", DASHED),
    "TLA": Look("#117733", "*", DASHED),
    "RST": Look("#AA4499", "d", DASHED),
    "FGSM-RS": Look("#88CCEE", "^", DOTTED),
    "N-FGSM": Look("#CC6677", "v", DOTTED),
    "Free": Look("#4477AA", "D", DOTTED),
    "GradAlign": Look("#228833", "P", DOTTED),
    "NuAT": Look("#AA3377", "*", DOTTED),
}
ROLES = {
    "clean": "#8C8C8C",
    "collaborative": "#009E73",
    "adversarial": "#0072B2",
    "fooling": "#D55E00",
    "moved": "#009E73",
}
# For classes: Tol's muted colors and two of his light ones.
CLASSES = "#332288 #88CCEE #44AA99 #117733 #999933 #DDCC77 #CC6677 #882255 #AA4499 #BBBBBB".split()
MOST_NAMES = 12  # classes in a legend
PARAMETERS = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "lines.markersize": 4,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "grid.color": "#D9D9D9",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "figure.dpi": 150,
    "savefig.dpi": 200,
    "savefig.facecolor": "white",
    "svg.fonttype": "path",
    "svg.hashsalt": "robust_tf",
    "pdf.fonttype": 42,
}


def looks(names: Iterable[str]) -> dict[str, Look]:
    """The look of each name: a method's own, else one that none of these names has.

    A name may have an addition in brackets, 'ADV (seed 2)', and then has its method's color; the
    second of the same method has another marker and dashes.
    """
    names = list(names)
    result: dict[str, Look] = {}
    free = [look for name, look in METHODS.items() if name not in {_method(n) for n in names}]
    for name in names:
        own = METHODS.get(_method(name))
        if own is None:
            own = free.pop() if free else Look("#000000", ".", SOLID)
        twins = sum(look.color == own.color for look in result.values())
        if twins:
            own = Look(own.color, "ov^sDPX<>"[twins % 9], (DASHED, DOTTED, SOLID)[(twins - 1) % 3])
        result[name] = own
    return result


def fills(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """How a bar of each name is filled: its color, and white hatches from the second of it on."""
    seen: list[str] = []
    result = {}
    for name, look in looks(names).items():
        twins = seen.count(look.color)
        seen.append(look.color)
        hatch = ("", "////", "....", "xxxx", "----", "oooo")[min(twins, 5)]
        result[name] = {"facecolor": look.color, "edgecolor": "white", "hatch": hatch, "lw": 0}
    return result


def _method(name: str) -> str:
    return name.partition(" (")[0]


def matplotlib() -> Any:
    """The package, imported when first needed.

    Raises:
      ValueError: it is not installed.
    """
    try:
        import matplotlib
    except ModuleNotFoundError as error:
        raise ValueError(
            "figures are drawn by matplotlib, which is not installed: "
            'pip install "robust_tf[figures]", or pip install matplotlib.'
        ) from error
    return matplotlib


def drawing(draw: Draw) -> Draw:
    """Makes a function draw in this style; the caller's settings stay as they are."""

    @functools.wraps(draw)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        with matplotlib().rc_context({**matplotlib().rcParamsDefault, **PARAMETERS}):
            return draw(*args, **kwargs)

    return wrapped  # type: ignore[return-value]


def new_figure(width: float = PAGE, height: float = 2.6) -> Figure:
    """An empty figure, in inches, that no pyplot knows of."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def legend_below(figure: Figure, handles: Sequence[Any], columns: int = 4) -> None:
    """One legend for all panels, under them, where it covers nothing."""
    figure.legend(
        handles=handles, loc="outside lower center", ncols=min(columns, len(handles)) or 1
    )


def method_handles(given: dict[str, Look], markers: bool = True) -> list[Any]:
    """Legend entries of methods, by name."""
    from matplotlib.lines import Line2D

    return [
        Line2D([], [], color=look.color, ls=look.dash, marker=look.marker * markers, label=name)
        for name, look in given.items()
    ]


def log_scale(axes: Any) -> None:
    """A logarithmic y axis; within a decade with plain numbers, not powers of ten."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    if high < 10 * low:
        for set_formatter in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
            set_formatter(lambda value, _: f"{value:g}")


def method_title(axes: Any, name: str, look: Look, **text: Any) -> None:
    """The name of a method above the axes, in black, and before it its marker in its color."""
    from matplotlib.lines import Line2D
    from matplotlib.offsetbox import AnnotationBbox, DrawingArea

    title = axes.set_title(name, weight="bold", **text)
    box = DrawingArea(6, 6)
    box.add_artist(Line2D([3], [3], ls="", marker=look.marker, ms=5, color=look.color))
    # Offset by points from the left end of the text.
    axes.add_artist(
        AnnotationBbox(
            box, (0, 0.5), (-7, 0), xycoords=title, boxcoords="offset points", frameon=False, pad=0
        )
    )


def class_map() -> Any:
    """The colors of the classes, and of those beyond ten again from the first, as a color map."""
    from matplotlib.colors import ListedColormap

    return ListedColormap(CLASSES)


def class_text(label: int, class_names: Sequence[str] | None, most: int = 16) -> str:
    """The name of a class, shortened to so many characters; its number where it has no name."""
    name = shortened(class_name(label, class_names), most)
    return name.replace("$", r"\$")  # else matplotlib reads formulas


def class_handles(labels: Iterable[int], class_names: Sequence[str] | None) -> list[Any]:
    """Legend entries, the number of each class and its name; none without names, or for many."""
    labels = sorted({int(label) for label in labels})
    if not class_names or len(labels) > MOST_NAMES:
        return []
    from matplotlib.lines import Line2D

    return [
        Line2D([], [], ls="", marker=f"${n}$", ms=3.5 * len(str(n)) + 1, color="black", mew=0,
               label=class_text(n, class_names))
        for n in labels
    ]  # fmt: skip


def percent(axes: Any) -> None:
    """Writes the y axis, of fractions, in per cent."""
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.6g} %")


def check_named(given: Any, what: str) -> None:
    """Raises ValueError where there is nothing to draw."""
    if not given:
        raise ValueError(f"there is nothing to draw: give {what} by name, one or more.")
