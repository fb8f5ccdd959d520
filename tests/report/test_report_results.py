"""Which evaluations a report counts, what it says where none does, and parts that fail."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from robust_tf import files, report, runs
from robust_tf.figures import curves
from robust_tf.report import charts, evaluation_sections, model_analysis, overview, page, reproduce
from robust_tf.runs.results import read_result
from robust_tf.runs.worst_case import headline, worst_cases
from tests.report.conftest import Thirds, columns, measure, read_run


@pytest.fixture
def copy(folders, tmp_path):
    """A run folder to add to."""
    return shutil.copytree(folders[0], tmp_path / "run")


def with_natural(share, **settings):
    """An evaluation of 24 images, of which this share is classified correctly."""
    value = {**measure(), **settings}
    right = round(24 * share)
    value["misclassified"] = f"{right}-23" if right < 24 else ""
    for part in value["attacks"].values():
        part["broken"] = ""
    return value


def short(run):
    """Cells of the run's row in the first table."""
    table, _ = overview.in_short([run], [model_analysis.ModelAnalysis(0.1)])
    return [str(cell.shown) for cell in table.cells[0]]


def test_accuracies_are_those_of_the_network_on_the_first_test_images(copy):
    plain = with_natural(0.75)
    files.write_json(copy / "summary.json", {
        **files.read_json(copy / "summary.json"), "evaluation": plain
    })  # fmt: skip
    for name in ("several.json", "imt.json"):
        (copy / name).unlink()
    about = {"name": "thirds", "fingerprint": "0123456789abcdef"}
    train = {"data": {**about, "split": "train"}, "evaluation": with_natural(1.0)}
    files.write_json(copy / "a_train.json", train)
    shard = {"data": {**about, "split": "test"}, "evaluation": with_natural(1.0, shard=[1, 2])}
    files.write_json(copy / "a_shard.json", shard)
    defended = {**columns(), "evaluation": with_natural(1.0)}
    files.write_json(copy / "a_imt.json", defended)
    run = read_run(copy)
    run.results.reverse()  # whatever their order
    assert {one.file for one in run.results if one.plain} == {"summary.json"}
    assert headline(run.results, run.eps)["natural"].mean() == 0.75
    assert any("75.00" in cell for cell in short(run)) and "100.00" not in "".join(short(run))
    drawn = charts.Charts([run])
    table = "".join(map(page.html_of, evaluation_sections.accuracies([run], drawn)))
    assert "a_shard.json, shard 1/2" in table and "a_train.json, train split" in table
    [trace] = drawn.specs[0]["data"]
    assert set(np.round(trace["y"])) == {75}


def test_results_of_other_weights_are_left_out(copy):
    own = files.read_json(copy / "summary.json")["evaluation"]
    result = {"data": {"split": "test"}, "evaluation": {**own, "model": "0" * 16}}
    files.write_json(copy / "weights.json", result)
    best = {"model": "runs/x/best.keras", "data": {"split": "test"}, "evaluation": own}
    files.write_json(copy / "best.json", best)
    run = read_run(copy)
    assert [one.file for one in run.results] == ["summary.json", "imt.json", "several.json"]
    said = "\n".join(run.notes)
    assert "weights.json is left out: it is of other weights (fingerprint 0000" in said
    assert "best.json is left out: it is of the model runs/x/best.keras" in said
    assert "best.json" not in "\n".join(reproduce.commands(run))


def test_a_missing_worst_case_has_its_reason(copy, tmp_path):
    (tmp_path / "config.gin").write_text("")
    assert "not evaluated" in short(runs.Run(tmp_path))[-1]
    (copy / "several.json").unlink()
    run = read_run(copy)
    run.record["threat"]["eps"] = 0.01
    assert worst_cases(run.results, run.eps) == []
    assert "no attack with an eps up to the training" in short(run)[-1] and "0.01" in short(run)[-1]
    run.results = run.results[1:]
    assert "no evaluation of the network alone" in short(run)[-1]
    run.results = [
        read_result(name, {"evaluation": measure(), "data": {"fingerprint": name}}) for name in "ab"
    ]
    assert "different data, by their fingerprints" in short(run)[-1]
    # Training on a part of the data is another whole, and the same test images.
    run.results[0].data["splits"] = {"train": "c", "test": "t"}
    assert "different data" not in short(run)[-1]
    run.results[1].data["splits"] = {"test": "u"}
    assert "different data" in short(run)[-1]


def test_an_image_counts_that_is_right_before_and_after():
    """A model that is right of none of the images, and of most points around them."""
    x, y = np.full((300, 2), 0.5, np.float32), np.zeros(300, np.int32)

    def model(points):
        wrong = tf.cast(tf.reduce_all(tf.equal(points, 0.5), axis=1), tf.float32)
        return 9 * tf.stack([1 - wrong, wrong], 1) + 0 * points

    curve = curves.accuracy_against_eps(model, x, y, [0.0, 0.1])
    assert curve.accuracy.tolist() == [0, 0]


def test_runs_on_points_have_no_pictures_and_say_so(made):
    read, [analysis, _] = made
    analysis = dataclasses.replace(analysis, grid=None)
    text = report.build(read[:1], [analysis], "bin/report", "today")
    assert text.count(page.NO_PICTURES) == 2 and page.NO_MODEL not in text
    none = report.build(read[:1], [model_analysis.ModelAnalysis(0.1)], "bin/report", "today")
    assert page.NO_MODEL in none and page.NO_PICTURES not in none


def test_what_another_version_wrote_costs_no_more_than_its_section(copy):
    summary = files.read_json(copy / "summary.json")
    odd = {"weights": {"local": None, "global_": "much"}, "training_seconds": "long"}
    about = {**summary["data"], "train": None, "test": "some"}
    files.write_json(copy / "summary.json", {**summary, **odd, "data": about})
    imt = columns()
    imt["columns"]["all"]["oblivious"] = "high"
    files.write_json(copy / "imt.json", imt)
    run = read_run(copy)
    text = report.build([run], [model_analysis.ModelAnalysis(0.1)], "bin/report", "today")
    assert "local None, global much" in text and "some test" in text
    assert text.count(page.FAILED) == 1  # the three columns


def test_twins_and_terms_are_told_apart_by_more_than_colour(made):
    read, _ = made
    drawn = charts.Charts(read)
    assert drawn.look(0).color == drawn.look(1).color
    assert [drawn.fill(k)["pattern"]["shape"] for k in (0, 1)] == ["", "/"]
    overview.training(read[:1], drawn)
    lines = [trace["line"] for trace in drawn.specs[-1]["data"]]
    assert lines[0]["width"] == 3 and lines[1]["color"] != lines[0]["color"]
    assert {line["dash"] for line in lines[:2]} == {"solid", "dash"}


def test_a_part_that_fails_loses_no_other(copy, monkeypatch):
    def fails(*args):
        raise tf.errors.ResourceExhaustedError(None, None, "out of memory")

    monkeypatch.setattr(model_analysis, "roughness", fails)
    monkeypatch.setattr(model_analysis, "measure_latent", fails)
    run = read_run(copy)
    analysis = model_analysis.analyze(run, Thirds(), 8)
    assert analysis.roughness is None and analysis.numbers is None
    assert analysis.surfaces is not None and analysis.places is not None
    assert analysis.curve is not None
    assert len([note for note in analysis.notes if "have no numbers: out of memory" in note]) == 1
    text = report.build([run], [analysis], "bin/report", "today")
    assert json.loads(text.split('<script id="charts" type="application/json">')[1].split("<")[0])
