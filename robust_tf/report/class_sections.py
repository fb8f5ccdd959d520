"""The sections that tell classes apart: accuracy by class, and which is taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from robust_tf.data.labels import shortened
from robust_tf.figures.bars import bar_of
from robust_tf.report.blocks import (
    Block,
    Cell,
    Folded,
    Group,
    Row,
    Table,
    Text,
    count,
    interval,
    percent,
)
from robust_tf.report.charts import Charts, plain
from robust_tf.report.model_analysis import STEPS, ModelAnalysis
from robust_tf.runs import Run
from robust_tf.runs.worst_case import headline

FEW = 12  # classes whose errors are counted in one table
MANY = 20  # classes, or kinds of errors, that are shown at once
DRAWN = 100  # classes whose errors are drawn
AGREE = 0.98  # with the evaluation's natural verdicts, or the images are others


def classes(runs: Sequence[Run], analyses: Sequence[ModelAnalysis]) -> list[Block] | None:
    """Accuracy by class: of the evaluation to quote, and under the report's own attack."""
    rows: list[Row] = []
    rest: list[Row] = []
    for k, (run, analysis) in enumerate(zip(runs, analyses, strict=True)):
        natural, robust, labels, source = _verdicts(run, analysis)
        if natural is None or robust is None:
            continue
        wrong = None
        if analysis.grid is not None:
            wrong = analysis.grid.predictions != analysis.grid.labels
        of_run = []
        for c in np.unique(labels).tolist():
            own = labels == c
            bar = bar_of(robust[own])
            taken = Cell("–")
            if analysis.grid is not None and wrong is not None:
                others = analysis.grid.predictions[wrong & (analysis.grid.labels == c)]
                if len(others):
                    most = int(np.bincount(others).argmax())
                    name = analysis.class_name(most)
                    taken = Cell(f"{name} ({(others == most).sum()} of {len(others)})")
            cells = [percent(float(natural[own].mean())), percent(bar.accuracy)]
            cells += [interval(bar.low, bar.high), count(int(own.sum())), taken]
            row = Row([run.name, _cell_of(analysis, c), *cells, source], k)
            of_run.append((bar.accuracy, row))
        if len(of_run) > MANY:  # the worst first
            of_run.sort(key=lambda pair: pair[0])
        rows += [row for _, row in of_run[:MANY]]
        rest += [row for _, row in of_run[MANY:]]
    if not rows:
        return None
    text = (
        "Taken for: the wrong class that the adversarial images of this class end in most often, "
        f"under PGD-{STEPS} at the run's eps, run for this report."
    )
    columns = "Run|Class|Natural, %|Robust, %|95 % interval|Images|Taken for|By".split("|")
    title = f"Accuracy by class, the {MANY} least robust" if rest else "Accuracy by class"
    blocks: list[Block] = [Table(title, columns, rows, "classes")]
    if rest:
        others = Table("Accuracy by class, the others", columns, rest, "classes-others")
        blocks.append(Folded("The other classes", others))
    return [*blocks, Text(text, "hint")]


def _cell_of(analysis: ModelAnalysis, label: int) -> Cell:
    """A class by its name, or its number, by which it then is sorted."""
    return Cell(analysis.class_name(label), None if analysis.class_names else label)


def _verdicts(run: Run, analysis: ModelAnalysis) -> tuple[Any, Any, Any, str]:
    """Natural and robust verdicts, labels, and what they are of."""
    best = headline(run.results, run.balls)
    if best and len(analysis.labels) > best["numbers"].max():
        verdicts, numbers = best["natural"], best["numbers"]
        if analysis.grid is not None:
            own = analysis.grid.clean_predictions == analysis.grid.labels
            seen = numbers < len(own)
            same = seen.any() and np.mean(own[numbers[seen]] == verdicts[seen]) >= AGREE
        else:
            same = analysis.num_classes == best["num_classes"]
        if same:
            labels = analysis.labels[numbers]
            return verdicts, best["robust"], labels, "worst case of the evaluations"
    if analysis.grid is None:
        return None, None, None, ""
    right = analysis.grid.clean_predictions == analysis.grid.labels
    stood = right & (analysis.grid.predictions == analysis.grid.labels)
    return right, stood, analysis.labels[: len(right)], f"PGD-{STEPS} here"


def confusion(
    runs: Sequence[Run], analyses: Sequence[ModelAnalysis], charts: Charts
) -> list[Block] | None:
    """Which classes are taken for which, of clean and of adversarial images: the errors."""
    drawn: list[Block] = []
    tables: list[Block] = []
    for k, (run, analysis) in enumerate(zip(runs, analyses, strict=True)):
        grid = analysis.grid
        if grid is None:
            continue
        for kind, predictions in (
            ("clean", grid.clean_predictions),
            ("adversarial", grid.predictions),
        ):
            errors = Errors(run, analysis, kind, predictions)
            name = f"confusion-{k}" + "-clean" * (kind == "clean")
            if analysis.num_classes <= DRAWN:
                drawn.append(errors.chart(name, charts, k))
            else:
                tables += errors.pairs_table(name, MANY)
    return [*([Group(drawn, style="figures narrow")] if drawn else []), *tables] or None


