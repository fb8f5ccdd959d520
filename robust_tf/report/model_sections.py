"""The sections that look at a model: classes, confusion, images, loss surface, features."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from robust_tf.figures.bars import bar_of
from robust_tf.figures.style import CLASSES
from robust_tf.report.blocks import (
    Block,
    Cell,
    Group,
    Pictures,
    Row,
    Table,
    Text,
    count,
    interval,
    number,
    percent,
)
from robust_tf.report.charts import Charts
from robust_tf.report.model_analysis import STEPS, SURFACES, ModelAnalysis
from robust_tf.runs import Run
from robust_tf.runs.results import headline

SHOWN = 12  # images of a grid
AGREE = 0.98  # with the evaluation's natural verdicts, or the images are others


def classes(runs: Sequence[Run], analyses: Sequence[ModelAnalysis]) -> list[Block] | None:
    """Accuracy by class: of the evaluation to quote, and under the report's own attack."""
    rows = []
    for k, (run, analysis) in enumerate(zip(runs, analyses, strict=True)):
        natural, robust, labels, source = _verdicts(run, analysis)
        if natural is None or robust is None:
            continue
        wrong = None
        if analysis.grid is not None:
            wrong = analysis.grid.predictions != analysis.grid.labels
        for c in range(analysis.num_classes):
            own = labels == c
            if not own.any():
                continue
            bar = bar_of(robust[own])
            taken = Cell("–")
            if analysis.grid is not None and wrong is not None:
                others = analysis.grid.predictions[wrong & (analysis.grid.labels == c)]
                if len(others):
                    most = np.bincount(others, minlength=analysis.num_classes).argmax()
                    taken = Cell(f"{most} ({(others == most).sum()} of {len(others)})")
            cells = [percent(float(natural[own].mean())), percent(bar.accuracy)]
            cells += [interval(bar.low, bar.high), count(int(own.sum())), taken]
            rows.append(Row([run.name, Cell(str(c), c), *cells, source], k))
    if not rows:
        return None
    text = (
        "Taken for: the wrong class that the adversarial images of this class end in most often, "
        f"under PGD-{STEPS} at the run's eps, run for this report."
    )
    columns = "Run|Class|Natural, %|Robust, %|95 % interval|Images|Taken for|By".split("|")
    return [Table("Accuracy by class", columns, rows, "classes"), Text(text, "hint")]


def _verdicts(run: Run, analysis: ModelAnalysis) -> tuple[Any, Any, Any, str]:
    """Natural and robust verdicts, labels, and what they are of."""
    best = headline(run.results, run.eps)
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
    """What adversarial images are taken for, as a heat map and a table of the most frequent."""
    parts = []
    for k, (run, analysis) in enumerate(zip(runs, analyses, strict=True)):
        if analysis.grid is None:
            continue
        n = analysis.num_classes
        counts = np.zeros((n, n), int)
        np.add.at(counts, (analysis.grid.labels, analysis.grid.predictions), 1)
        errors = counts.copy()
        np.fill_diagonal(errors, 0)
        total = int(errors.sum())
        names = [str(c) for c in range(n)]
        trace = {
            "type": "heatmap",
            "x": names,
            "y": names,
            "z": errors,
            "customdata": np.repeat(counts.sum(1)[:, None], n, 1),
            "hovertemplate": "class %{y} taken for %{x}: %{z} of %{customdata}<extra></extra>",
            "colorscale": "Cividis",
            "text": np.where(errors > 0, errors.astype(str), ""),
            "texttemplate": "%{text}" if n <= 12 else "",
            "showscale": n > 12,
            "colorbar": {"title": {"text": "images"}, "thickness": 12},
        }
        order = np.argsort(-errors, axis=None, kind="stable")[:5]
        pairs = [(*np.unravel_index(i, errors.shape), errors.flat[i]) for i in order]
        said = ", ".join(f"{a} as {b} ({m})" for a, b, m in pairs if m) or "none"
        layout = {
            "xaxis": {"type": "category", "constrain": "domain"},
            "yaxis": {"type": "category", "autorange": "reversed"},
        }
        parts.append(
            charts.add(
                f"confusion-{k}",
                f"{run.name}: {total} of {analysis.examples} adversarial images are misclassified "
                f"(PGD-{STEPS}, eps {analysis.eps:.4g}); most often {said}.",
                f"Heat map of the errors of {run.name} on adversarial images, true class against "
                f"predicted class. Most frequent: {said}.",
                [trace],
                ("taken for", "true class"),
                layout,
                _counts_table(k, run, errors) if n <= 12 else None,
                k,
                400,
            )
        )
    return [Group(parts, style="figures narrow")] if parts else None


