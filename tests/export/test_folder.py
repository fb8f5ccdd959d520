"""What an export leaves on the disk, and what it leaves as it is."""

import os

import keras
import numpy as np
import pytest
import tensorflow as tf

from robust_tf import evaluation, export, files
from robust_tf.attacks import PGD
from robust_tf.data import Split
from robust_tf.export import conversion, load_check, provenance, writer
from robust_tf.models import MLP
from robust_tf.runs import RunError, read_run
from tests import tiny
from tests.inference import fakes


@pytest.fixture(autouse=True, scope="module")
def quick():
    """These tests are about files, whatever is in them."""
    patch = pytest.MonkeyPatch()
    patch.setattr(writer.tf.saved_model, "save", lambda module, path, signatures: save(path))
    patch.setattr(writer.rest, "write_examples", lambda folder, signatures: None)
    yield
    patch.undo()


def save(path):
    os.makedirs(os.path.join(path, "variables"))
    files.write_text(os.path.join(path, "saved_model.pb"), "graph")


def test_a_folder_in_use_is_left_as_it_is(tmp_path):
    network = MLP((2,), 3)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(ValueError, match="mine is not empty and holds no SavedModel"):
            export.export(network, tmp_path / "mine", overwrite)
        with pytest.raises(ValueError, match="is a file"):
            export.export(network, tmp_path / "mine" / "thesis.tex", overwrite)
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "years of work"


def test_overwrite_replaces_an_export_and_nothing_else(tmp_path):
    network, folder = MLP((2,), 3), tmp_path / "net"
    folder.mkdir()
    export.export(network, folder)
    with pytest.raises(ValueError, match="holds an export already; --overwrite"):
        export.export(network, folder)
    export.export(network, folder, overwrite=True, formats=["keras"])
    assert sorted(os.listdir(folder)) == ["README.md", "model.keras", "model_card.json"]
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"notes\.txt, which no export writes"):
        export.export(network, folder, overwrite=True)
    assert sorted(os.listdir(tmp_path)) == ["net"]


def test_what_fails_leaves_what_was_there(tmp_path, monkeypatch):
    network, folder = MLP((2,), 3), tmp_path / "net"
    export.export(network, folder)
    before = (folder / "model_card.json").read_bytes()

    def fails(*args):
        raise export.SmokeTestError("another output")

    monkeypatch.setattr(writer, "smoke_test", fails)
    for place in (folder, tmp_path / "new"):
        with pytest.raises(export.SmokeTestError):
            export.export(network, place, overwrite=True, smoke=True)
    assert os.listdir(tmp_path) == ["net"]
    assert (folder / "model_card.json").read_bytes() == before
    (tmp_path / "file").write_text("")
    with pytest.raises(files.FileError, match="cannot write"):
        export.export(network, tmp_path / "file" / "net")


def test_what_was_there_is_deleted_last(tmp_path, monkeypatch):
    place = tmp_path / "net"

    def write(text):
        with writer.replacing(str(place)) as new:
            os.makedirs(new)
            files.write_text(os.path.join(new, "README.md"), text)

    write("old")
    real, moved = tf.io.gfile.rename, []

    def fails_once_aside(source, target, overwrite=False):
        moved.append(target)
        if len(moved) == 3:
            raise tf.errors.UnavailableError(None, None, "gone")
        real(source, target, overwrite)

    with monkeypatch.context() as patch:
        patch.setattr(tf.io.gfile, "rename", fails_once_aside)
        with pytest.raises(files.FileError, match="gone"):
            write("new")
    assert len(moved) == 4 and os.listdir(tmp_path) == ["net"]
    assert (place / "README.md").read_text() == "old"

    def half_way(path):
        raise tf.errors.UnavailableError(None, None, "gone")

    with monkeypatch.context() as patch:
        patch.setattr(tf.io.gfile, "rmtree", half_way)
        write("new")
    assert (place / "README.md").read_text() == "new"
    [aside] = set(os.listdir(tmp_path)) - {"net"}
    assert (tmp_path / aside / "README.md").read_text() == "old"


