"""The catalogue: contents of every dataset that is at hand, validation split, errors."""

import pathlib
import sys
import types

import gin
import numpy as np
import pytest
import requests
import tensorflow as tf

from robust_tf import data
from robust_tf.data import prepared
from tests.data.places import real_folder, snapshot

_COUNTS = {  # per class, of the original training and test files
    "mnist": (
        [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
        [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
    ),
    "cifar10": ([5000] * 10, [1000] * 10),
}
_SHAPES = {"mnist": (28, 28, 1), "cifar10": (32, 32, 3)}


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise requests.ConnectionError("no network in tests")

    monkeypatch.setattr(requests, "head", refuse)


@pytest.fixture(scope="module", params=sorted(_COUNTS))
def real(request):
    folder = real_folder(request.param)
    before = snapshot(folder)
    loaded = data.load(request.param, data_dir=folder)
    assert snapshot(folder) == before  # reading writes nothing
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
    folder = real_folder("mnist")
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
    with pytest.raises(ValueError, match=r"data\(seed=-3\): must be an integer >= 0"):
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


def test_train_size_takes_the_first():
    whole, part = data.load("digits"), data.load("digits", train_size=30)
    np.testing.assert_array_equal(part.train.images, whole.train.images[:30])
    np.testing.assert_array_equal(part.validation.images, whole.validation.images)
    for size in (0, 1288):
        with pytest.raises(ValueError, match=rf"train_size is {size}; it must be 1 .. 1287"):
            data.load("digits", train_size=size)


@pytest.mark.parametrize(
    ("names", "expected"),
    [(["cat", "dog"], ("cat", "dog")), (["0", "1", "2"], None), ([], None), (None, None)],
)
def test_classes_have_names_that_are_no_numbers(monkeypatch, names, expected):
    label = types.SimpleNamespace(names=names)
    info = types.SimpleNamespace(features={"label": label})
    monkeypatch.setattr(prepared, "open_builder", lambda *_: types.SimpleNamespace(info=info))
    images, labels = np.zeros((2, 4, 4, 1), np.uint8), np.arange(2)
    monkeypatch.setattr(prepared, "read", lambda *_: ((images, labels), (images, labels)))
    assert prepared.label_names("mnist", None) == expected
    if not expected:
        assert data.load("mnist", validation_size=0).class_names is None


def test_a_name_for_every_class():
    split = data.Split(np.zeros((2, 4, 4, 1), np.uint8), np.arange(2))
    with pytest.raises(ValueError, match="3 class_names for 2 classes; give one for each"):
        data.Data("mine", split, split, split, 2, class_names=("a", "b", "c"))
