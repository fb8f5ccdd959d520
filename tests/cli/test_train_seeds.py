"""`bin/train --seeds`: a run for each, a table of all, and one row in the report."""

import re

import numpy as np
import pytest

from robust_tf import files, runs
from robust_tf.cli import report, train

SMALL = ["CNN.filters=2", "CNN.hidden=8", "steps=1", "evaluation_steps=1", "train.epochs=1"]
SMALL += ["validation/PGD.steps=1", "train.batch_size=640", "train.evaluation_examples=20"]
SMALL += ["train.compare_with=None"]
PARAMS = [f"--gin_param={binding}" for binding in SMALL]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("seeds") / "run"


def test_a_run_for_each_seed(folder, capsys):
    recipe = "--gin_file=gin/adversarial_digits.gin"
    assert train.main([recipe, "--seeds=3,0", f"--run_dir={folder}", *PARAMS]) == 0
    out = capsys.readouterr().out
    summaries = [files.read_json(folder / f"seed-{s}/summary.json") for s in (3, 0)]
    assert [runs.read_run(folder / f"seed-{seed}").seed for seed in (3, 0)] == [3, 0]
    table = out[out.index("mean ± standard deviation over 2 seeds") :]
    values = [100 * one["natural_accuracy"] for one in summaries]
    row = re.search(r"AdversarialTraining +(\S+) ± (\S+)", table)
    assert row[1] == f"{np.mean(values):.2f}" and row[2] == f"{np.std(values, ddof=1):.2f}"
    # As without --seeds.
    alone = folder / "seed-0"
    again = [recipe, f"--run_dir={alone}", *PARAMS, "--gin_param=train.seed=0"]
    assert train.main(again) == 0
    assert "finished earlier" in capsys.readouterr().out


def test_what_does_not_go_together(folder, capsys):
    recipe = ["--gin_file=gin/adversarial_digits.gin", *PARAMS]
    for words, say in {
        ("--seeds=0,x",): "'0,x' must be whole numbers >= 0 that differ, divided by commas",
        ("--seeds=1", "--gin_param=train.seed=2"): "give one of them",
        ("--seeds=1", f"--run_dir={folder}/seed-0"): "is the folder of a run",
    }.items():
        assert train.main([*recipe, *words]) == 2
        assert say in capsys.readouterr().err


def test_the_report_groups_them(folder, tmp_path):
    page = tmp_path / "page.html"
    assert report.main([f"--run_dir={folder}", f"--output={page}", "--no_model"]) == 0
    text = page.read_text()
    short = text[text.index('<section id="short"') :]
    short = short[: short.index("</section>")]
    own = [runs.read_run(folder / f"seed-{seed}").summary for seed in (0, 3)]
    for key in ("natural_accuracy", "worst_case"):
        values = [100 * one[key] for one in own]
        assert f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f}" in short
    assert "run (seeds 0, 3)" in short and short.count("<tr") == 2


def test_runs_that_differ_otherwise_stand_alone(folder):
    ones = [runs.read_run(folder / f"seed-{seed}") for seed in (0, 3)]
    assert runs.by_seed(ones) == [[0, 1]]
    assert runs.by_seed([ones[0], ones[0]]) == [[0], [1]]
    ones[1].record["training"]["epochs"] = 2
    assert runs.by_seed(ones) == [[0], [1]]