def test_what_cannot_be_exported_is_said(tmp_path):
    network = MLP((2,), 3)
    with pytest.raises(TypeError, match="takes a SplitClassifier, got Sequential"):
        export.export(keras.Sequential([keras.layers.Dense(2)]), tmp_path / "net")
    with pytest.raises(ValueError, match="no format 'tflite'; did you mean tflite_"):
        export.export(network, tmp_path / "net", formats=["tflite"])
    with pytest.raises(ValueError, match="no formats"):
        export.export(network, tmp_path / "net", formats=[])
    with pytest.raises(ValueError, match="tflite_int8 needs training images"):
        export.export(network, tmp_path / "net", formats=["tflite_int8"])
    with pytest.raises(ValueError, match="onnx cannot hold a manifold transformation"):
        export.export(fakes.defended(), tmp_path / "net", formats=["onnx"])
    assert not os.listdir(tmp_path)


def test_a_missing_converter_is_named(monkeypatch, tmp_path):
    import builtins

    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "tf2onnx":
            raise ImportError("No module named 'tf2onnx'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ValueError, match=r"onnx needs tf2onnx .* pip install .*\[onnx\]"):
        export.export(MLP((2,), 3), tmp_path / "net", formats=["onnx"])


def test_converted_files_are_measured(tmp_path):
    """On images that are easily told apart, by every format that is no SavedModel."""
    pytest.importorskip("tf2onnx", reason="pip install -e '.[onnx]'")
    network = tiny.tiny_network(batch_norm=True)
    x, y = tiny.labelled(60)
    network.compile(
        keras.optimizers.Adam(0.02), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    network.fit(x, y, epochs=8, verbose=0)
    test = Split(*tiny.labelled(45, seed=1))
    attack = PGD(0.3, 0.1, 5)
    calibration = export.CalibrationData(Split(x, y), test, attack, "PGD")
    formats = ["onnx", "tflite_int8", "keras", "tflite_float16"]
    card = export.export(network, tmp_path / "net", formats=formats, calibration=calibration)
    found = {entry["format"]: entry for entry in card["files"]}
    assert list(found) == [name for name in conversion.FORMATS if name in formats]
    own = evaluation.evaluate(network, test, {"PGD": attack}, batch_size=45, checks=False)
    assert found["keras"]["natural"] == own.natural_accuracy > 0.9
    assert found["keras"]["robust"] == own.accuracy("PGD") < own.natural_accuracy - 0.2
    for name in formats:
        assert abs(found[name]["natural"] - found["keras"]["natural"]) < 0.05
        assert abs(found[name]["robust"] - found["keras"]["robust"]) < 0.15
        assert found[name]["bytes"] == os.path.getsize(tmp_path / "net" / found[name]["file"])
    for name, tolerance in (("onnx", 1e-4), ("tflite_float16", 1e-2), ("tflite_int8", 0.3)):
        runner = conversion.runner(str(tmp_path / "net" / conversion.FILES[name]))
        for size in (1, 7, 45):
            logits = runner(test.images[:size])
            assert logits.shape == (size, 3)
            np.testing.assert_allclose(logits, network(test.images[:size]), atol=tolerance)
    for name, load in (
        ("onnx", load_check.onnx),
        ("tflite_float16", load_check.lite),
    ):  # from a bucket
        away = f"ram://{tmp_path}/{conversion.FILES[name]}"
        tf.io.gfile.copy(str(tmp_path / "net" / conversion.FILES[name]), away, overwrite=True)
        logits = load(away)("", {"images": test.images[:7]})["logits"]
        tiny.same_bits(logits, conversion.runner(away)(test.images[:7]))
    text = (tmp_path / "net" / "README.md").read_text()
    assert "upper bound" in text and "| tflite_int8 | `model_int8.tflite` |" in text


def test_the_card_quotes_results_of_its_own_model_and_names_their_defence(tmp_path):
    attacks = {"PGD": PGD(0.1, 0.05, 2)}
    network, (x, y) = tiny.tiny_network(), tiny.labelled(12)
    own = evaluation.evaluate(network, (x, y), attacks, checks=False, eight_bits=True).to_json()
    about = {"name": "thirds", "split": "test"}
    result = {"run_dir": "r", "data": about, "evaluation": own}
    summary = {"data": {"name": "thirds"}, "evaluation": own}
    files.write_json(tmp_path / "summary.json", summary)
    files.write_json(tmp_path / "own.json", result)
    files.write_json(tmp_path / "best.json", {**result, "model": "runs/x/best.keras"})
    files.write_json(tmp_path / "weights.json", {**result, "evaluation": {**own, "model": "0"}})
    split = {**result, "data": {"name": "thirds", "split": "train"}}
    files.write_json(tmp_path / "train.json", split)
    defence = {"kind": "imt+", "delta": 0.05, "gate": [0.3, 0.7], "adaptive": "full"}
    behind = {"PGD": evaluation.OBLIVIOUS + "PGD"}
    moved = {**own, "attacks": {behind[k]: v for k, v in own["attacks"].items()}, "balls": {}}
    files.write_json(tmp_path / "imt.json", {**result, "inference": defence, "evaluation": moved})
    found = provenance.of_run(read_run(tmp_path))
    quoted = {one["file"]: one for one in found["results"]}
    assert list(quoted) == ["summary.json", "imt.json", "own.json", "train.json"]
    assert "--eight_bits" in quoted["own.json"]["command"]
    said = " ".join(found["missing"])
    assert "best.json is left out: it is of the model runs/x/best.keras" in said
    assert "weights.json is left out: it is of other weights" in said
    export.export(network, tmp_path / "net", about=found)
    text = (tmp_path / "net" / "README.md").read_text()
    gated = "(imt.json, behind imt+, delta 0.05, gate 0.3 to 0.7, which this export does not hold)"
    assert f"On 12 test images {gated}" in text and "On 12 test images (own.json):" in text
    assert "On 12 train images (train.json)" in text and "best.keras**" not in text
    export.export(fakes.defended(), tmp_path / "net", overwrite=True, about=found)
    text = (tmp_path / "net" / "README.md").read_text()
    assert "(imt.json, behind imt+, delta 0.05, gate 0.3 to 0.7):" in text
    assert "(own.json, of the network alone, without the transformation):" in text
    assert provenance.of_run(read_run(tmp_path), "another")["results"][0]["file"] == "imt.json"


@pytest.mark.parametrize("evaluated", [None, {}, {"examples": 3}])
def test_a_summary_without_a_sound_evaluation(tmp_path, evaluated):
    summary = {"evaluation": evaluated, "data": None, "configuration": None, "versions": None}
    files.write_json(tmp_path / "summary.json", summary)
    run = read_run(tmp_path)
    found = provenance.of_run(run)
    assert found["results"] == [] and found["data"] == {}
    assert any("summary.json" in line for line in found["missing"])
    if not evaluated:
        assert run.attacks == {}


def test_a_summary_whose_evaluation_is_no_object_is_damaged(tmp_path):
    files.write_json(tmp_path / "summary.json", {"evaluation": 3, "data": None})
    with pytest.raises(RunError, match="summary.json is damaged: its 'evaluation' is 3"):
        read_run(tmp_path)
    run = read_run(tmp_path, tolerant=True)
    found = provenance.of_run(run)
    assert run.attacks == {} and found["results"] == [] and found["data"] == {}
    assert any("summary.json" in line for line in found["missing"])


def test_runs_that_say_little_give_a_card_that_says_so(tmp_path):
    (tmp_path / "half.json").write_text('{"evaluation": ')
    (tmp_path / "other.json").write_text('{"evaluation": {"examples": 3}}')
    (tmp_path / "metrics.jsonl").write_text("")
    about = provenance.of_run(read_run(tmp_path))
    assert about["method"] == "unknown" and about["results"] == [] and about["eps"] is None
    said = " ".join(about["missing"])
    for part in ("summary.json holds no evaluation", "half.json", "other.json", "no config.gin"):
        assert part in said
    card = export.export(MLP((2,), 3), tmp_path / "net", about=about)
    assert card["training"] == about
    assert "half.json is left out" in (tmp_path / "net" / "README.md").read_text()
    assert tf.io.gfile.exists(str(tmp_path / "net" / "saved_model.pb"))
