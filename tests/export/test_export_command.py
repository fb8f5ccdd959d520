"""`bin/export` on a run folder: whole exports, proved in a new process, and mistakes."""

import contextlib
import io
import re

import numpy as np
import pytest
import tensorflow as tf

from robust_tf import attacks, data, evaluation, export, files, runs
from robust_tf.cli import evaluate
from robust_tf.cli import export as command
from robust_tf.export import smoke, writer
from robust_tf.models import MLPDiscriminator
from robust_tf.runs import run as run_folders
from tests.linear import trained

ATTACK = {"PGD-3 eps=0.05": attacks.PGD(eps=0.05, step_size=0.02, steps=3)}
CONFIGURATION = "eps = 0.05\nATLD.disc_input = 'logits'\n"


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """What a run of ATLD leaves, with a discriminator that was never trained."""
    digits = data.load("digits", validation_size=100, seed=4)
    network = trained(digits)
    folder = tmp_path_factory.mktemp("runs") / "atld"
    folder.mkdir()
    network.save(folder / "model.keras")
    MLPDiscriminator(10, 10, hidden=(8,)).save(folder / "discriminator.keras")
    found = evaluation.evaluate(network, digits.test, ATTACK, batch_size=360, checks=False)
    about = {"name": "digits", "validation_size": 100, "seed": 4, "test": 360}
    report = {"data": about, "evaluation": found.to_json()}
    summary = {"method": "ATLD", "configuration": CONFIGURATION, **report}
    files.write_json(folder / "summary.json", summary)
    files.write_json(folder / "pgd.json", report)
    files.write_text(folder / "config.gin", CONFIGURATION)
    return folder


@pytest.fixture(scope="module")
def defended(run_dir, tmp_path_factory):
    """An export with --inference, and what the command said."""
    folder = tmp_path_factory.mktemp("exports") / "defended"
    arguments = [f"--run_dir={run_dir}", f"--export_dir={folder}", "--inference=imt+"]
    with contextlib.redirect_stderr(io.StringIO()) as said:
        assert command.main([*arguments, "--formats=saved_model,keras"]) == 0, said.getvalue()
    return folder, said.getvalue()


def test_a_defended_model_with_its_card(run_dir, defended):
    folder, said = defended
    assert "imt+: delta 0.05, 0.025 where 0.3 < D0 < 0.7" in said
    assert "smoke test in a new process: 42 of 42 outputs have the bits" in said
    card = files.read_json(folder / "model_card.json")
    assert card["model"]["inference"]["gate"] == [0.3, 0.7]
    assert card["training"]["eps"] == 0.05 and card["training"]["method"] == "ATLD"
    assert (folder / "config.gin").read_text() == CONFIGURATION
    assert [result["file"] for result in card["training"]["results"]] == [
        "summary.json",
        "pgd.json",
    ]
    attack = "PGD(eps=0.05, step_size=0.02, steps=3)"
    assert f'--attacks="{attack}"' in card["training"]["results"][1]["command"]
    text = (folder / "README.md").read_text()
    for part in ("BPDA", "without the transformation", "imt+", ":predict", "## Limits"):
        assert part in text
    assert all(f"`{name}`:" in text for name in card["signatures"])
    x = tf.constant(data.load("digits").test.images[:9] / np.float32(255))
    model = runs.load_inference(run_dir, "imt+", delta=0.05)
    moved = tf.saved_model.load(str(folder)).signatures["defend"](images=x)["images"]
    np.testing.assert_array_equal(moved, tf.function(model.transform)(x))
    assert np.abs(moved - x).max() > 0.02


def test_what_the_command_prints_runs_and_evaluates_as_the_run_does(
    run_dir, tmp_path, capsys, monkeypatch
):
    proof = {"compared": 1, "same_bits": 1, "batch_sizes": [1], "load_seconds": {}}
    monkeypatch.setattr(writer, "smoke_test", lambda *args: proof)
    real, read = run_folders.load_model, []
    monkeypatch.setattr(run_folders, "load_model", lambda path: read.append(path) or real(path))
    exported = str(tmp_path / "exported")
    assert command.main([f"--run_dir={run_dir}", f"--export_dir={exported}"]) == 0
    said = capsys.readouterr().out.splitlines()
    # The detector judges the network that was read, not a twin.
    assert read == [str(run_dir / "model.keras")]
    stored = tf.train.list_variables(f"{exported}/variables/variables")
    assert sum(shape == [49, 10] for _, shape in stored) == 1
    assert len(said) == 3 and said[0].startswith(f"wrote {exported}: images float32 [28, 28, 1]")
    scope = {"tf": tf}
    exec(said[1].strip(), scope)
    assert eval(said[2].strip(), scope).shape == (1, 10)
    detected = scope["model"].signatures["detect"].structured_outputs
    assert set(detected) == {"entropy", "natural_probability"}  # the run has a discriminator
    tables = []
    for model in (exported, str(run_dir / "model.keras")):
        arguments = [f"--model={model}", "--dataset=digits", "--max_examples=50", "--no_checks"]
        assert evaluate.main([*arguments, "--attacks=PGD(eps=.05, step_size=.02, steps=3)"]) == 0
        lines = capsys.readouterr().out.splitlines()
        tables.append([line.split("%")[0] for line in lines])
    assert tables[0] == tables[1]


