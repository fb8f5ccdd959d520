"""bin/report: what it takes, writes, replaces and refuses."""

import builtins
import os
import shutil

import pytest

from robust_tf import files
from robust_tf.cli.report import main
from robust_tf.report import model_analysis
from tests.report.conftest import Thirds, measure


@pytest.fixture
def here(folders, tmp_path, monkeypatch):
    """A folder to work in, with copies of both runs in runs/."""
    for path in folders:
        shutil.copytree(path, tmp_path / "runs" / os.path.basename(path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(capsys, *argv):
    capsys.readouterr()
    assert main(list(argv)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "Traceback" not in error
    return error


def test_one_run_with_what_it_was_compared_with(here, capsys):
    shutil.move(here / "runs/other", here / "runs/usual/comparison")
    assert main(["--run_dir=runs/usual", "--no_model"]) == 0
    assert "wrote runs/usual/report.html" in capsys.readouterr().out
    page = (here / "runs/usual/report.html").read_text()
    assert "usual/comparison" in page and "bin/report --run_dir=runs/usual --no_model" in page
    (here / "runs/usual/comparison").rename(here / "runs/other")
    assert main(["--run_dir=runs/usual/", "--no_model"]) == 0  # a report on the same runs
    assert "replaced runs/usual/report.html" in capsys.readouterr().out


def test_without_arguments_it_is_of_the_run_that_train_makes(here, capsys):
    assert "there is no run folder runs/adr_digits" in refused(capsys)
    shutil.move(here / "runs/usual", here / "runs/adr_digits")
    assert main(["--no_model"]) == 0
    assert (here / "runs/adr_digits/report.html").exists()


def test_data_that_is_not_to_be_had_is_said_in_the_page(here, capsys):
    assert main(["--run_dir=runs/other", "--examples=5"]) == 0
    said = capsys.readouterr().err
    assert "The test images cannot be read: There is no dataset 'thirds'" in said
    page = (here / "runs/other/report.html").read_text()
    assert "The test images cannot be read" in page and "In short" in page


def test_it_says_how_many_images_there_are(here, capsys, monkeypatch):
    monkeypatch.setattr(model_analysis, "Datasets", lambda data_dir: Thirds())
    assert main(["--run_dir=runs/other"]) == 0  # of the 200 images of the default there are 24
    assert "other: 24 test images\n" in capsys.readouterr().err


def test_other_files_and_other_reports_are_kept(here, capsys):
    both = ["--run_dir=runs/usual", "--run_dir=runs/other", "--no_model"]
    assert main([*both, "--output=both.html"]) == 0
    before = (here / "both.html").read_text()
    one = ["--run_dir=runs/usual", "--no_model", "--output=both.html"]
    assert "is a report on other runs (runs/usual, runs/other)" in refused(capsys, *one)
    assert (here / "both.html").read_text() == before
    assert main([*one, "--overwrite"]) == 0
    assert (here / "both.html").read_text() != before
    (here / "both.html").write_text("years of work")
    assert "is left as it is" in refused(capsys, *one, "--overwrite")
    assert (here / "both.html").read_text() == "years of work"
    assert not [name for name in os.listdir(here) if name.startswith(".")]


def test_an_evaluation_from_elsewhere(here, capsys):
    result = {"run_dir": "runs/usual", "evaluation": measure(12)}
    files.write_json("mine.json", result)
    options = ["--run_dir=runs/usual", "--no_model", "--evaluation=mine.json"]
    assert main(options) == 0
    assert "mine.json" in (here / "runs/usual/report.html").read_text()
    away = os.path.abspath("mine.json")
    assert main([*options[:2], f"--evaluation={away}"]) == 0
    page = (here / "runs/usual/report.html").read_text()
    assert "--output=runs/usual/again_mine.json" in page and "different weights" not in page
    again = "--evaluation=runs/usual/several.json"  # which is read with its run
    files.write_json("runs/usual/several.json", {**result, "evaluation": measure(12, (0.05,))})
    assert main([*options[:2], again]) == 0
    page = (here / "runs/usual/report.html").read_text()
    assert page.count("again_several.json") == 1
    files.write_json("mine.json", {**result, "evaluation": {**measure(12), "model": "another"}})
    said = "mine.json cannot join runs/usual: it is of other weights (fingerprint another"
    assert said in refused(capsys, *options)
    files.write_json("mine.json", {**result, "evaluation": {}})
    assert "mine.json: this is not an evaluation's JSON" in refused(capsys, *options)
    files.write_json("mine.json", {**result, "run_dir": "runs/third"})
    assert "is of runs/third, which is not one of runs/usual" in refused(capsys, *options)
    files.write_json("mine.json", {"a": 1})
    assert "is not a result of bin/evaluate" in refused(capsys, *options)
    os.remove("mine.json")
    assert "mine.json" in refused(capsys, *options)


@pytest.mark.parametrize(
    "argv, said",
    [
        (["--run_dir=absent"], "there is no run folder absent"),
        (["--run_dir=runs"], "Did you mean runs/other"),
        (["--run_dir=runs/usual", "--output=runs"], "runs is a folder; name a file"),
        (["--run_dir=runs/usual", "--examples=4"], "'4' must be a whole number >= 5"),
        (["--run_dirs=runs/usual"], "unrecognized arguments"),
    ],
)
def test_wrong_arguments_are_one_line(here, capsys, argv, said):
    assert said in refused(capsys, *argv)
    assert not (here / "runs/usual/report.html").exists()


def test_without_plotly_it_says_what_to_install(here, capsys, monkeypatch):
    known = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("plotly"):
            raise ModuleNotFoundError(name)
        return known(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    assert 'pip install "robust_tf[report]"' in refused(capsys, "--run_dir=runs/usual")
