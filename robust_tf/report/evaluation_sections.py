"""The sections on evaluations: each attack, the worst case, flags, curves, defences."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from robust_tf.evaluation.adaptive import ALONE, COLUMNS
from robust_tf.figures.bars import bar_of
from robust_tf.figures.curves import curve_of
from robust_tf.report.blocks import (
    Block,
    Cell,
    Flag,
    Group,
    Row,
    Table,
    Text,
    count,
    interval,
    number,
    percent,
    radius,
)
from robust_tf.report.charts import Charts, plain
from robust_tf.report.model_analysis import CURVE_STEPS, ModelAnalysis
from robust_tf.runs import Result, Run
from robust_tf.runs.worst_case import headline, worst_cases

NONE = "No run has an evaluation."


def accuracies(runs: Sequence[Run], charts: Charts) -> list[Block]:
    """Natural accuracy, each attack's and the worst case, of every evaluation."""
    rows, traces = [], []
    for k, run in enumerate(runs):
        bars: dict[str, Any] = {}
        analysis: list[tuple[int, Any]] = []
        for one in run.results:
            size = len(one.evaluation)
            natural = bar_of(one.evaluation.natural)
            if one.plain:
                _keep(bars, "natural", natural)
            if (size, natural) not in analysis:  # the same images again, mostly
                analysis.append((size, natural))
                cells = [run.name, "natural", Cell("–"), *_bar(natural, size), one.title]
                rows.append(Row(cells, k))
            for attacked in one.attacks:
                if attacked.distance is not None:  # no verdict at a radius: `distances.table`
                    continue
                bar = bar_of(attacked.robust)
                eps = "" if attacked.eps is None else f" eps {attacked.eps:.4g}"
                if one.plain and attacked.attack is not None:
                    _keep(bars, f"{attacked.kind}{eps}", bar)
                rows.append(_attack_row(k, run, one, attacked, bar))
        cases = worst_cases(run.results, run.balls)
        for case in cases:
            bar = bar_of(case["robust"])
            name = f"worst case of {', '.join(case['attacks'])}"
            what = [
                run.name,
                name,
                radius(run.balls),
                *_bar(bar, case["examples"]),
                "all evaluations",
            ]
            rows.append(Row(what, k, strong=True))
        best = headline(run.results, run.balls)
        if best:
            bars["worst case"] = bar_of(best["robust"])
        if bars:
            traces.append(_bars(k, run, bars, charts))
    if not rows:
        return [Text(NONE, "missing")]
    columns = "Run|Attack|eps|Accuracy, %|95 % interval|Images|Seconds|Forwards|Gradients|File"
    text = (
        "Seconds are of the whole attack, forwards and gradients per image. The worst case of a "
        "run takes, image by image, every attack inside the balls of the training, over all "
        "evaluations of the plain network that saw these images."
    )
    chart = charts.add(
        "accuracies",
        "Natural accuracy, accuracy under each attack, and the worst case; whiskers are 95 % "
        "intervals.",
        "Bar chart of the accuracies in the table below it.",
        traces,
        ("", "accuracy, %"),
        {"barmode": "group", "yaxis": {"range": [0, 101]}, "xaxis": {"automargin": True}},
        height=420,
    )
    caption = "Accuracy under each attack, of every evaluation"
    return [chart, Table(caption, columns.split("|"), rows, "attacks"), Text(text, "hint")]


def _keep(bars: dict[str, Any], name: str, bar: Any) -> None:
    """Of bars with one name the one of most images."""
    bars[name] = max(bars.get(name, bar), bar, key=lambda one: one.examples)


def _bar(bar: Any, size: int) -> list[Cell]:
    """Cells of accuracy, interval, images, and the empty costs of what has none."""
    return [percent(bar.accuracy), interval(bar.low, bar.high), count(size), *[Cell("–")] * 3]


def _attack_row(k: int, run: Run, one: Result, attacked: Any, bar: Any) -> Row:
    size = len(one.evaluation)
    cells = [run.name, attacked.name, _radius(attacked), *_bar(bar, size)[:3]]
    cells.append(Cell(f"{attacked.seconds:,.1f}", attacked.seconds))
    for passes in (attacked.forwards, attacked.gradients):
        cells.append(count(passes / size) if passes else Cell("–"))
    return Row([*cells, one.title], k)


def _radius(attacked: Any) -> Cell:
    """Of a union of balls all, with their norms."""
    return radius(attacked.balls) if len(attacked.balls) > 1 else number(attacked.eps)


def _bars(k: int, run: Run, bars: dict[str, Any], charts: Charts) -> dict[str, Any]:
    values = list(bars.values())
    x = [re.sub(r" (?=eps|multi)", "<br>", plain(name)) for name in bars]
    trace = charts.line(k, run.name, x, [100 * bar.accuracy for bar in values], "%{x}: %{y:.2f} %")
    for key in ("mode", "line", "marker"):
        trace.pop(key)
    errors = {
        "type": "data",
        "symmetric": False,
        "array": [100 * (bar.high - bar.accuracy) for bar in values],
        "arrayminus": [100 * (bar.accuracy - bar.low) for bar in values],
        "thickness": 1.2,
        "width": 3,
    }
    return {**trace, "type": "bar", "marker": charts.fill(k), "error_y": errors}


