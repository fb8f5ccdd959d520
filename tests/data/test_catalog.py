"""The catalogue: contents of every dataset that is at hand, validation split, errors."""

import os
import pathlib
import shutil
import sys
import time
import warnings

import gin
import numpy as np
import pytest
import requests
import tensorflow as tf

from robust_tf import data
from robust_tf.data import prepared

_REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
_COUNTS = {  # per class, of the original training and test files
    "mnist": (
        [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
        [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
    ),
    "cifar10": ([5000] * 10, [1000] * 10),
}
_SHAPES = {"mnist": (28, 28, 1), "cifar10": (32, 32, 3)}


def _real_folder(name: str) -> str:
    places = [os.environ.get("TFDS_DATA_DIR"), str(_REPOSITORY.parent / "shared" / "tfds")]
    for place in filter(None, places):
        if os.path.isdir(os.path.join(place, name)):
            return place
    message = f"REAL DATA NOT TESTED: no {name} in TFDS_DATA_DIR or in ../shared/tfds"
    warnings.warn(message, stacklevel=2)
    pytest.skip(message)


def _snapshot(folder: str) -> dict:
    return {p: p.stat().st_mtime_ns for p in pathlib.Path(folder).rglob("*")}


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise requests.ConnectionError("no network in tests")

    monkeypatch.setattr(requests, "head", refuse)


@pytest.fixture(scope="module", params=sorted(_COUNTS))
def real(request):
    folder = _real_folder(request.param)
    before = _snapshot(folder)
    loaded = data.load(request.param, data_dir=folder)
    assert _snapshot(folder) == before  # reading writes nothing
    return loaded


def _rows(images):
    return {row.tobytes() for row in images}


def test_real_data_is_whole(real):
    train_counts, test_counts = _COUNTS[real.name]
    assert (len(real.train), len(real.validation)) == (sum(train_counts) - 5000, 5000)
    assert len(real.test) == 10_000
    assert real.image_shape == _SHAPES[real.name]
    assert real.num_classes == 10
    for split in (real.train, real.validation, real.test):
        assert split.images.dtype == np.uint8 and split.labels.dtype == np.int32
        assert split.images.min() == 0 and split.images.max() == 255
    held_in = np.bincount(real.train.labels) + np.bincount(real.validation.labels)
    np.testing.assert_array_equal(held_in, train_counts)
    np.testing.assert_array_equal(np.bincount(real.test.labels), test_counts)


def test_real_validation_is_not_from_test(real):
    test, validation = _rows(real.test.images), _rows(real.validation.images)
    assert not test & validation
    # CIFAR-10 and MNIST hold hardly any duplicates: the validation images left the training set.
    assert len(_rows(real.train.images) & validation) <= 5


def test_order_is_that_of_the_files():
    folder = _real_folder("mnist")
    mnist = data.load("mnist", data_dir=folder, validation_size=0)
    for kind, split in (("train", mnist.train), ("test", mnist.test)):
        files = sorted(str(p) for p in pathlib.Path(folder, "mnist").rglob(f"*{kind}.tfrecord*"))
        records = tf.data.TFRecordDataset(files).take(200).as_numpy_iterator()
        stored = [tf.train.Example.FromString(record).features.feature for record in records]
        labels = [feature["label"].int64_list.value[0] for feature in stored]
        np.testing.assert_array_equal(split.labels[:200], labels)
        first = tf.io.decode_image(stored[0]["image"].bytes_list.value[0])
        np.testing.assert_array_equal(split.images[0], first)


def test_digits():
    digits = data.load()
    assert digits.name == "digits" and digits.image_shape == (28, 28, 1)
    assert (len(digits.train), len(digits.validation), len(digits.test)) == (1287, 150, 360)
    assert digits.train.images.dtype == np.uint8
    assert digits.train.images.min() == 0 and digits.train.images.max() > 240
    counts = np.bincount(digits.test.labels)
    assert counts.min() >= 34 and counts.max() <= 37
    test = _rows(digits.test.images)
    assert not test & _rows(digits.train.images) and not test & _rows(digits.validation.images)


def test_digits_resize_is_bilinear():
    from sklearn.datasets import load_digits

    small = load_digits().images
    digits = data.load(validation_size=0)
    expected = tf.image.resize(small[..., None] * (255 / 16), (28, 28)).numpy()
    for image in digits.test.images[:40].astype(np.float32):
        distance = np.abs(expected - image).max(axis=(1, 2, 3))
        assert distance.min() <= 0.51  # rounded to whole levels


def test_moons():
    moons = data.load("moons")
    assert moons.image_shape == (2,) and moons.num_classes == 2
    assert (len(moons.train), len(moons.validation), len(moons.test)) == (800, 200, 1000)
    assert moons.train.images.dtype == np.float32
    assert 0 < moons.train.images.min() and moons.train.images.max() < 1


def test_validation_follows_the_seed_and_test_does_not():
    first, again, other = (data.load(seed=s) for s in (1, 1, 2))
    assert first.fingerprint() == again.fingerprint() != other.fingerprint()
    np.testing.assert_array_equal(first.validation.images, again.validation.images)
    assert not np.array_equal(first.validation.labels, other.validation.labels)
    np.testing.assert_array_equal(first.test.images, other.test.images)
    together = np.concatenate([first.train.labels, first.validation.labels])
    whole = data.load(validation_size=0)
    np.testing.assert_array_equal(np.bincount(together), np.bincount(whole.train.labels))
    assert len(whole.validation) == 0 and len(whole.train) == 1437


def test_fingerprint_sees_one_pixel_and_where_examples_are():
    base = data.load("digits")
    images = base.test.images.copy()
    images[3, 4, 5, 0] ^= 1
    changed = data.Data(
        "digits", base.train, base.validation, data.Split(images, base.test.labels), 10
    )
    assert changed.fingerprint() != base.fingerprint() != data.load(seed=5).fingerprint()
    assert len(base.fingerprint()) == 16


def test_split_is_read_only_and_take_is_the_front():
    mine = np.zeros((5, 2, 2, 1), np.uint8)
    split = data.Split(mine, np.arange(5))
    with pytest.raises(ValueError):
        split.images[0] = 1
    mine[0] = 1  # the caller's own array stays his
    assert len(split.take(3)) == 3 and split.take(3).labels.tolist() == [0, 1, 2]
    assert len(split.take(9)) == 5


@pytest.mark.parametrize(
    ("images", "labels", "says"),
    [
        (np.zeros((3, 2, 2, 1), np.uint8), np.eye(3), "one-hot|One-hot"),
        (np.zeros((3, 2, 2, 1), np.uint8), np.zeros(2, int), "do not fit"),
        (np.zeros((3, 2, 2, 1), np.int64), np.zeros(3, int), "int64.*uint8"),
        (np.full((3, 2), 255, np.float32), np.zeros(3, int), r"255.*\[0, 1\]"),
        (np.full((3, 2), np.nan, np.float32), np.zeros(3, int), "finite"),
    ],
)
def test_split_refuses(images, labels, says):
    with pytest.raises(ValueError, match=says):
        data.Split(images, labels)


def test_data_refuses_labels_outside_the_classes():
    split = data.Split(np.zeros((2, 2), np.float32), [0, 3])
    with pytest.raises(ValueError, match=r"0 \.\. 3.*0 \.\. 2"):
        data.Data("mine", split, split.take(0), split, 3)


@pytest.mark.parametrize(("wrong", "right"), [("minst", "mnist"), ("CIFAR-10", "cifar10")])
def test_unknown_name_suggests_and_lists(wrong, right):
    with pytest.raises(ValueError, match=f"Did you mean '{right}'.*digits.*svhn_cropped"):
        data.load(wrong)


@pytest.mark.parametrize("size", [-1, 1437, 2.5, True])
def test_validation_size_out_of_range(size):
    with pytest.raises(ValueError, match="validation_size"):
        data.load(validation_size=size)


def test_negative_seed():
    with pytest.raises(ValueError, match="seed is -3"):
        data.load(seed=-3)


def test_gin_names():
    gin.parse_config(
        "data.name = 'moons'\ndata.validation_size = 10\n"
        "Augmentation.pad = 0\nAugmentation.flip = False\n"
    )
    try:
        assert len(data.load().validation) == 10
        gin.parse_config("data.name = 'digits'\ndata.augmentation = @Augmentation()")
        gin.parse_config("Augmentation.pad = 3")
        assert data.load().augmentation == data.Augmentation(pad=3)
    finally:
        gin.clear_config()


def test_embedded_data_needs_no_tfds(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    data.load("digits")


@pytest.mark.parametrize("name", ["mnist", "svhn_cropped"])
def test_no_copy_and_no_network(name, tmp_path, monkeypatch):
    start = time.monotonic()
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(data.DataError) as caught:
        data.load(name)
    assert time.monotonic() - start < 5
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
    source = os.path.join(_real_folder("mnist"), "mnist")
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


def test_train_size_takes_the_first():
    whole, part = data.load("digits"), data.load("digits", train_size=30)
    np.testing.assert_array_equal(part.train.images, whole.train.images[:30])
    np.testing.assert_array_equal(part.validation.images, whole.validation.images)
    for size in (0, 1288):
        with pytest.raises(ValueError, match=rf"train_size is {size}; it must be 1 .. 1287"):
            data.load("digits", train_size=size)
