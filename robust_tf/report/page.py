"""Puts a report together: one HTML file that loads nothing."""

from __future__ import annotations

import importlib.resources
from collections.abc import Callable, Sequence
from typing import Any

from robust_tf import files
from robust_tf.report import (
    evaluation_sections,
    features,
    model_sections,
    overview,
    papers,
    reproduce,
)
from robust_tf.report.charts import Charts
from robust_tf.report.markup import Html, as_json, join, tag
from robust_tf.report.model_analysis import ModelAnalysis
from robust_tf.report.runs import Run
from robust_tf.report.saving import GENERATOR, names_of
from robust_tf.version import __version__

# Nothing is fetched, whatever a name in a run may hold.
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data: blob:"
)
NO_MODEL = "Nothing was computed with a model: see what is missing, or leave out --no_model."
NO_PICTURES = (
    "No run has this. It is made of images and not of points; what could not be computed is named "
    "under what is missing."
)

FAILED = "This section cannot be made: a file of a run holds what this version does not expect."


def build(
    runs: Sequence[Run],
    probes: Sequence[ModelAnalysis],
    command: str,
    made: str,
    folders: Sequence[str] | None = None,
) -> str:
    """The page.

    Args:
      runs: read by `read_run`, one or more.
      probes: what was computed for each.
      command: that made it, for the reader.
      made: when, for the reader.
      folders: by which `saving.check_free` knows it again; None: those of the runs.

    Raises:
      ValueError: plotly is not installed.
    """
    script = plotly()
    charts = Charts(runs)
    sections = _sections(runs, probes, charts, command)
    names = [run.name for run in runs]
    title = f"Robustness of {', '.join(names[:3])}{' and others' if len(names) > 3 else ''}"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="generator", content=f"{GENERATOR} {__version__}"),
        tag(
            "meta",
            name="robust_tf-runs",
            content="\n".join(names_of([run.path for run in runs] if folders is None else folders)),
        ),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("title", title),
        tag("style", Html(_file("page.css"))),
    )
    navigation = tag(
        "nav",
        tag(
            "ul",
            [tag("li", tag("a", text, href=f"#{name}")) for name, text, _ in sections],
        ),
        aria_label="Sections",
    )
    content = [
        tag(
            "section",
            tag("h2", text, id=f"head-{name}"),
            body,
            id=name,
            aria_labelledby=f"head-{name}",
        )
        for name, text, body in sections
    ]
    body = tag(
        "body",
        tag("a", "Skip to the report", href="#content", class_="skip"),
        tag(
            "header",
            tag("h1", title),
            tag("p", f"Made {made} by robust_tf {__version__}.", class_="hint"),
            _choice(runs, charts),
            tag(
                "noscript",
                tag("p", "Without scripts the charts stay empty; every table is complete."),
            ),
        ),
        navigation,
        tag("main", content, id="content", tabindex="-1"),
        tag(
            "footer",
            tag(
                "p",
                "Charts by Plotly.js (MIT licence), embedded. Nothing was loaded from a network.",
            ),
        ),
        tag("script", as_json(charts.specs), id="charts", type="application/json"),
        tag("script", Html(script)),
        tag("script", Html(_file("page.js"))),
    )
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"


def _sections(
    runs: Sequence[Run], probes: Sequence[ModelAnalysis], charts: Charts, command: str
) -> list[tuple[str, str, Any]]:
    """Id, heading and content of each section that has something to say."""
    computed = any(seen.examples for seen in probes)
    none = tag("p", NO_PICTURES if computed else NO_MODEL, class_="missing")
    found: list[tuple[str, str, Callable[[], Any]]] = [
        ("short", "In short", lambda: overview.in_short(runs)),
        ("missing", "What is missing", lambda: overview.missing(runs)),
        ("how", "What was trained, and how", lambda: overview.how(runs)),
        ("training", "Training", lambda: overview.training(runs, charts)),
        ("attacks", "Accuracy under attack", lambda: evaluation_sections.accuracies(runs, charts)),
        ("flags", "Signs of a weak evaluation", lambda: evaluation_sections.flags(runs)),
        ("inference", "Manifold transformation at inference",
         lambda: evaluation_sections.adaptive_summary(runs)),
        ("curves", "Accuracy against eps",
         lambda: evaluation_sections.curves(runs, probes, charts)),
        ("classes", "By class", lambda: model_sections.classes(runs, probes) or none),
        ("confusion", "What adversarial images are taken for",
         lambda: model_sections.confusion(runs, probes, charts) or none),
        ("images", "Images", lambda: model_sections.images(runs, probes) or none),
        ("surface", "Loss surface", lambda: model_sections.surfaces(runs, probes, charts) or none),
        ("features", "Features", lambda: features.features(runs, probes, charts) or none),
        ("papers", "Beside the papers' numbers", lambda: papers.comparison(runs)),
        ("reproduce", "To repeat it", lambda: reproduce.reproduce(runs, command)),
    ]  # fmt: skip
    bodies = [(name, text, _tried(charts, make)) for name, text, make in found]
    return [(name, text, body) for name, text, body in bodies if body]


def _tried(charts: Charts, make: Callable[[], Any]) -> Any:
    """What `make` gives; a note where a file holds what this version does not know."""
    known = len(charts.specs)
    try:
        return make()
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        del charts.specs[known:]  # which have no place on the page
        said = f"{FAILED} {type(error).__name__}: {files.reason(error)}."
        return tag("p", said, class_="missing")


def _choice(runs: Sequence[Run], charts: Charts) -> Html | None:
    """Which runs to show; of one there is nothing to choose."""
    if len(runs) < 2:
        return None
    boxes = []
    for k, run in enumerate(runs):
        box = tag("input", type="checkbox", id=f"run-{k}", value=k, checked=True)
        colour = tag("span", class_="swatch", data_colour=charts.look(k).colour)
        boxes.append(tag("label", box, colour, f"{run.name} ({run.label})", for_=f"run-{k}"))
    return tag("fieldset", tag("legend", "Runs shown"), boxes, id="runs")


def plotly() -> str:
    """The script of plotly.

    Raises:
      ValueError: the package is not installed.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ModuleNotFoundError as error:
        raise ValueError(
            "charts are drawn by plotly, which is not installed: "
            'pip install "robust_tf[report]", or pip install plotly.'
        ) from error
    return join(Html(get_plotlyjs().replace("</script", "<\\/script")))


def _file(name: str) -> str:
    file = importlib.resources.files("robust_tf.report") / name
    return file.read_text(encoding="utf-8")
