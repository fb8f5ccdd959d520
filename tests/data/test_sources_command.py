"""From a folder of pictures to a run, its evaluation and its report, by the commands."""

import pathlib

import numpy as np
import pytest

from robust_tf import data, files, runs
from robust_tf.cli import evaluate, train
from tests.data import pictures

RECIPE = """
data.source = @ImageFolder
ImageFolder.image_size = 18
train.network = @CNN
CNN.filters = 2
CNN.hidden = 8
train.epochs = 2
train.batch_size = 8
train.evaluation_attacks = {'FGSM': @evaluation/FGSM()}
evaluation/FGSM.eps = 0.03
"""


@pytest.fixture
def folder(tmp_path):
    """Bright and dark pictures."""
    place = tmp_path / "my pictures"
    for kind, offset in (("dark", 0), ("light", 128)):
        for number in range(20):
            image = pictures.noise(number + offset) // 2 + offset
            pictures.write(place / kind / f"{number}.png", pictures.png(image.astype(np.uint8)))
    return place


def _command(tmp_path, folder, *options):
    recipe = pictures.write(tmp_path / "recipe.gin", RECIPE.encode())
    where = f"--gin_param=ImageFolder.directory={str(folder)!r}"
    return [f"--gin_file={recipe}", where, f"--run_dir={tmp_path / 'run'}", *options]


def test_train_and_evaluate(tmp_path, folder, capsys, monkeypatch):
    assert train.main(_command(tmp_path, folder)) == 0, capsys.readouterr().err
    said = capsys.readouterr().err
    assert "note: my pictures: it has no test images: 8 of" in said and "warning" not in said
    record = files.read_json(tmp_path / "run" / "run.json")["data"]
    assert record["name"] == "my pictures" and record["class_names"] == ["dark", "light"]
    assert record["image_size"] == [18, 18] and record["resize"] == "pad"
    assert record["source"]["name"] == "ImageFolder" and (record["train"], record["test"]) == (
        29,
        8,
    )
    own = ["--attacks=FGSM(eps=0.03)", "--no_checks", f"--run_dir={tmp_path / 'run'}"]
    output = tmp_path / "a.json"
    assert evaluate.main([*own, f"--output={output}"]) == 0, capsys.readouterr().err
    assert "not those that the run saw" not in capsys.readouterr().err
    mine = files.read_json(tmp_path / "run" / "summary.json")["evaluation"]
    got = files.read_json(output)
    assert got["evaluation"]["natural_accuracy"] == mine["natural_accuracy"]
    assert got["evaluation"]["data_hash"] == mine["data_hash"]
    assert got["data"]["name"] == "my pictures"
    assert train.main(_command(tmp_path, folder)) == 0
    assert "finished earlier" in capsys.readouterr().out
    # Another folder, of which one class is missing and which has no splits.
    other = tmp_path / "other"
    for number in range(3):
        image = pictures.noise(99 + number, 16, 16)
        pictures.write(other / "light" / f"{number}.png", pictures.png(image))
    assert evaluate.main([*own, f"--dataset={other}", f"--output={output}", "--shard=1/1"]) == 0
    printed = capsys.readouterr()
    assert "all 3 images are taken" in printed.err
    got = files.read_json(output)
    assert got["evaluation"]["total_examples"] == 3 and got["data"]["dataset"] == str(other)
    assert runs.read_run(str(tmp_path / "run")).data["class_names"] == ["dark", "light"]
    assert evaluate.main([*own, f"--dataset={tmp_path / 'none'}"]) == 2
    assert "no such file or folder" in capsys.readouterr().err


