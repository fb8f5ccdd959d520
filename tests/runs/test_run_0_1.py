"""A run folder of version 0.1, which has no run.json: every command still works on it.

`tests/data/run_0_1` was made by version 0.1: `gin/atld_digits.gin` for one epoch on a very small
CNN, its features to the discriminator, and a result of `bin/evaluate` beside it.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from robust_tf import compat, files, runs
from robust_tf.cli import evaluate, export, figures, report
from robust_tf.evaluation import Evaluation
from robust_tf.runs import Run

FOLDER = Path(__file__).parent.parent / "data" / "run_0_1"
with_its_model = pytest.mark.skipif(
    not compat.KERAS_3, reason="its model.keras was written by Keras 3, this is Keras 2"
)


@pytest.fixture
def folder(tmp_path):
    """A copy of it."""
    return Path(shutil.copytree(FOLDER, tmp_path / "run"))


def test_what_it_was_given_is_read_from_its_gin_text(folder):
    run = runs.read_run(folder)
    assert "run.json" not in run.entries and run.finished and run.has_model
    assert (run.method, run.label, run.network["builder"]) == ("ATLD", "ATLD", "CNN")
    assert (run.threat, run.eps, run.step_size) == ("Linf", 0.15, 0.04)
    assert (run.evaluation_step_size, run.evaluation_steps) == (0.01, 2)
    assert run.disc_input == "features" and run.seed == 0 and run.precision == "float32"
    assert run.data["name"] == "digits" and run.data["test"] == 360
    assert run.record["training"]["epochs"] == 1 and run.record["training"]["optimizer"] == "@Adam"
    assert run.bindings["CNN.filters"] == 2 and run.bindings["evaluation/PGD.eps"] == 0.15
    assert run.bindings["MLPDiscriminator.hidden"] == [8]
    assert [attack.steps for attack in run.attacks.values() if hasattr(attack, "steps")] == [2]
    assert [row["epoch"] for row in run.metrics] == [1]
    assert set(run.evaluations) == {"summary.json", "smoke.json"}
    assert run.versions["robust_tf"] == "0.1.0" and run.left_out == []


def test_the_configuration_in_the_summary_does_not_contradict_config_gin(folder):
    """Version 0.1 had products that read the one and products that read the other."""
    summary = files.read_json(folder / "summary.json")
    text = (folder / "config.gin").read_text()
    assert summary["configuration"] == text
    summary["configuration"] = text.replace("eps = 0.15", "eps = 0.3")
    (folder / "summary.json").write_text(json.dumps(summary))
    assert Run(folder).eps == 0.15
    (folder / "config.gin").unlink()
    assert Run(folder).eps == 0.3


def test_gin_that_cannot_be_read_is_named(folder):
    (folder / "config.gin").write_text("eps = = 3")
    with pytest.raises(runs.RunError, match="config.gin is damaged: it is not a gin configuration"):
        Run(folder)
    run = Run(folder, tolerant=True)
    assert run.method == "ATLD" and any("config.gin is left out" in note for note in run.notes)


@with_its_model
def test_evaluate(folder, tmp_path, capsys):
    output = tmp_path / "result.json"
    command = [f"--run_dir={folder}", "--max_examples=12", "--draw=first", "--no_checks"]
    command += [f"--output={output}"]
    assert evaluate.main(command) == 0, capsys.readouterr().err
    found = Evaluation.from_json(files.read_json(output)["evaluation"])
    own = Run(folder).results[0].evaluation
    assert list(found.outcomes) == list(own.outcomes)
    np.testing.assert_array_equal(found.natural, own.natural[:12])


@with_its_model
def test_its_network_behind_the_transformation(folder):
    model = runs.load_inference(folder, "imt+", delta=0.05)
    assert model.disc_input == "features" and model.gate == (0.3, 0.7)
    assert model(np.zeros((2, 28, 28, 1), np.float32)).shape == (2, 10)


@with_its_model
def test_report(folder, capsys):
    assert report.main([f"--run_dir={folder}", "--examples=6"]) == 0
    said = capsys.readouterr()
    assert "cannot" not in said.err, said.err
    page = (folder / "report.html").read_text()
    for part in ("ATLD (ATLD)", "smoke.json", "CW-20", "eps 0.15, step size 0.04"):
        assert part in page, part


@with_its_model
@pytest.mark.parametrize(
    "kind, arguments",
    [("bars", ["--evaluation=smoke"]), ("training", []), ("grid", ["--examples=6", "--steps=2"])],
)
def test_figures(folder, tmp_path, kind, arguments):
    output = tmp_path / "a.svg"
    assert figures.main([kind, f"--run_dir={folder}", *arguments, f"--output={output}"]) == 0
    assert output.read_text().startswith("<?xml")


@with_its_model
def test_export(folder, tmp_path, capsys):
    exported = tmp_path / "exported"
    command = [f"--run_dir={folder}", f"--export_dir={exported}", "--formats=keras"]
    assert export.main(command) == 0, capsys.readouterr().err
    card = files.read_json(exported / "model_card.json")["training"]
    assert (card["method"], card["eps"], card["missing"]) == ("ATLD", 0.15, [])
    assert [result["file"] for result in card["results"]] == ["summary.json", "smoke.json"]