def _counts_table(k: int, run: Run, errors: np.ndarray) -> Table:
    n = len(errors)
    rows = [Row([Cell(str(c), c), *[Cell(str(v), v) for v in errors[c]]]) for c in range(n)]
    columns = ["True class", *[f"taken for {c}" for c in range(n)]]
    return Table(f"{run.name}: errors on adversarial images", columns, rows, f"confusion-{k}")


def images(runs: Sequence[Run], analyses: Sequence[ModelAnalysis]) -> list[Block] | None:
    """Clean images, perturbations and adversarial images; those that fool the model first."""
    parts: list[Block] = []
    for k, (run, analysis) in enumerate(zip(runs, analyses, strict=True)):
        grid = analysis.grid
        if grid is None or grid.clean.shape[-1] not in (1, 3):
            continue
        right = grid.clean_predictions == grid.labels
        fooling = np.flatnonzero(right & (grid.predictions != grid.labels))[: SHOWN // 2]
        rest = np.flatnonzero(right & (grid.predictions == grid.labels))
        chosen = np.concatenate([fooling, rest[: SHOWN - len(fooling)]]).astype(int)
        if not len(chosen):
            continue
        moved = grid.adversarial - grid.clean
        rows = []
        for title in ("clean", "perturbation", "adversarial"):
            cells = []
            for i in chosen:
                picture = {
                    "clean": grid.clean[i],
                    "perturbation": 0.5 + 0.5 * moved[i] / analysis.eps,
                    "adversarial": grid.adversarial[i],
                }[title]
                cells.append(_picture(title, grid, i, picture))
            rows.append((title, cells))
        caption = (
            f"{run.name}: {len(fooling)} test images whose adversarial image fools the model, and "
            f"{len(chosen) - len(fooling)} that it withstands. Perturbations: grey is none, black "
            f"and white are eps = {analysis.eps:.4g}. Below each image: the prediction and its "
            "confidence."
        )
        parts.append(Pictures(caption, rows, f"images-{k}", k))
    return parts or None


def _picture(title: str, grid: Any, i: int, pixels: np.ndarray) -> tuple[str, str, str]:
    """A data URI, what it shows in words, and what is written below it."""
    label = int(grid.labels[i])
    said, alt = "", f"perturbation of test image {i}"
    if title != "perturbation":
        after = title == "adversarial"
        predicted = int((grid.predictions if after else grid.clean_predictions)[i])
        sure = float((grid.confidence if after else grid.clean_confidence)[i])
        wrong = " ✗" if predicted != label else ""
        said = f"{predicted}, {100 * sure:.0f} %{wrong}"
        alt = f"{title} test image {i}, class {label}, predicted {predicted}"
    return _png(pixels), alt, said


def _png(pixels: np.ndarray) -> str:
    """An image (H, W, 1 or 3) in [0, 1] as a data URI."""
    rounded = np.rint(255 * np.clip(pixels, 0, 1)).astype(np.uint8)
    png = tf.io.encode_png(rounded).numpy()
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def surfaces(
    runs: Sequence[Run], analyses: Sequence[ModelAnalysis], charts: Charts
) -> list[Block] | None:
    """The loss around the first test image, what is predicted there, and how rough it is."""
    parts, rows = [], []
    # One scale for all runs, so that heights compare.
    top = max((float(s.surfaces.losses[0].max()) for s in analyses if s.surfaces), default=1.0)
    for k, (run, analysis) in enumerate(zip(runs, analyses, strict=True)):
        if analysis.surfaces is None or analysis.roughness is None:
            continue
        found, rough = analysis.surfaces, analysis.roughness
        label, axis = int(found.labels[0]), found.offsets
        where = "gradient %{x:.3g}, random %{y:.3g}: "
        loss = {
            "type": "surface",
            "x": axis,
            "y": axis,
            "z": found.losses[0],
            "hovertemplate": where + "loss %{z:.4g}<extra></extra>",
            "colorscale": "Cividis",
            "colorbar": {"title": {"text": "nats"}, "thickness": 12},
        }
        low, high = float(found.losses[0].min()), float(found.losses[0].max())
        loss |= {"cmin": 0, "cmax": top, "zmin": 0, "zmax": top}
        scene = {
            "camera": {"eye": {"x": -1.6, "y": -1.7, "z": 1.1}},
            "aspectmode": "cube",
            "xaxis": {"title": {"text": "gradient's sign"}},
            "yaxis": {"title": {"text": "random"}},
            "zaxis": {"title": {"text": "loss"}, "range": [0, top]},
        }
        said = f"lowest {low:.3g}, highest {high:.3g} nats"
        parts.append(
            charts.add(
                f"surface-{k}",
                f"{run.name}: loss around test image 0 (class {label}), {said}.",
                f"Surface of the cross-entropy of {run.name} around a test image, along the "
                f"gradient's sign and a random direction, up to eps {analysis.eps:.4g}: {said}.",
                [loss],
                ("gradient's sign", "random direction"),
                {"scene": scene},
                None,
                k,
                380,
            )
        )
        there = sorted(set(found.classes[0].ravel().tolist()))
        words = ", ".join(f"{c}: {(found.classes[0] == c).mean():.0%}" for c in there)
        predicted = {
            "type": "heatmap",
            "x": axis,
            "y": axis,
            "z": found.classes[0],
            "zmin": -0.5,
            "zmax": analysis.num_classes - 0.5,
            "colorscale": _class_scale(analysis.num_classes),
            "hovertemplate": where + "class %{z}<extra></extra>",
            "colorbar": {"title": {"text": "class"}, "thickness": 12, "dtick": 1},
        }
        parts.append(
            charts.add(
                f"predicted-{k}",
                f"{run.name}: what is predicted there. {words}.",
                f"Map of the classes that {run.name} predicts around the same test image. {words}.",
                [predicted],
                ("gradient's sign", "random direction"),
                None,
                None,
                k,
                380,
            )
        )
        values = (rough.bend, rough.height, rough.relative)
        cells = [number(float(v.mean()), 3) for v in values]
        cells += [percent(float(rough.correct.mean()), 1), count(len(found.labels))]
        rows.append(Row([run.name, *cells], k))
    if not parts:
        return None
    columns = ["Run", "Bend, nats", "Height, nats", "Bend / height", "True class, %", "Images"]
    text = (
        "Bend is the mean absolute second difference of the loss between neighbours on a grid of "
        "17 by 17 points, height the difference of highest and lowest, true class the share of the "
        f"plane on which it is predicted; means over the first {SURFACES} test images, or all "
        "where there are fewer. A smaller bend is a smoother surface, but every point is clipped "
        "to [0, 1], and where a pixel reaches its limit even a linear loss bends: on images with "
        "black or white areas a part of the bend is the loss's slope. A flat surface alone is no "
        "proof of robustness: masked gradients look flat too."
    )
    return [
        Group(parts, style="figures"),
        Table("How rough the loss is around test images", columns, rows, "surfaces"),
        Text(text, "hint"),
    ]


def _class_scale(n: int) -> list[list[Any]]:
    """A color scale in n steps."""
    colors = [CLASSES[c % len(CLASSES)] for c in range(n)]
    return [[(c + edge) / n, color] for c, color in enumerate(colors) for edge in (0, 1)]