def test_a_broken_picture_is_told_before_training(tmp_path, folder, capsys):
    whole = (folder / "dark" / "3.png").read_bytes()
    for number in (3, 4):
        (folder / "dark" / f"{number}.png").write_bytes(whole[: len(whole) // 2])
    for options in (["--dry_run"], [], ["--gin_param=data.in_memory=False"]):
        command = _command(tmp_path, folder, "--gin_param=data.validation_size=3", *options)
        assert train.main(command) == 2
        said = capsys.readouterr().err
        assert "dark/3.png: " in said and "dark/4.png: " in said and "2 images cannot" in said
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("in_memory", [True, False])
def test_dry_run_tells_what_it_found(tmp_path, folder, capsys, in_memory):
    option = f"--gin_param=data.in_memory={in_memory}"
    assert train.main(_command(tmp_path, folder, "--dry_run", option)) == 0
    said = capsys.readouterr().out
    where = "in memory" if in_memory else "read when needed"
    assert f"29 training, 3 validation, 8 test images (18, 18, 3), {where}" in said
    assert "classes     dark, light" in said


def test_the_same_weights_from_memory_and_from_the_files(tmp_path, folder, capsys):
    for name, in_memory in (("held", True), ("read", False)):
        options = [f"--gin_param=data.in_memory={in_memory}", f"--run_dir={tmp_path / name}"]
        assert train.main(_command(tmp_path, folder, *options)) == 0, capsys.readouterr().err
    one, other = (
        runs.read_run(str(tmp_path / name)).model.get_weights() for name in ("held", "read")
    )
    for mine, theirs in zip(one, other, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    summaries = [files.read_json(tmp_path / n / "summary.json") for n in ("held", "read")]
    assert summaries[0]["data"]["fingerprint"] == summaries[1]["data"]["fingerprint"]
    assert summaries[0]["evaluation"]["data_hash"] == summaries[1]["evaluation"]["data_hash"]


MODULE = """
import gin, numpy as np, tensorflow as tf
from robust_tf import data

@gin.configurable
def my_pictures(count=10, kind="dataset"):
    images = np.random.default_rng(0).integers(0, 256, (count, 18, 18, 3), np.uint8)
    labels = np.arange(count) % 3
    if kind == "dataset":
        def made():
            return tf.data.Dataset.from_tensor_slices((images, labels))
    else:
        def made():
            return images, labels
    return {"train": made(), "test": made(), "class_names": ["a", "b", "c"]}
"""


def test_a_function_of_the_users_own(tmp_path, capsys, monkeypatch):
    pictures.write(tmp_path / "lab_of_mine.py", MODULE.encode())
    monkeypatch.syspath_prepend(str(tmp_path))
    recipe = "import lab_of_mine\n" + RECIPE.replace("@ImageFolder", "@my_pictures")
    recipe = recipe.replace("ImageFolder.image_size = 18", "my_pictures.count = 40")
    recipe = pictures.write(tmp_path / "recipe.gin", recipe.encode())
    for name, in_memory in (("held", True), ("read", False)):
        options = [f"--gin_param=data.in_memory={in_memory}", f"--run_dir={tmp_path / name}"]
        assert train.main([f"--gin_file={recipe}", *options]) == 0, capsys.readouterr().err
        command = [f"--run_dir={tmp_path / name}", "--attacks=FGSM(eps=0.1)", "--no_checks"]
        assert evaluate.main(command) == 0, capsys.readouterr().err
        assert "not those" not in capsys.readouterr().err
    record = files.read_json(tmp_path / "held" / "run.json")["data"]
    assert record["source"]["arguments"] == {"count": 40} and record["name"] == "my_pictures"
    assert record["test"] == 40 and record["class_names"] == ["a", "b", "c"]


def test_what_a_function_may_give():
    images, labels = np.zeros((9, 4, 4, 1), np.uint8), np.array([0, 1, 3] * 3)
    with pytest.warns(data.DataNote, match=r"labels are 0 \.\. 3, but 1 class has no image: 2"):
        found = data.load(source=lambda: {"train": (images, labels), "test": (images, labels)})
    assert found.num_classes == 4 and len(found.validation) == 1
    own = data.Data("mine", *[data.Split(images, labels)] * 3, num_classes=4)
    assert data.load(source=lambda: own).name == "mine"
    for wrong, says in (
        ({"test": (images, labels)}, "known are train"),
        ({"train": 3}, "'train' of"),
        ([1], "must be a source"),
    ):
        with pytest.raises((data.DataError, ValueError), match=says):
            data.load(source=lambda wrong=wrong: wrong)
    with pytest.raises(data.DataError, match="one class"):
        data.load(source=lambda: {"train": (images, labels * 0), "test": (images, labels * 0)})


def test_recorded_data_that_are_gone(tmp_path):
    source = {"module": "no.such_module", "name": "f", "arguments": {}}
    says = "needs the module no.such_module, which is not in .*or --dataset"
    with pytest.raises(data.DataError, match=says):
        data.load_recorded({"name": "x", "source": source})
    with pytest.raises(data.DataError, match="There is no dataset 'x'"):
        data.load_recorded({"name": "x"})
    with pytest.raises(data.DataError, match="does not say"):
        data.load_recorded({})
    assert pathlib.Path(tmp_path).exists()