def test_a_file_that_gives_other_outputs_is_not_written(run_dir, tmp_path, capsys, monkeypatch):
    def another(folder, calls, imports):
        given, outputs = references[0](1)
        found = {
            f"{name}/{size}": references[0](size)[1][name] for name in outputs for size in (1, 7)
        }
        found["attack/7"]["images"] += 1e-6
        return found, {}

    references = []
    build = smoke.Reference.__init__

    def kept(self, *args):
        references.append(self)
        build(self, *args)

    monkeypatch.setattr(smoke.Reference, "__init__", kept)
    monkeypatch.setattr(smoke, "_in_a_new_process", another)
    assert command.main([f"--run_dir={run_dir}", f"--export_dir={tmp_path / 'e'}"]) == 2
    assert "nothing was written: 1 of 30 outputs differ" in capsys.readouterr().err
    assert not (tmp_path / "e").exists()


@pytest.mark.slow
def test_a_file_that_cannot_be_loaded_is_not_written(tmp_path):
    broken = tmp_path / "model.keras"
    broken.write_text("half a file")
    with pytest.raises(smoke.SmokeTestError, match="fail in a new process"):
        smoke._in_a_new_process(str(tmp_path), {"model.keras/1": {"images": np.zeros(1)}})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--run_dir={run}", "--formats=savedmodel"], "no format 'savedmodel'; did you mean saved"),
        (["--run_dir={run}", "--formats=,"], "no formats: give one or more of saved_model"),
        (["--run_dir={run}", "--inference=imt", "--formats=onnx"], "onnx cannot hold a manifold"),
        (["--run_dir={run}", "--delta=0.1"], "--delta belongs to --inference"),
        (["--run_dir={run}", "--adaptive=quick"], "unrecognized arguments: --adaptive"),
        (["--run_dir={half}"], "holds no model.keras: its training has not ended"),
        (["--run_dir={none}"], "there is no run folder"),
        (["--run_dir={plain}", "--inference=imt"], "holds no discriminator.keras"),
        (["--run_dir={plain}", "--formats=tflite_int8"], "does not say which data"),
        (["--run_dir={broken}"], "summary.json is not JSON"),
        (["--run_dir={run}", "--export_dir={run}", "--overwrite"], "is not empty and holds no"),
    ],
)
def test_mistakes_are_one_clear_line(arguments, message, run_dir, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(writer, "smoke_test", lambda *args: None)
    for name in ("half", "plain", "broken"):
        (tmp_path / name).mkdir()
    (tmp_path / "half" / "config.gin").write_text("eps = 0.1")
    for name in ("plain", "broken"):
        (tmp_path / name / "model.keras").write_bytes((run_dir / "model.keras").read_bytes())
    (tmp_path / "broken" / "summary.json").write_text('{"method": "AD')
    places = {name: tmp_path / name for name in ("half", "plain", "broken", "none")}
    places["run"] = run_dir
    arguments = [argument.format(**places) for argument in arguments]
    assert command.main([f"--export_dir={tmp_path / 'exported'}", *arguments]) == 2
    error = capsys.readouterr().err
    assert re.search(f"^error: .*{message}", error, re.MULTILINE), error
    assert not (tmp_path / "exported").exists()
    assert files.exists(run_dir / "model.keras")


def test_an_export_is_replaced_only_when_asked(run_dir, defended, capsys):
    folder, _ = defended
    before = (folder / "saved_model.pb").read_bytes()
    assert command.main([f"--run_dir={run_dir}", f"--export_dir={folder}"]) == 2
    assert "holds an export already; --overwrite replaces it" in capsys.readouterr().err
    assert (folder / "saved_model.pb").read_bytes() == before
    export.check_free(folder, overwrite=True)
