"""Two-dimensional data: decision boundaries, moved points, vector fields (ATLD Fig. 1, 4, 6, 7)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from robust_tf.figures import style
from robust_tf.figures.forward import Model, check_points, logits_at, softmax

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Box = tuple[float, float, float, float]
# Of classes of points: dark enough for points and arrows, and regions of them in a light tone.
PAIR = ("#D55E00", "#0072B2", "#009E73", "#CC79A7")


class Plane(NamedTuple):
    """A model over a grid: x (k,), y (k,); probabilities (k, k, C), axis 0 along y."""

    x: np.ndarray
    y: np.ndarray
    probabilities: np.ndarray

    @property
    def classes(self) -> np.ndarray:
        """What is predicted at each point of the grid, int (k, k)."""
        return self.probabilities.argmax(-1)


class Moved(NamedTuple):
    """Points float32 (n, 2) before and after; labels int (n,)."""

    before: np.ndarray
    after: np.ndarray
    labels: np.ndarray


def compute_plane(model: Model, box: Box = (0.0, 1.0, 0.0, 1.0), points: int = 200) -> Plane:
    """Class probabilities over the box (x low, x high, y low, y high) on points x points."""
    x = np.linspace(box[0], box[1], points, dtype=np.float32)
    y = np.linspace(box[2], box[3], points, dtype=np.float32)
    grid = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
    logits = logits_at(model, grid, 4096)
    return Plane(x, y, softmax(logits).reshape(points, points, -1))


def box_of(points: np.ndarray, margin: float = 0.05) -> Box:
    """The box around points (n, 2), with a margin on every side."""
    check_points(points, "box_of")
    (left, low), (right, high) = points.min(0) - margin, points.max(0) + margin
    return float(left), float(right), float(low), float(high)


class Panel(NamedTuple):
    """One picture of a plane, from the back to the front; all but the title may lack.

    plane: colored regions of what is predicted. boundary: of another model, a line. points and
    labels: (n, 2) and (n,). moved: arrows from before to after. naturalness: (grid, values (k, k)
    in [0, 1]) of a discriminator, shades instead of regions.
    """

    title: str
    plane: Plane | None = None
    boundary: Plane | None = None
    points: np.ndarray | None = None
    labels: np.ndarray | None = None
    moved: Moved | None = None
    naturalness: tuple[Plane, np.ndarray] | None = None


@style.drawing
def draw_planes(
    panels: list[list[Panel]],
    row_titles: Sequence[str] = (),
    lines: dict[str, str] | None = None,
    title: str = "",
) -> Figure:
    """Panels in rows, all over one box.

    Args:
      panels: rows of them.
      row_titles: on the left of each row.
      lines: legend entries of black lines, by label: '-' or '--'.
      title: above all.
    """
    style.check_named(panels and panels[0], "panels")
    rows, columns = len(panels), max(len(row) for row in panels)
    width = style.PAGE if columns > 1 else style.COLUMN
    heads = [1 + max(panel.title.count("\n") for panel in row) for row in panels]
    height = 0.9 * width / columns * _aspect(panels) * rows + 0.14 * sum(heads) + 0.1 * rows + 0.3
    height += 0.25 * bool(title)
    figure = style.new_figure(width, height)
    figure.set_layout_engine("compressed")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axes_row, panel_row in zip(grid, panels, strict=True):
        for axes in axes_row[len(panel_row) :]:
            axes.set_visible(False)
        for axes, panel in zip(axes_row, panel_row, strict=False):
            _draw_panel(axes, panel)
    for axes, text in zip(grid[:, 0], row_titles, strict=False):
        axes.set_ylabel(text)
    if lines:
        from matplotlib.lines import Line2D

        dashes = {"-": style.SOLID, "--": style.DASHED}
        handles = [
            Line2D([], [], color="black", lw=1, ls=dashes[dash], label=label)
            for label, dash in lines.items()
        ]
        style.legend_below(figure, handles)
    if title:
        figure.suptitle(title)
    return figure


def _aspect(panels: list[list[Panel]]) -> float:
    """Height by width of what the panels show."""
    for panel in (panel for row in panels for panel in row):
        shown = panel.plane or panel.boundary
        if shown is not None:
            return float((shown.y[-1] - shown.y[0]) / (shown.x[-1] - shown.x[0]))
    return 1.0


def _draw_panel(axes: Any, panel: Panel) -> None:
    if panel.plane is not None:
        plane = panel.plane
        axes.pcolormesh(
            plane.x,
            plane.y,
            plane.classes % len(PAIR),
            cmap=_regions(),
            vmin=-0.5,
            vmax=len(PAIR) - 0.5,
            alpha=0.28,
            rasterized=True,
            lw=0,
        )
        _draw_boundary(axes, plane, "black", style.SOLID)
    if panel.naturalness is not None:
        grid, values = panel.naturalness
        axes.pcolormesh(grid.x, grid.y, values, cmap="Greys_r", vmin=0, vmax=1, rasterized=True)
        _draw_boundary(axes, grid, "black", style.SOLID)
    if panel.boundary is not None:
        _draw_boundary(axes, panel.boundary, "black", style.DASHED)
    if panel.points is not None and panel.labels is not None:
        _draw_points(axes, panel.points, panel.labels)
    if panel.moved is not None:
        before, step = panel.moved.before, panel.moved.after - panel.moved.before
        colors = [PAIR[label % len(PAIR)] for label in panel.moved.labels]
        axes.quiver(
            *before.T,
            *step.T,
            color=colors,
            angles="xy",
            scale_units="xy",
            scale=1,
            width=0.006,
            headwidth=4,
            headlength=4.5,
            headaxislength=4,
        )
    axes.set(title=panel.title, aspect="equal")
    shown = panel.plane or panel.boundary or (panel.naturalness and panel.naturalness[0])
    if shown is not None:
        axes.set(xlim=(shown.x[0], shown.x[-1]), ylim=(shown.y[0], shown.y[-1]))
    axes.locator_params(nbins=5)
    for spine in axes.spines.values():
        spine.set_visible(True)


def _draw_points(axes: Any, points: np.ndarray, labels: np.ndarray) -> None:
    for label in np.unique(labels):
        chosen = labels == label
        axes.scatter(
            *points[chosen].T,
            s=5,
            marker="os^D"[label % 4],
            color=PAIR[label % len(PAIR)],
            lw=0,
            alpha=0.8,
        )


def _draw_boundary(axes: Any, plane: Plane, color: str, dash: Any) -> None:
    """Where the most probable class changes."""
    ordered = np.sort(plane.probabilities, -1)
    classes = plane.classes
    for label in range(plane.probabilities.shape[-1] - 1):
        own = plane.probabilities[..., label]
        rest = np.where(classes == label, ordered[..., -2], ordered[..., -1])
        if (classes == label).any() and not (classes == label).all():
            lines = axes.contour(
                plane.x, plane.y, own - rest, levels=[0], colors=color, linewidths=1.0
            )
            lines.set_linestyle([dash])


def _regions() -> Any:
    from matplotlib.colors import ListedColormap

    return ListedColormap(PAIR)
