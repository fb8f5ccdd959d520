"""Puts a report together: one HTML file that loads nothing."""

from __future__ import annotations

import importlib.resources
from collections.abc import Callable, Sequence
from typing import Any

from robust_tf import files
from robust_tf.report import (
    class_sections,
    distances,
    evaluation_sections,
    features,
    guard_section,
    model_sections,
    overview,
    papers,
    reproduce,
    single_step,
)
from robust_tf.report.blocks import Block, Section, Text, as_json
from robust_tf.report.charts import Charts
from robust_tf.report.model_analysis import ModelAnalysis
from robust_tf.report.saving import GENERATOR, names_of
from robust_tf.runs import Run
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
    analyses: Sequence[ModelAnalysis],
    command: str,
    made: str,
    folders: Sequence[str] | None = None,
) -> str:
    """The page.

    Args:
      runs: read by `runs.read_run`, one or more.
      analyses: what was computed with the model of each.
      command: that made it, for the reader.
      made: when, for the reader.
      folders: by which `saving.check_free` knows it again; None: those of the runs.

    Raises:
      ValueError: plotly or Jinja is not installed.
    """
    charts = Charts(runs)
    sections = _sections(runs, analyses, charts, command)
    names = [run.name for run in runs]
    return render(
        f"Robustness of {', '.join(names[:3])}{' and others' if len(names) > 3 else ''}",
        sections,
        made,
        names_of([run.path for run in runs] if folders is None else folders),
        charts,
        [(f"{run.name} ({run.label})", charts.look(k).color) for k, run in enumerate(runs)],
    )


def render(
    title: str,
    sections: Sequence[Section],
    made: str,
    folders: Sequence[str] = (),
    charts: Charts | None = None,
    choices: Sequence[tuple[str, str]] = (),
    generator: str = GENERATOR,
) -> str:
    """Sections as a page.

    Args:
      title: heading.
      sections: in order.
      made: when, for the reader.
      folders: by which a later command knows the page again.
      charts: those in the sections; None: there are none, and plotly is left out.
      choices: the runs that can be hidden, with their colors.
      generator: what made the page.

    Raises:
      ValueError: plotly or Jinja is not installed.
    """
    try:
        from markupsafe import Markup
    except ModuleNotFoundError as error:
        raise ValueError(_install("the page is made by Jinja")) from error

    return (
        _templates()
        .get_template("page.html.j2")
        .render(
            title=title,
            generator=generator,
            version=__version__,
            folders="\n".join(folders),
            policy=POLICY,
            made=made,
            choices=choices,
            sections=sections,
            specs=Markup(as_json([] if charts is None else charts.specs)),
            style=Markup(_file("page.css")),
            plotly=Markup(plotly()) if charts is not None else "",
            script=Markup(_file("page.js")),
        )
    )


def html_of(block: Block) -> str:
    """One block as HTML."""
    return str(_templates().get_template("blocks.html.j2").module.show(block))  # type: ignore[attr-defined]


def _sections(
    runs: Sequence[Run], analyses: Sequence[ModelAnalysis], charts: Charts, command: str
) -> list[Section]:
    """The sections that have something to say."""
    computed = any(analysis.examples for analysis in analyses)
    none = [Text(NO_PICTURES if computed else NO_MODEL, "missing")]
    found: list[tuple[str, str, Callable[[], Any]]] = [
        ("short", "In short", lambda: overview.in_short(runs, analyses)),
        ("missing", "What is missing", lambda: overview.missing(runs, analyses)),
        ("how", "What was trained, and how", lambda: overview.how(runs)),
        ("training", "Training", lambda: overview.training(runs, charts)),
        ("overfitting", "Catastrophic overfitting",
         lambda: guard_section.overfitting(runs, charts)),
        ("attacks", "Accuracy under attack", lambda: evaluation_sections.accuracies(runs, charts)),
        ("distances", "Distances", lambda: distances.table(runs)),
        ("single-step", "Trained by one step", lambda: single_step.single_step(runs)),
        ("flags", "Signs of a weak evaluation", lambda: evaluation_sections.flags(runs)),
        ("inference", "Manifold transformation at inference",
         lambda: evaluation_sections.adaptive_summary(runs)),
        ("curves", "Accuracy against eps",
         lambda: evaluation_sections.curves(runs, analyses, charts)),
        ("classes", "By class", lambda: class_sections.classes(runs, analyses) or none),
        ("confusion", "What images are taken for",
         lambda: class_sections.confusion(runs, analyses, charts) or none),
        ("images", "Images", lambda: model_sections.images(runs, analyses) or none),
        ("surface", "Loss surface",
         lambda: model_sections.surfaces(runs, analyses, charts) or none),
        ("features", "Features", lambda: features.features(runs, analyses, charts) or none),
        ("papers", "Beside the papers' numbers", lambda: papers.comparison(runs)),
        ("reproduce", "To repeat it", lambda: reproduce.reproduce(runs, command)),
    ]  # fmt: skip
    made = [Section(name, title, _tried(charts, make) or []) for name, title, make in found]
    return [section for section in made if section.blocks]


def _tried(charts: Charts, make: Callable[[], Any]) -> Any:
    """What `make` gives; a note where a file holds what this version does not know."""
    known = len(charts.specs)
    try:
        return make()
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        del charts.specs[known:]  # which have no place on the page
        return [Text(f"{FAILED} {type(error).__name__}: {files.reason(error)}.", "missing")]


def _templates() -> Any:
    """The templates beside this file; all text in them is escaped."""
    try:
        import jinja2
    except ModuleNotFoundError as error:
        raise ValueError(_install("the page is made by Jinja")) from error
    return jinja2.Environment(
        loader=jinja2.FunctionLoader(_file),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def plotly() -> str:
    """The script of plotly.

    Raises:
      ValueError: the package is not installed.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ModuleNotFoundError as error:
        raise ValueError(_install("charts are drawn by plotly")) from error
    return get_plotlyjs().replace("</script", "<\\/script")


def _install(what: str) -> str:
    package = what.split()[-1].lower().replace("jinja", "jinja2")
    return (
        f'{what}, which is not installed: pip install "robust_tf[report]", or pip install '
        f"{package}."
    )


def _file(name: str) -> str:
    file = importlib.resources.files("robust_tf.report") / name
    return file.read_text(encoding="utf-8")
