"""The page as HTML: complete, nested, labelled, escaped, and loading nothing."""

import json
import re

import numpy as np
import pytest

from robust_tf.report import blocks
from robust_tf.report.page import FAILED, html_of
from tests.report.conftest import HOSTILE
from tests.report.outline import Outline

SECTIONS = (
    "short how training attacks flags inference curves classes confusion images surface features "
    "papers reproduce"
).split()


@pytest.fixture(scope="module")
def outline(page):
    return Outline(page)


def test_sections_have_headings_in_order(outline):
    levels = [int(tag[1]) for tag, _, _ in outline.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))
    sections = [attributes for attributes, _ in outline.all("section")]
    assert [a["id"] for a in sections if a["id"] != "missing"] == SECTIONS
    for attributes in sections:
        tag, _, text = outline.by_id(attributes["aria-labelledby"])
        assert tag == "h2" and text
    links = [a["href"] for a, _ in outline.all("a")]
    for link in links:
        assert link.startswith("#") and outline.by_id(link[1:])


def test_landmarks_language_and_labels(outline):
    for landmark in ("main", "header", "footer", "nav"):
        assert len(outline.all(landmark)) == 1
    [(attributes, _)] = outline.all("html")
    assert attributes["lang"] == "en"
    assert all(a.get("alt") for a, _ in outline.all("img")) and outline.all("img")
    charts = [a for t, a, _ in outline.elements if a.get("class") == "chart"]
    assert len(charts) >= 12 and all(a["role"] == "img" and a["aria-label"] for a in charts)
    ids = [a["id"] for _, a, _ in outline.elements if a.get("id")]
    assert len(set(ids)) == len(ids)
    for attributes, _ in outline.all("input"):
        assert any(a.get("for") == attributes["id"] for a, _ in outline.all("label"))


def test_tables_have_captions_and_scopes(outline):
    assert len(outline.all("table")) == len(outline.all("caption")) >= 12
    assert all(a.get("scope") in ("col", "row") for a, _ in outline.all("th"))
    regions = [a for _, a, _ in outline.elements if a.get("role") == "region"]
    assert len(regions) == len(outline.all("table"))
    assert all(a["tabindex"] == "0" and outline.by_id(a["aria-labelledby"]) for a in regions)


def test_every_chart_has_its_data(outline):
    specs = json.loads(outline.by_id("charts")[2])
    assert all(outline.by_id(spec["id"]) and spec["data"] for spec in specs)
    kinds = {trace["type"] for spec in specs for trace in spec["data"]}
    assert kinds == {"scatter", "bar", "heatmap", "surface"}
    curves = next(spec for spec in specs if spec["id"] == "chart-curves")
    [several] = [t for t in curves["data"] if "several.json" in t["name"]]
    assert several["x"] == [0, 0.05, 0.1, 0.2] and "open" not in several["marker"]["symbol"]
    [sketch, *_] = [t for t in curves["data"] if t["name"].endswith("here")]
    assert sketch["marker"]["symbol"].endswith("-open")
    features = next(spec for spec in specs if spec["id"] == "chart-features-0")
    assert [note["text"] for note in features["layout"]["annotations"]] == [
        "<b>0</b>", "<b>1</b>", "<b>2</b>",
    ]  # fmt: skip


def test_nothing_is_loaded(page, outline):
    scripts = outline.all("script")
    assert len(scripts) == 3 and not any("src" in a for a, _ in scripts)
    assert not outline.all("link") and not outline.all("iframe")
    assert all(a["src"].startswith("data:image/png;base64,") for a, _ in outline.all("img"))
    [policy] = [a["content"] for a, _ in outline.all("meta") if "http-equiv" in a]
    assert "default-src 'none'" in policy
    assert len(page) < 6_000_000 and FAILED not in page


def test_text_of_users_stays_text(page, outline):
    assert "<script>alert" not in page and "alert('x')</script>" not in page
    assert any(text == HOSTILE for _, text in outline.all("h3"))
    names = {t["name"] for s in json.loads(outline.by_id("charts")[2]) for t in s["data"]
             if "name" in t}  # fmt: skip
    assert any("&lt;script&gt;" in name for name in names)  # plotly reads tags
    assert not any("<script>" in name for name in names)


