"""What an export leaves on the disk, and what it leaves alone."""

import os

import keras
import numpy as np
import pytest
import tensorflow as tf

from robust_tf import evaluation, export, files
from robust_tf.attacks import PGD, AutoAttack, MultiTargeted
from robust_tf.data import Split
from robust_tf.export import conversion, provenance, writer
from robust_tf.models import MLP
from tests import tiny
from tests.inference import stand_in


@pytest.fixture(autouse=True, scope="module")
def quick():
    """These tests are about files, whatever is in them."""
    patch = pytest.MonkeyPatch()
    patch.setattr(writer.tf.saved_model, "save", lambda module, path, signatures: save(path))
    patch.setattr(writer.rest, "write_examples", lambda folder, served: None)
    yield
    patch.undo()


def save(path):
    os.makedirs(os.path.join(path, "variables"))
    files.write_text(os.path.join(path, "saved_model.pb"), "graph")


def test_a_folder_in_use_is_left_alone(tmp_path):
    network = MLP((2,), 3)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(ValueError, match="mine is not empty and holds no SavedModel"):
            export.export(network, tmp_path / "mine", overwrite)
        with pytest.raises(ValueError, match="is a file"):
            export.export(network, tmp_path / "mine" / "thesis.tex", overwrite)
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "years of work"


def test_overwrite_replaces_an_export_that_is_whole_and_alone(tmp_path):
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
        export.export(stand_in.defended(), tmp_path / "net", formats=["onnx"])
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
    trial = export.Trial(Split(x, y), test, attack, "PGD")
    formats = ["onnx", "tflite_int8", "keras", "tflite_float16"]
    card = export.export(network, tmp_path / "net", formats=formats, trial=trial)
    found = {entry["format"]: entry for entry in card["files"]}
    assert list(found) == [name for name in conversion.FORMATS if name in formats]
    own = evaluation.evaluate(network, test, {"PGD": attack}, batch_size=45, checks=False)
    assert found["keras"]["natural"] == own.natural_accuracy > 0.9
    assert found["keras"]["robust"] < own.natural_accuracy - 0.2
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
    text = (tmp_path / "net" / "README.md").read_text()
    assert "upper bound" in text and "| tflite_int8 | `model_int8.tflite` |" in text


@pytest.mark.parametrize(
    "attack",
    [
        PGD(0.3, 0.01, 40, restarts=2),
        MultiTargeted(PGD(8 / 255, 0.01, 7, norm="L2", targeted=True)),
        AutoAttack(eps=0.1),
    ],
)
def test_commands_of_the_card_say_the_same_attack(attack):
    text = provenance.text_of(attack)
    assert evaluation.parse_attack(text) == attack


def test_runs_that_say_little_give_a_card_that_says_so(tmp_path):
    (tmp_path / "half.json").write_text('{"evaluation": ')
    (tmp_path / "other.json").write_text('{"evaluation": {"examples": 3}}')
    about = provenance.of_run(str(tmp_path))
    assert about["method"] == "unknown" and about["results"] == [] and about["eps"] is None
    said = " ".join(about["missing"])
    for part in ("summary.json holds no evaluation", "half.json", "other.json", "no config.gin"):
        assert part in said
    card = export.export(MLP((2,), 3), tmp_path / "net", about=about)
    assert card["training"] == about
    assert "half.json is left out" in (tmp_path / "net" / "README.md").read_text()
    assert tf.io.gfile.exists(str(tmp_path / "net" / "saved_model.pb"))