def flags(runs: Sequence[Run]) -> list[Block]:
    """Signs of masked gradients and weak evaluations, each with its explanation."""
    parts: list[Block] = []
    for k, run in enumerate(runs):
        items: dict[tuple[str, str], tuple[dict[str, Any], list[str]]] = {}
        unchecked = []
        for one in run.results:
            found = one.evaluation.flags
            if one.evaluation.settings.get("checks") is not True and not found:
                unchecked.append(one.title)
            for flag in found:
                if isinstance(flag, dict) and flag.get("title"):
                    key = (str(flag["title"]), str(flag.get("figures")))
                    items.setdefault(key, (flag, []))[1].append(one.title)
        said: list[Block] = [_flag(flag, where) for flag, where in items.values()]
        if not said and run.results and len(unchecked) < len(run.results):
            said = [Text("Looked for, and none was found.")]
        if unchecked:
            said.append(Text(f"Not looked for in: {', '.join(unchecked)}.", "hint"))
        if not run.results:
            said = [Text("There is no evaluation.", "missing")]
        parts.append(Group(said, run.name, k))
    return parts


def _flag(flag: dict[str, Any], where: Sequence[str]) -> Flag:
    figures = flag.get("figures")
    figures = figures if isinstance(figures, dict) else {}
    measured = "; ".join(
        f"{name.replace('_', ' ')}: {', '.join(map(str, v)) if isinstance(v, list) else v}"
        for name, v in figures.items()
    )
    found = f"{measured}. " if measured else ""
    return Flag(
        str(flag["title"]),
        str(flag.get("explanation", "")),
        str(flag.get("advice", "")),
        f"{found}In {', '.join(where)}.",
    )


def curves(runs: Sequence[Run], analyses: Sequence[ModelAnalysis], charts: Charts) -> list[Block]:
    """Accuracy against eps: of evaluations with several eps, and of a quick PGD."""
    traces, rows = [], []

    def add(k: int, title: str, points: Any, size: int, quick: bool) -> None:
        percents = [100 * v for v in points.accuracy]
        errors = {
            "type": "data",
            "symmetric": False,
            "array": [100 * v for v in points.high - points.accuracy],
            "arrayminus": [100 * v for v in points.accuracy - points.low],
            "thickness": 1,
            "width": 3,
        }
        hover = f"eps %{{x:.4g}}: %{{y:.2f}} % of {size:,}"
        line = charts.line(k, title, points.x, percents, hover, error_y=errors)
        if quick:
            marker = {**line["marker"], "symbol": f"{line['marker']['symbol']}-open"}
            line |= {"line": {**line["line"], "width": 1.5}, "marker": marker, "opacity": 0.6}
        traces.append(line)
        for x, y, low, high in zip(*points, strict=True):
            rows.append(Row([title, number(x), percent(y), interval(low, high), count(size)], k))

    for k, run in enumerate(runs):
        for one in run.results:
            for norm, points in one.evaluation.curves().items() if not one.inference else ():
                if len(points) > 2:
                    size = len(one.evaluation)
                    right = [round(share * size) for _, share in points]
                    curve = curve_of([eps for eps, _ in points], right, size)
                    kind = "" if norm == "Linf" else f", {norm}"
                    add(k, f"{run.name}, {one.title}{kind}", curve, size, False)
        if analyses[k].curve is not None:
            title = f"{run.name}, PGD-{CURVE_STEPS} here"
            add(k, title, analyses[k].curve, analyses[k].examples, True)
    if not traces:
        text = (
            "No evaluation has several eps, and no model could be attacked here. bin/evaluate "
            '--attacks="FMN()" or "PGD(eps=[0.1, 0.2, 0.3], step_size=0.01, steps=40)" gives a '
            "curve."
        )
        return [Text(text, "missing")]
    chart = charts.add(
        "curves",
        "Accuracy against eps, with 95 % intervals. Filled markers: worst case over an "
        "evaluation's attacks up to that eps, at every eps where one measures distances. Pale "
        f"lines with open markers: PGD with {CURVE_STEPS} steps of eps / 10, run for this report "
        "on few images, a sketch and not a measurement.",
        "Line chart of accuracy against the radius eps of the attack, for each run; accuracy "
        "falls as eps grows. The numbers are in the table that follows.",
        traces,
        ("eps", "accuracy, %"),
        {"yaxis": {"range": [0, 101]}},
        Table(
            "Accuracy against eps",
            ["Curve", "eps", "Accuracy, %", "95 % interval", "Images"],
            rows,
            "curves",
        ),
        height=420,
    )
    return [chart]


def adaptive_summary(runs: Sequence[Run]) -> list[Block] | None:
    """Defences at inference: the columns of `COLUMNS`; None where no run has one."""
    rows = []
    told = {name for run in runs for one in run.results for name in one.columns.get("all", {})}
    names = [name for name in COLUMNS if name != ALONE or ALONE in told]
    for k, run in enumerate(runs):
        for one in run.results:
            if not one.columns or not one.inference:
                continue
            kind = str(one.inference.get("kind", "")).upper()
            natural = one.evaluation.natural_accuracy
            found = {"natural": dict.fromkeys(names, natural), **one.columns}
            for attack, shares in found.items():
                cells = [percent(shares.get(name)) for name in names]
                size = count(len(one.evaluation))
                rows.append(Row([run.name, kind, attack, *cells, size], k, attack == "all"))
    if not rows:
        return None
    text = (
        "Oblivious attacks do not know of the transformation, as in the paper; adaptive ones go "
        "through it. Only the worst case says what the defence is worth."
    )
    if ALONE in names:
        text += (
            " T(x') alone is the paper's count of the oblivious attacks: right after attack and "
            "transformation, whatever becomes of the clean image."
        )
    shown = [f"{name[0].upper()}{name[1:]}, %" for name in names]
    columns = ["Run", "Inference", "Attack", *shown, "Images"]
    caption = "Accuracy behind the manifold transformation"
    return [Table(caption, columns, rows, "columns"), Text(text, "hint")]
