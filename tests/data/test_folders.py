"""Folders of prepared datasets: none, of others, damaged; each a clear error."""

import os
import shutil
import time

import pytest
import requests
import tensorflow as tf

from robust_tf import data
from robust_tf.data import prepared
from tests.data.places import real_folder


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise requests.ConnectionError("no network in tests")

    monkeypatch.setattr(requests, "head", refuse)


@pytest.mark.parametrize("name", ["mnist", "svhn_cropped"])
def test_no_copy_and_no_network(name, tmp_path, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("waits for the network"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(data.DataError) as caught:
        data.load(name)
    for part in (str(tmp_path), "--data_dir", "TFDS_DATA_DIR", "gin/adr_digits.gin", "no answer"):
        assert part in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_argument_goes_before_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    absent = tmp_path / "absent"
    with pytest.raises(data.DataError, match=r"absent \(--data_dir; it does not exist\)"):
        data.load("mnist", data_dir=str(absent))


def test_default_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(data.DataError, match=f"{tmp_path}/tensorflow_datasets .the default"):
        data.load("mnist")


def test_failed_download_is_explained(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(prepared, "_check_reachable", lambda source: None)
    monkeypatch.setattr(tfds, "builder", fail)
    with pytest.raises(data.DataError, match="disk full(.|\n)*--data_dir"):
        data.load("cifar100", data_dir=str(tmp_path))


def test_unreadable_folder(tmp_path, monkeypatch):
    def refuse(path):
        raise tf.errors.PermissionDeniedError(None, None, f"{path}; Permission denied")

    monkeypatch.setattr(tf.io.gfile, "listdir", refuse)
    with pytest.raises(data.DataError, match=f"{tmp_path}/mnist cannot be read.*Permission denied"):
        data.load("mnist", data_dir=str(tmp_path))


def test_folder_without_permission(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may read everything; test_unreadable_folder stands in")
    locked = tmp_path / "mnist"
    locked.mkdir(mode=0)
    with pytest.raises(data.DataError, match=f"{locked} cannot be read"):
        data.load("mnist", data_dir=str(tmp_path))


@pytest.fixture
def copy_of_mnist(tmp_path):
    source = os.path.join(real_folder("mnist"), "mnist")
    shutil.copytree(source, tmp_path / "mnist")
    for path in [tmp_path / "mnist", *(tmp_path / "mnist").rglob("*")]:
        path.chmod(0o755)
    return next((tmp_path / "mnist").iterdir())


def _flip_byte(folder):
    path = next(folder.glob("*train.tfrecord*"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


def _truncate(folder):
    path = next(folder.glob("*test.tfrecord*"))
    os.truncate(path, path.stat().st_size // 2)


def _cut_between_records(folder):
    path = next(folder.glob("*test.tfrecord*"))
    length = int.from_bytes(path.read_bytes()[:8], "little")
    os.truncate(path, 8 + 4 + length + 4)  # one whole record stays


def _remove(folder):
    next(folder.glob("*test.tfrecord*")).unlink()


def _break_json(folder):
    (folder / "dataset_info.json").write_text("{")


@pytest.mark.parametrize(
    "damage", [_flip_byte, _truncate, _cut_between_records, _remove, _break_json]
)
def test_damaged_copy(copy_of_mnist, damage):
    damage(copy_of_mnist)
    with pytest.raises(data.DataError, match=f"{copy_of_mnist} cannot be read"):
        data.load("mnist", data_dir=str(copy_of_mnist.parents[1]))


def test_unfinished_preparation_is_no_copy(copy_of_mnist):
    (copy_of_mnist / "dataset_info.json").unlink()
    with pytest.raises(data.DataError, match="There is no copy of mnist"):
        data.load("mnist", data_dir=str(copy_of_mnist.parents[1]))