class Errors:
    """The misclassified images of one run, by true class and class that they are taken for.

    Args:
      run: whose they are.
      analysis: of its model, with a grid.
      kind: 'clean' or 'adversarial'.
      predictions: of those images, int (n,).

    Attributes:
      counts: int (C, C), 0 on the diagonal.
    """

    def __init__(self, run: Run, analysis: ModelAnalysis, kind: str, predictions: np.ndarray):
        assert analysis.grid is not None
        n = analysis.num_classes
        self.counts = np.zeros((n, n), int)
        np.add.at(self.counts, (analysis.grid.labels, predictions), 1)
        self._sizes = self.counts.sum(1)
        np.fill_diagonal(self.counts, 0)
        self._run, self._kind, self._analysis = run.name, kind, analysis
        self._name = analysis.class_name

    def pairs(self, first: int, last: int) -> list[tuple[int, int, int]]:
        """True class, class that it is taken for, and how often; the most frequent first."""
        order = np.argsort(-self.counts, axis=None, kind="stable")[first:last]
        places = np.unravel_index(order, self.counts.shape)
        found = zip(
            *(values.tolist() for values in (*places, self.counts.flat[order])), strict=True
        )
        return [pair for pair in found if pair[2]]

    def chart(self, name: str, charts: Charts, k: int) -> Block:
        """A heat map, and the numbers in it."""
        n, images = len(self.counts), f"{self._kind} images"
        trace = {
            "type": "heatmap",
            "x": list(range(n)),
            "y": list(range(n)),
            "z": self.counts,
            "customdata": np.repeat(self._sizes[:, None], n, 1),
            "hovertemplate": "%{y} taken for %{x}: %{z} of %{customdata}<extra></extra>",
            "colorscale": "Cividis",
            "text": np.where(self.counts > 0, self.counts.astype(str), ""),
            "texttemplate": "%{text}" if n <= FEW else "",
            "showscale": n > FEW,
            "colorbar": {"title": {"text": "images"}, "thickness": 12},
        }
        pairs = [f"{self._name(a)} as {self._name(b)} ({m})" for a, b, m in self.pairs(0, 5)]
        said = ", ".join(pairs) or "none"
        # By their numbers, which ticks name: names may look like numbers, or be alike when short.
        axis = {
            "tickvals": list(range(n)),
            "ticktext": [plain(shortened(self._name(c))) for c in range(n)],
            "showticklabels": n <= 30,
            "automargin": True,
            "showgrid": False,
            "zeroline": False,
        }
        layout = {
            "xaxis": {**axis, "constrain": "domain"},
            "yaxis": {**axis, "autorange": "reversed"},
        }
        how = f" (PGD-{STEPS}, eps {self._analysis.eps:.4g})" * (self._kind == "adversarial")
        return charts.add(
            name,
            f"{self._run}: {self.counts.sum()} of {self._analysis.examples} {images}{how} are "
            f"misclassified; most often {said}.",
            f"Heat map of the errors of {self._run} on {images}, true class against predicted "
            f"class. Most frequent: {said}.",
            [trace],
            ("taken for", "true class"),
            layout,
            self._counts_table(name) if n <= FEW else self._pairs(name, 0, 200),
            k,
            400,
        )

    def _counts_table(self, name: str) -> Table:
        names = [self._name(c) for c in range(len(self.counts))]
        rows = [
            Row([_cell_of(self._analysis, c), *[Cell(str(v), v) for v in own]])
            for c, own in enumerate(self.counts)
        ]
        columns = ["True class", *[f"taken for {one}" for one in names]]
        return Table(f"{self._run}: errors on {self._kind} images", columns, rows, name)

    def _pairs(self, name: str, first: int, last: int) -> Table:
        rows = [
            Row([*(_cell_of(self._analysis, c) for c in (a, b)), count(m), count(self._sizes[a])])
            for a, b, m in self.pairs(first, last)
        ]
        columns = ["True class", "Taken for", "Images", "Of"]
        caption = f"{self._run}: the most frequent errors on {self._kind} images"
        return Table(caption, columns, rows, name)

    def pairs_table(self, name: str, most: int) -> list[Block]:
        """The most frequent errors, the first of them at once."""
        blocks: list[Block] = [self._pairs(name, 0, most)]
        rest = self._pairs(f"{name}-others", most, 10 * most)
        return blocks + [Folded("The next", rest)] * bool(rest.rows)
