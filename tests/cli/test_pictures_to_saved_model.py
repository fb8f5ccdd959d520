"""From a folder of sample pictures of many sizes to a SavedModel that answers with names."""

import json
import shutil

import numpy as np
import tensorflow as tf

from robust_tf import data, files, runs
from robust_tf.cli import evaluate, export, report, train
from tests.data import pictures
from tests.report.outline import Outline

RECIPE = """
data.source = @ImageFolder
data.validation_size = 0
data.test_size = 6
ImageFolder.image_size = (20, 24)
ImageFolder.resize = 'crop'
train.network = @CNN
CNN.filters = 2
CNN.hidden = 8
train.epochs = 2
train.batch_size = 8
train.evaluation_attacks = {'FGSM': @evaluation/FGSM()}
evaluation/FGSM.eps = 0.03
"""


def test_the_names_go_all_the_way(tmp_path, capsys):
    folder = tmp_path / "samples"
    folder.mkdir()
    pictures.samples(folder)
    recipe = pictures.write(tmp_path / "recipe.gin", RECIPE.encode())
    run = str(tmp_path / "run")
    given = [f"--gin_file={recipe}", f"--gin_param=ImageFolder.directory={str(folder)!r}"]
    assert train.main([*given, f"--run_dir={run}"]) == 0, capsys.readouterr().err
    recorded = runs.read_run(run)
    assert recorded.class_names == ("drawing", "photo")
    told = {key: recorded.data[key] for key in ("image_size", "resize", "channels", "range")}
    assert told == {"image_size": [20, 24], "resize": "crop", "channels": 3, "range": [0.0, 1.0]}

    own = ["--attacks=FGSM(eps=0.03)", "--no_checks"]
    assert evaluate.main([f"--run_dir={run}", *own, f"--output={run}/fgsm.json"]) == 0
    result = files.read_json(tmp_path / "run/fgsm.json")
    assert result["data"]["class_names"] == ["drawing", "photo"]

    assert report.main([f"--run_dir={run}", "--examples=6"]) == 0, capsys.readouterr().err
    page = Outline((tmp_path / "run/report.html").read_text())
    assert {"drawing", "photo"} <= {text for _, text in page.all("td")}  # of the table by class
    charts = {spec["id"]: spec for spec in json.loads(page.by_id("charts")[2])}
    for name in ("chart-confusion-0", "chart-confusion-0-clean"):
        assert charts[name]["layout"]["xaxis"]["ticktext"] == ["drawing", "photo"]
    said = " ".join(attributes["alt"] for attributes, _ in page.all("img"))
    assert "class photo, predicted photo" in said or "class drawing, predicted drawing" in said

    exported = str(tmp_path / "exported")
    assert export.main([f"--run_dir={run}", f"--export_dir={exported}"]) == 0
    assert "logits, probabilities, class, label" in capsys.readouterr().out
    card = (tmp_path / "exported/README.md").read_text()
    assert "Classes, in the order of the logits: 0 drawing, 1 photo." in card
    assert "fills the model's size" in card and '"class": 1, "label": "photo"' in card
    serve = tf.saved_model.load(exported).signatures["serve_image_bytes"]
    source = data.ImageFolder(str(folder), (20, 24), "crop")
    split = data.load(source=source, validation_size=0, test_size=6, in_memory=False).test
    assert split.fingerprint == recorded.data["splits"]["test"]
    names = [split.reader.name(number) for number in split.numbers]
    found = serve(image_bytes=tf.stack([tf.io.read_file(name) for name in names]))
    x = tf.constant(split.images.astype(np.float32) / np.float32(255))
    model = recorded.model  # is read here, not in the graph
    logits = tf.function(lambda x: model(x, training=False))(x)
    np.testing.assert_array_equal(found["logits"], logits)
    answers = [("drawing", "photo")[number].encode() for number in np.argmax(logits, 1)]
    assert found["label"].numpy().tolist() == answers

    # A folder without the first class: its pictures still are of the second.
    shutil.copytree(folder / "photo", tmp_path / "others" / "photo")
    out = tmp_path / "others.json"
    given = [f"--model={exported}", f"--dataset={tmp_path / 'others'}", f"--output={out}"]
    assert evaluate.main([*given, *own]) == 0, capsys.readouterr().err
    result = files.read_json(out)
    assert result["data"]["class_names"] == ["drawing", "photo"]
    contents = [path.read_bytes() for path in sorted((tmp_path / "others/photo").iterdir())]
    classes = serve(image_bytes=tf.constant(contents))["class"].numpy()
    assert result["evaluation"]["natural_accuracy"] == (classes == 1).mean()
