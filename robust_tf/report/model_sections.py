"""The sections that look at a model: images, and the loss around them."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from robust_tf.data.labels import shortened
from robust_tf.figures.style import CLASSES
from robust_tf.report.blocks import (
    Block,
    Group,
    Pictures,
    Row,
    Table,
    Text,
    count,
    number,
    percent,
)
from robust_tf.report.charts import Charts, plain
from robust_tf.report.model_analysis import SURFACES, ModelAnalysis
from robust_tf.runs import Run

SHOWN = 12  # images of a grid


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
        # In L2 and L1 a pixel moves by less than eps, and in L1 by no more than 1.
        largest = analysis.eps if analysis.norm == "Linf" else max(np.abs(moved).max(), 1e-12)
        rows = []
        for title in ("clean", "perturbation", "adversarial"):
            cells = []
            for i in chosen:
                picture = {
                    "clean": grid.clean[i],
                    "perturbation": 0.5 + 0.5 * moved[i] / largest,
                    "adversarial": grid.adversarial[i],
                }[title]
                cells.append(_picture(title, analysis, i, picture))
            rows.append((title, cells))
        caption = (
            f"{run.name}: {len(fooling)} test images whose adversarial image fools the model, and "
            f"{len(chosen) - len(fooling)} that it withstands. Perturbations: grey is none, black "
            f"and white are {'eps = ' if analysis.norm == 'Linf' else ''}{largest:.4g}. Below each "
            "image: the prediction and its confidence."
        )
        parts.append(Pictures(caption, rows, f"images-{k}", k))
    return parts or None


def _picture(
    title: str, analysis: ModelAnalysis, i: int, pixels: np.ndarray
) -> tuple[str, str, str]:
    """A data URI, what it shows in words, and what is written below it."""
    grid, name = analysis.grid, analysis.class_name
    assert grid is not None
    label = int(grid.labels[i])
    said, alt = "", f"perturbation of test image {i}"
    if title != "perturbation":
        after = title == "adversarial"
        predicted = int((grid.predictions if after else grid.clean_predictions)[i])
        sure = float((grid.confidence if after else grid.clean_confidence)[i])
        wrong = " ✗" if predicted != label else ""
        said = f"{shortened(name(predicted), 20)}, {100 * sure:.0f} %{wrong}"
        alt = f"{title} test image {i}, class {name(label)}, predicted {name(predicted)}"
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
        label, axis, name = int(found.labels[0]), found.offsets, analysis.class_name
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
                f"{run.name}: loss around test image 0 (class {name(label)}), {said}.",
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
        words = ", ".join(f"{name(c)}: {(found.classes[0] == c).mean():.0%}" for c in there)
        predicted = {
            "type": "heatmap",
            "x": axis,
            "y": axis,
            "z": found.classes[0],
            "zmin": -0.5,
            "zmax": analysis.num_classes - 0.5,
            "colorscale": _class_scale(analysis.num_classes),
            "text": [[plain(name(c)) for c in row] for row in found.classes[0].tolist()],
            "hovertemplate": where + "class %{text}<extra></extra>",
            "colorbar": {
                "title": {"text": "class"},
                "thickness": 12,
                "tickvals": there,
                "ticktext": [plain(shortened(name(c))) for c in there],
            },
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
