"""Run folders that lack something, or hold what they should not."""

import dataclasses
import os
import re
import shutil

import numpy as np
import pytest

from robust_tf import evaluation, files, report, runs
from robust_tf.attacks import FGSM
from robust_tf.report import (
    evaluation_sections,
    model_analysis,
    overview,
    papers,
    reproduce,
    saving,
)
from robust_tf.report import page as pages
from robust_tf.runs.results import kind_of, read_result
from robust_tf.runs.worst_case import headline
from tests.report.conftest import Thirds, columns, measure, read_run
from tests.report.outline import Outline


@pytest.fixture
def copy(folders, tmp_path):
    """A run folder to spoil."""
    return shutil.copytree(folders[0], tmp_path / "run")


def shown(blocks):
    """Blocks of the page as HTML."""
    return "".join(map(pages.html_of, blocks))


def page_of(run):
    nothing = model_analysis.ModelAnalysis(0.1)
    return Outline(report.build([run], [nothing], "bin/report", "today"))


@pytest.mark.parametrize(
    "name, content, said",
    [
        ("metrics.jsonl", None, "There is no metrics.jsonl"),
        ("metrics.jsonl", '{"epoch": 1, "loss": 1.0}\n{"epoch": 2, "lo', "last line .* is cut off"),
        ("metrics.jsonl", 'x\n{"epoch": 2, "loss": 1.0}\n', "cannot be read in line 1"),
        ("metrics.jsonl", "", "no epoch has ended"),
        ("summary.json", None, "There is no summary.json"),
        ("summary.json", '{"evaluation": ', "is not JSON"),
        ("summary.json", "[1]", "summary.json is damaged: it does not hold an object"),
        ("summary.json", '{"evaluation": {"examples": 3}}', "evaluation in summary.json is left"),
        ("model.keras", None, "There is no model.keras"),
        ("several.json", '{"evaluation": 3}', "several.json is left out"),
        ("later.json.partial", "{}", "later.json.partial is an evaluation that was interrupted"),
    ],
)
def test_what_is_missing_is_named_and_the_rest_is_shown(copy, name, content, said):
    if content is None:
        os.remove(copy / name)
    else:
        (copy / name).write_text(content)
    run = read_run(copy)
    assert any(re.search(said, note) for note in run.notes), run.notes
    outline = page_of(run)
    assert any(note in outline.by_id("missing")[2] for note in run.notes)
    assert outline.by_id("how") and outline.by_id("reproduce")


def test_a_run_without_anything_but_its_configuration(tmp_path):
    (tmp_path / "config.gin").write_text("data.name = 'digits'\n")
    run = read_run(tmp_path)
    outline = page_of(run)
    text = outline.by_id("content")[2]
    assert "No run has an evaluation" in text and "No run has left training metrics" in text
    assert len(run.notes) == 4


def test_a_complete_run_misses_nothing(folders):
    run = read_run(folders[0])
    assert run.notes == []
    assert [one.file for one in run.results] == ["summary.json", "imt.json", "several.json"]
    assert (run.label, run.eps) == ("ADR LC/GB", 0.1)


def test_a_folder_that_is_no_run(tmp_path, folders):
    with pytest.raises(runs.RunError, match="there is no run folder"):
        read_run(tmp_path / "absent")
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(runs.RunError, match="is a file"):
        read_run(tmp_path / "thesis.tex")
    with pytest.raises(runs.RunError, match="it has none of run.json"):
        read_run(tmp_path)
    with pytest.raises(runs.RunError, match="Did you mean .*other"):
        read_run(os.path.dirname(folders[0]))


def test_a_run_of_another_version_is_said(copy):
    summary = files.read_json(copy / "summary.json")
    summary["versions"] = {"robust_tf": "9.0.0"}
    summary["from_the_future"] = {"a": 1}
    summary["weights"] = summary["data"] = None
    for part in summary["evaluation"]["attacks"].values():
        part["attack"] = {"module": "robust_tf.attacks", "class_name": "Unheard", "config": {}}
    files.write_json(copy / "summary.json", summary)
    run = read_run(copy)
    assert any("made by robust_tf 9.0.0" in note for note in run.notes)
    assert "an attack in it cannot be written" not in "\n".join(reproduce.commands(run))
    assert "PGD-3" in page_of(run).by_id("attacks")[2]


def test_evaluations_of_an_earlier_version_have_curves():
    value = measure(12, (0.05, 0.1))
    for name in ("balls", "kinds", "curves", "checks"):
        value.pop(name)
    one = read_result("old.json", {"evaluation": value})
    assert [point[0] for point in one.evaluation.curves()["Linf"]] == [0, 0.05, 0.1]


def test_the_headline_takes_most_attacks_on_their_common_images():
    def file(name, examples, attack, robust):
        value = measure(examples, (0.1,))
        result = evaluation.Evaluation.from_json(value)
        outcome = evaluation.Outcome(np.asarray(robust) & result.natural)
        settings = {**result.settings, "balls": {}, "attacks": {name: attack}, "model": "m"}
        made = evaluation.Evaluation(result.natural, {name: outcome}, settings)
        return read_result(name, {"evaluation": made.to_json(), "data": {"split": "test"}})

    pgd, other = (measure(5, (eps,))["attacks"] for eps in (0.1, 0.2))
    [pgd], [other] = ([part["attack"] for part in one.values()] for one in (pgd, other))
    first = file("first", 24, pgd, np.arange(24) % 2 == 0)
    second = file("second", 12, other, np.arange(12) % 3 == 0)
    again = file("again", 6, pgd, np.zeros(6, bool))
    best = headline([first, second, again], 0.2)
    assert best["examples"] == 24  # fewer than 500 images do not make a headline
    best = headline([first, second], 0.1)  # eps 0.2 is beyond the training's
    assert best["attacks"] == ["PGD-3"] and best["examples"] == 24
    assert headline([], 0.1) is None