def test_what_the_files_say_is_on_the_page(outline):
    text = outline.by_id("content")[2]
    for said in (
        "ADR LC/GB",
        "0123456789abcdef",
        "train.batch_size = 32",
        "1,234",
        "These attacks are too weak for a claim of robustness",
        "oblivious",
        "bin/train --gin_file=",
        '--attacks="PGD(eps=0.05, step_size=0.0125, steps=3); PGD(eps=0.1',
        "tensorflow",
    ):
        assert said.lower() in text.lower(), said
    assert "The papers have no numbers on thirds" in text


def test_json_in_a_script_cannot_end_it():
    value = {"a": "</script><!--", "b": [float("nan"), 1.0, float("inf")], "c": {"d": None}}
    text = blocks.as_json(value)
    assert "<" not in text and ">" not in text
    assert json.loads(text) == {"a": "</script><!--", "b": [None, 1.0, None], "c": {"d": None}}


def test_templates_escape_all_text():
    hostile = 'a<b> & "c"'
    row = blocks.Row([hostile, blocks.Cell(hostile)], 0)
    parts = [
        blocks.Text(hostile, "hint"),
        blocks.Facts([(hostile, hostile), (hostile, hostile, True), ("empty", None)]),
        blocks.Code(hostile, hostile, summary=hostile),
        blocks.Items([hostile]),
        blocks.Flag(hostile, hostile, hostile, hostile),
        blocks.Chart("x", hostile, hostile, 3, blocks.Table(hostile, [hostile] * 2, [row], "x")),
        blocks.Pictures(hostile, [(hostile, [("data:x", hostile, hostile)])], "y", 1),
    ]
    page = html_of(blocks.Group(parts, hostile, 1, element="article"))
    assert "<b>" not in page and '"c"' not in page and "empty" not in page
    assert page.count("a&lt;b&gt; &amp; &#34;c&#34;") == 25
    outline = Outline(page)
    assert [text for _, text in outline.all("p")][0] == hostile
    assert outline.by_id("chart-x")[1]["aria-label"] == hostile


def test_each_run_has_its_own_numbers(outline, made):
    """The two runs differ in all that is computed, so that swapped data would show."""
    specs = {spec["id"]: spec for spec in json.loads(outline.by_id("charts")[2])}
    read, analyses = made
    for k, (run, analysis) in enumerate(zip(read, analyses, strict=True)):
        counts = np.zeros((3, 3), int)
        np.add.at(counts, (analysis.grid.labels, analysis.grid.predictions), 1)
        np.fill_diagonal(counts, 0)
        assert specs[f"chart-confusion-{k}"]["data"][0]["z"] == counts.tolist()
        drawn = np.array(specs[f"chart-surface-{k}"]["data"][0]["z"])
        np.testing.assert_allclose(drawn, analysis.surfaces.losses[0], rtol=1e-4)
        places = [t["x"] for t in specs[f"chart-features-{k}"]["data"]]
        expected = sorted(analysis.places[:, 0].tolist())
        np.testing.assert_allclose(sorted(sum(places, [])), expected, atol=0.006)
        [line] = [t for t in specs["chart-curves"]["data"] if t["name"].endswith("here")
                  and t["meta"]["run"] == k]  # fmt: skip
        np.testing.assert_allclose(line["y"], 100 * analysis.curve.accuracy, rtol=1e-4)
        title = next(spec for name, spec in specs.items() if name.startswith(f"chart-loss-{k}"))
        assert title["data"][0]["y"] == [row["loss"] for row in run.metrics]
        best = run.results[0].evaluation
        [bars] = [t for t in specs["chart-accuracies"]["data"] if t["meta"]["run"] == k]
        assert bars["y"][0] == pytest.approx(100 * best.natural_accuracy, rel=1e-4)
    first, second = analyses
    assert (first.grid.predictions != second.grid.predictions).any()
    assert (first.surfaces.losses[0] != second.surfaces.losses[0]).any()
    assert first.curve.accuracy.tolist() != second.curve.accuracy.tolist()
    natural = [run.results[0].evaluation.natural_accuracy for run in read]
    assert natural[0] != natural[1]
