"""The section on features: clean and adversarial images on one map, entropy, and numbers."""

from __future__ import annotations

from collections.abc import Sequence

from robust_tf.data.labels import shortened
from robust_tf.figures.latent import class_middles
from robust_tf.figures.style import CLASSES
from robust_tf.report.blocks import Block, Group, Row, Table, Text, count, number
from robust_tf.report.charts import Charts, plain
from robust_tf.report.model_analysis import STEPS, ModelAnalysis
from robust_tf.runs import Run

NAMED = 20  # classes that are named on a map


def features(
    runs: Sequence[Run], analyses: Sequence[ModelAnalysis], charts: Charts
) -> list[Block] | None:
    """A map for each run, and what it shows as numbers; None where no run has features."""
    parts, rows = [], []
    for k, (run, analysis) in enumerate(zip(runs, analyses, strict=True)):
        if analysis.latent is None or analysis.numbers is None:
            continue
        own = analysis.numbers
        values = [
            own.class_silhouette,
            own.fooling_silhouette,
            own.density_auroc,
            own.entropy_auroc,
            own.entropy_auroc_all,
            own.clean_entropy,
            own.fooling_entropy,
        ]
        cells = [count(own.fooling), *[number(value, 3) for value in values]]
        rows.append(Row([run.name, *cells, count(own.examples)], k))
        if analysis.places is not None:
            parts.append(_map(k, run, analysis, charts))
    if not rows:
        return None
    columns = [
        "Run",
        "Fooling",
        "Silhouette of classes",
        "Silhouette of fooling",
        "AUROC of distance",
        "AUROC of entropy",
        "AUROC of entropy, all adversarial",
        "Entropy, clean",
        "Entropy, fooling",
        "Images",
    ]
    text = (
        "Fooling: adversarial images that are misclassified while their clean image is not. "
        "AUROC: how well fooling images are told from clean ones by the distance to the tenth "
        "nearest clean feature, or by the entropy of the prediction; 0.5 is chance. Entropies are "
        "means in nats. A map by t-SNE keeps neighbours together; distances between groups and "
        "sizes of groups mean nothing."
    )
    return [
        Group(parts, style="figures narrow"),
        Table("Features of clean and of adversarial images", columns, rows, "features"),
        Text(text, "hint"),
    ]


def _map(k: int, run: Run, analysis: ModelAnalysis, charts: Charts) -> Block:
    latent, places = analysis.latent, analysis.places
    assert latent is not None and places is not None
    groups = (
        ("clean", ~latent.adversarial, "circle", 5),
        ("adversarial, other", latent.adversarial & ~latent.fooling, "cross-thin-open", 6),
        ("adversarial, fooling", latent.fooling, "diamond-open", 9),
    )
    traces = []
    for name, chosen, symbol, size in groups:
        if not chosen.any():
            continue
        colors = [CLASSES[c % len(CLASSES)] for c in latent.labels[chosen]]
        of_points = (latent.labels, latent.predictions, latent.entropy.round(3))
        about = [
            [*(plain(analysis.class_name(number)) for number in pair), entropy]
            for *pair, entropy in zip(*(values[chosen] for values in of_points), strict=True)
        ]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": name,
                "x": places[chosen, 0].round(2),
                "y": places[chosen, 1].round(2),
                "customdata": about,
                "marker": {"color": colors, "symbol": symbol, "size": size},
                "hovertemplate": "class %{customdata[0]}, predicted %{customdata[1]}, entropy "
                f"%{{customdata[2]:.3f}} nats<extra>{name}</extra>",
            }
        )
    fooling, middles = int(latent.fooling.sum()), class_middles(latent, places)
    is_named = len(middles) <= NAMED
    told = "Colors and names are" if is_named else "Colors (ten, used again) are"
    title = (
        f"{run.name}: t-SNE of the features z of {analysis.examples} clean test images and of "
        f"their adversarial images (PGD-{STEPS}, eps {analysis.eps:.4g}), {fooling} of which fool "
        f"the model. {told} the true classes. Others leave the prediction right, or "
        "are of images that are misclassified anyway."
    )
    numbers = [
        {
            "x": float(x),
            "y": float(y),
            "text": f"<b>{plain(shortened(analysis.class_name(label)))}</b>",
            "showarrow": False,
            "font": {"color": "black"},
            "bgcolor": "rgba(255,255,255,0.8)",
        }
        for label, (x, y) in middles.items()
        if is_named
    ]
    axis = {"showticklabels": False, "zeroline": False}
    return charts.add(
        f"features-{k}",
        title,
        f"Scatter plot. {title} The table below has what it shows as numbers.",
        traces,
        ("", ""),
        {"xaxis": axis, "yaxis": axis, "annotations": numbers},
        None,
        k,
        420,
    )
