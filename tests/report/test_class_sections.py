"""Accuracy by class and errors, by names; of many classes what matters first."""

import types

import numpy as np
import pytest

from robust_tf.figures.grids import Grid
from robust_tf.report import class_sections, model_sections
from robust_tf.report.blocks import Folded, Group, Table
from robust_tf.report.charts import Charts
from robust_tf.report.model_analysis import ModelAnalysis
from robust_tf.report.page import html_of

RUN = types.SimpleNamespace(
    name="mine", label="ADR LC", results=[], balls=(("Linf", 0.1),), path="mine"
)
NAMES = ("cat", "<b>dog</b> & more than sixteen", "10", "never seen")


def analysis(labels, clean, adversarial, classes, names=None):
    """What was computed with a model that gives these predictions."""
    labels, clean, adversarial = map(np.array, (labels, clean, adversarial))
    images = np.random.default_rng(0).random((len(labels), 4, 4, 1)).astype(np.float32)
    sure = np.full(len(labels), 0.75)
    grid = Grid(images, images, labels, clean, adversarial, sure, sure)
    return ModelAnalysis(0.1, len(labels), labels, classes, names, grid)


@pytest.fixture
def few():
    return analysis([0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 1, 0], [0, 1, 1, 1, 2, 0], 4, NAMES)


def test_classes_have_their_names_and_numbers(few):
    table, _ = class_sections.classes([RUN], [few])
    shown = [[cell.shown for cell in row] for row in table.cells]
    assert [row[1:4] for row in shown] == [
        ["cat", "66.67", "33.33"],
        [NAMES[1], "100.00", "50.00"],
        ["10", "0.00", "0.00"],
    ]
    assert [row[5:7] for row in shown] == [
        ["3", f"{NAMES[1]} (2 of 2)"],
        ["2", "10 (1 of 1)"],
        ["1", "cat (1 of 1)"],
    ]
    assert not table.numeric[1]  # a class called 10 is no number
    few.class_names = None
    table, _ = class_sections.classes([RUN], [few])
    assert [row[1].shown for row in table.cells] == ["0", "1", "2"] and table.numeric[1]


def test_errors_on_clean_and_on_adversarial_images(few):
    charts = Charts([RUN])
    [group] = class_sections.confusion([RUN], [few], charts)
    assert isinstance(group, Group)
    clean, adversarial = charts.specs
    assert (clean["id"], adversarial["id"]) == ("chart-confusion-0-clean", "chart-confusion-0")
    expected = np.zeros((4, 4), int)
    expected[0, 1] = expected[2, 0] = 1
    np.testing.assert_array_equal(clean["data"][0]["z"], expected)
    expected[0, 1], expected[1, 2] = 2, 1
    np.testing.assert_array_equal(adversarial["data"][0]["z"], expected)
    ticks = ["cat", "&lt;b&gt;dog&lt;/b&gt; &amp; mo…", "10", "never seen"]
    for side in ("xaxis", "yaxis"):
        axis = adversarial["layout"][side]
        assert axis["ticktext"] == ticks and axis["tickvals"] == [0, 1, 2, 3]
    page = html_of(group)
    assert "2 of 6 clean images are misclassified" in page
    assert (
        "4 of 6 adversarial images (PGD-40, eps 0.1) are misclassified; most often cat as" in page
    )
    assert "<b>dog" not in page and "taken for never seen" in page


def test_pictures_have_names(few):
    [pictures] = model_sections.images([RUN], [few])
    clean, _, adversarial = (images for _, images in pictures.rows)
    assert {said for _, _, said in clean} == {"cat, 75 %", "<b>dog</b> & more t…, 75 %"}
    assert any("class cat, predicted cat" in alt for _, alt, _ in clean)
    assert any(said == "10, 75 % ✗" for _, _, said in adversarial)


def test_of_many_classes_the_worst_come_first():
    classes = 1000
    labels = np.repeat(np.arange(classes), 2)
    adversarial = labels.copy()
    wrong = np.arange(0, 80, 2)  # of 40 classes one image of two
    adversarial[wrong] = (labels[wrong] + 7) % classes
    adversarial[wrong[:5] + 1] = (labels[wrong[:5]] + 7) % classes  # of five both
    names = [f"class {c:04d}" for c in range(classes)]
    made = analysis(labels, labels, adversarial, classes, names)
    worst, rest, _ = class_sections.classes([RUN], [made])
    assert [row[1].shown for row in worst.cells] == names[
        :20
    ] and "20 least robust" in worst.caption
    assert [row[3].shown for row in worst.cells] == ["0.00"] * 5 + ["50.00"] * 15
    assert isinstance(rest, Folded) and len(rest.block.rows) == classes - 20
    assert html_of(rest).startswith("<details><summary>The other classes</summary>")
    charts = Charts([RUN])
    most, others = class_sections.confusion([RUN], [made], charts)[-2:]
    assert not charts.specs and isinstance(most, Table) and len(most.rows) == 20
    first = [cell.shown for cell in most.cells[0]]
    assert first == ["class 0000", "class 0007", "2", "2"]
    assert isinstance(others, Folded) and len(others.block.rows) == 20
    assert len("".join(html_of(block) for block in (worst, rest, most, others))) < 600_000
