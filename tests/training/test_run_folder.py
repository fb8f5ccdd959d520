"""The run folder: in memory, not to be written, on a disk that is full."""

import os
import resource
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from robust_tf import files
from robust_tf.training import CheckpointError, RunFolderError
from tests.training.runs import model_weights, moons, points_recipe, trainer


def test_a_folder_that_is_not_local(tmp_path):
    # TensorFlow's file system in memory: what gfile can do, and nothing that needs a local path.
    folder = "ram://runs/one"
    run = trainer(folder, points_recipe(), moons())
    summary = run.train()
    again = trainer(folder, points_recipe(), moons())
    assert again.resumed and again.finished and again.train() == summary
    trainer(tmp_path, points_recipe(), moons()).train()
    tf.io.gfile.copy(f"{folder}/model.keras", str(tmp_path / "copy.keras"))
    copy = keras.models.load_model(tmp_path / "copy.keras", compile=False)
    for a, b in zip(copy.get_weights(), model_weights(tmp_path), strict=True):
        np.testing.assert_array_equal(a, b)
    lines = files.read_lines(f"{folder}/metrics.jsonl")
    assert [line["epoch"] for line in lines] == [1, 2]
    with pytest.raises(RunFolderError, match="another configuration"):
        trainer(folder, points_recipe(), moons(), configuration="other")
    trainer(folder, points_recipe(), moons(), configuration="other", restart=True)
    assert not files.exists(f"{folder}/model.keras")


def test_folders_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file/run", "/proc/run"):
        with pytest.raises(RunFolderError, match=r"cannot be used: .*--run_dir"):
            trainer(folder, points_recipe(), moons())


def test_full_disk_before_and_in_training(tmp_path, monkeypatch):
    def full(*_):
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(tf.io.gfile.GFile, "write", full)
        with pytest.raises(RunFolderError, match="No space left on device"):
            trainer(tmp_path, points_recipe(), moons())
    run = trainer(tmp_path, points_recipe(), moons())
    monkeypatch.setattr(tf.train.CheckpointManager, "save", full)
    with pytest.raises(CheckpointError, match=r"No space left.*continues from none"):
        run.train()
    assert files.exists(str(tmp_path / "identity.json"))

    def silent(*_):  # as a bucket that does not answer; of workers it would be one that is gone
        raise tf.errors.UnavailableError(None, None, "503")

    monkeypatch.setattr(tf.train.CheckpointManager, "save", silent)
    with pytest.raises(CheckpointError, match=r"503.*continues from none"):
        run.checkpoints.save_last()
    run.checkpoints._several = True
    with pytest.raises(tf.errors.UnavailableError):
        run.checkpoints.save_last()


LIMITED = """
import resource, sys
from tests.training.runs import *
run = trainer(sys.argv[1], points_recipe(), moons())
run.checkpoints.save_last()
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try:
    run.train()
except OSError as error:
    print(type(error).__name__, error)
"""


def test_a_file_system_that_takes_no_more(tmp_path):
    assert resource.RLIMIT_FSIZE
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.stdout.startswith("CheckpointError cannot write a checkpoint"), done
    assert trainer(tmp_path, points_recipe(), moons()).resumed  # what was there is whole
