"""The section on distances: how far the nearest adversarial images are, by minimum-norm attacks."""

from __future__ import annotations

from collections.abc import Sequence

from robust_tf.evaluation import distances
from robust_tf.report.blocks import Block, Cell, Row, Table, Text, count, number, percent
from robust_tf.runs import Run

TEXT = (
    "The distance of an image is that of the nearest adversarial image that the attack found, in "
    "its norm and in units of pixels in [0, 1]: 0 where the image itself is misclassified, and no "
    "number where none was found. At an eps equal to the median half of all images are classified "
    "correctly. Distances are upper bounds: another attack may find nearer images. The accuracy at "
    "every eps that follows from them is drawn under Accuracy against eps."
)


def table(runs: Sequence[Run]) -> list[Block] | None:
    """Median, quartiles and the share of images that have a distance; None where no run has any."""
    rows = []
    for k, run in enumerate(runs):
        for one in run.results:
            for attacked in one.attacks:
                if attacked.distance is None:
                    continue
                found = distances.summary(attacked.distance)
                size = len(attacked.distance)
                cells: list[str | Cell] = [run.name, attacked.name, attacked.norm]
                cells += [_distance(v) for v in (found.median, found.low, found.high)]
                cells += [percent(found.found), count(size)]
                cells.append(Cell(f"{attacked.seconds:,.1f}", attacked.seconds))
                for passes in (attacked.forwards, attacked.gradients):
                    cells.append(count(passes / size) if passes else Cell("–"))
                rows.append(Row([*cells, one.title], k))
    if not rows:
        return None
    columns = "Run|Attack|Norm|Median|Lower quartile|Upper quartile|Found, %|Images|Seconds"
    columns += "|Forwards|Gradients|File"
    caption = "Distance of the nearest adversarial image, by each attack that looks for it"
    return [Table(caption, columns.split("|"), rows, "distances"), Text(TEXT, "hint")]


def _distance(value: float) -> Cell:
    """A distance; a dash where there is none."""
    return number(value) if value < float("inf") else Cell("–")