def test_failures_of_the_model_become_notes(copy):
    (copy / "model.keras").write_bytes(b"not a zip")
    run = read_run(copy)
    analysis = model_analysis.analyze(run, Thirds(), 8)
    assert analysis.grid is None and analysis.num_classes == 3
    assert any("model.keras cannot be used" in note for note in analysis.notes)

    def absent(run):
        raise ValueError("nowhere to be had")

    run = read_run(copy)
    notes = model_analysis.analyze(run, absent, 8).notes
    assert notes == ["The test images cannot be read: nowhere to be had."]


def measured_on(folder, name, eps, steps):
    """Makes it a run on this dataset, whose 12 images met PGD of so many steps."""
    summary = files.read_json(folder / "summary.json")
    summary["data"]["name"] = name
    summary["evaluation"] = measure(12, (eps,))
    [part] = summary["evaluation"]["attacks"].values()
    part["attack"]["config"]["steps"] = steps
    files.write_json(folder / "summary.json", summary)


def test_papers_numbers_are_well_formed_and_stand_beside_a_run(copy):
    for one in papers.paper_tables():
        assert one["source"] and one["data"] and 0 < one["eps"] < 1
        for title, values in one["rows"]:
            assert title and len(values) == len(one["columns"])
            assert all(v is None or 0 <= v <= 100 for v in values)
    measured_on(copy, "mnist", 0.3, 40)
    run = read_run(copy)
    text = shown(papers.comparison([run]))
    assert "ADR-None (ADV)" in text and "88.10" in text and "this run, 12 images" in text


def test_the_columns_of_a_defense_are_those_that_a_file_has(copy):
    run = read_run(copy)
    head = "Run Inference Attack Oblivious, % Adaptive, % Worst case, % Images"
    [table, text] = evaluation_sections.adaptive_summary([run])
    assert " ".join(table.columns) == head and "alone" not in text.text
    for one in run.results:
        for shares in one.columns.values():
            shares["T(x') alone"] = 0.875
    [table, text] = evaluation_sections.adaptive_summary([run])
    assert " ".join(table.columns) == head.replace("Adaptive", "T(x') alone, % Adaptive")
    assert "87.50" in shown([table]) and "T(x') alone is the paper's count" in text.text


def test_columns_are_read_as_they_are():
    one = read_result("imt.json", columns())
    assert one.title == "imt.json, IMT+" and one.columns["all"]["worst case"] == 0.5


def test_results_behind_an_inference_stand_beside_the_papers(copy, monkeypatch):
    table = {
        **papers.paper_tables()[0],
        "data": "thirds",
        "eps": 0.1,
        "columns": ["natural", "PGD-3"],
        "rows": [["IMT", [90, 81.25]]],
    }
    monkeypatch.setattr(papers, "paper_tables", lambda: [table])
    run = read_run(copy)
    [behind] = [one for one in run.results if one.inference]
    assert [one.kind for one in behind.attacks] == ["oblivious: PGD-3", "adaptive: PGD-3"]
    run.results = [behind]
    text = shown(papers.comparison([run]))
    assert "(ADR LC/GB IMT+)" in text and "81.25" in text
    # As the paper counts; a file of a version before has the other count alone.
    size = len(behind.evaluation)
    alone, robust = np.arange(size) < 17, np.arange(size) < 11
    counted = dataclasses.replace(behind.attacks[0], alone=alone, robust=robust)
    for one, share in ((counted, 17 / size), (dataclasses.replace(counted, alone=None), 11 / size)):
        run.results = [dataclasses.replace(behind, attacks=[one])]
        assert f"{100 * share:.2f}" in shown(papers.comparison([run]))


def test_the_fgsm_of_atld_starts_at_random():
    kind = kind_of(FGSM(8 / 255, random_start=True))
    known = [one for one in papers.paper_tables() if kind in one["columns"]]
    assert len(known) == 3 and all(one["name"].startswith("ATLD") for one in known)
    assert papers.PRINTED[kind] == "FGSM"


def test_an_eps_that_papers_round_is_the_same(copy):
    measured_on(copy, "cifar10", 0.031, 20)
    (copy / "config.gin").write_text("train.network = @CNN\n")
    text = shown(papers.comparison([read_run(copy)]))
    assert "eps 8/255" in text and "this run, 12 images" in text


def test_a_report_is_only_put_where_it_belongs(tmp_path, page, folders):
    path = str(tmp_path / "report.html")
    assert not saving.check_free(path, folders, False)
    report.write(path, page)
    assert saving.check_free(path, folders, False)
    with pytest.raises(files.FileError, match=r"report on other runs \(.*/usual, .*/other\)"):
        saving.check_free(path, folders[:1], False)
    elsewhere = [folder.replace("/runs", "/copies/runs") for folder in folders]
    with pytest.raises(files.FileError, match="report on other runs"):
        saving.check_free(path, elsewhere, False)
    assert saving.check_free(path, folders[::-1], False)
    assert saving.check_free(path, folders[:1], True)
    (tmp_path / "thesis.html").write_text("<html>years of work")
    for overwrite in (False, True):
        with pytest.raises(files.FileError, match="is left as it is"):
            saving.check_free(tmp_path / "thesis.html", folders, overwrite)
    with pytest.raises(files.FileError, match="is a folder"):
        saving.check_free(tmp_path, folders, False)


@pytest.mark.parametrize(
    ("seconds", "text"), [(4.2, "4 seconds"), (119, "119 seconds"), (7_260_000, "121,000 minutes")]
)
def test_a_short_training_took_seconds(seconds, text):
    assert overview._span(seconds) == text
