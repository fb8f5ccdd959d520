"""`Arrays`, `ImageTable` and `TFDS`: what they read, and what they refuse."""

import os
import warnings

import numpy as np
import pytest
import tensorflow as tf

from robust_tf import data
from tests.data import pictures
from tests.data.places import real_folder

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (60, 6, 5, 3), np.uint8)
LABELS = np.arange(60) % 3


def load(source, **options):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = data.load(source=source, **options)
    said = "\n".join(str(one.message) for one in caught if one.category is data.DataNote)
    return found, said


def _save(folder, name="mine.npz", **arrays):
    if name.endswith(".npz"):
        np.savez(folder / name, **arrays)
    else:
        for key, array in arrays.items():
            np.save(folder / f"{key}.npy", array)
    return folder / name if name.endswith(".npz") else folder


PAIRS = {"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES[:9] ^ 1, "y_test": LABELS[:9]}


@pytest.mark.parametrize("name", ["mine.npz", ""])
@pytest.mark.parametrize("in_memory", [True, False])
def test_arrays(tmp_path, name, in_memory):
    place = _save(tmp_path, name, **PAIRS)
    found, said = load(data.Arrays(str(place)), in_memory=in_memory, validation_size=6)
    assert found.train.in_memory == in_memory and found.num_classes == 3
    assert (len(found.train), len(found.validation), len(found.test)) == (54, 6, 9)
    np.testing.assert_array_equal(found.test.images, IMAGES[:9] ^ 1)
    together = np.concatenate([found.train.images, found.validation.images])
    assert {one.tobytes() for one in together} == {one.tobytes() for one in IMAGES}
    other, _ = load(data.Arrays(str(place)), in_memory=not in_memory, validation_size=6)
    assert other.fingerprint() == found.fingerprint()
    for (x, y), (x_other, y_other) in zip(
        data.epochs(found.train, 9, 2, seed=1), data.epochs(other.train, 9, 2, seed=1), strict=True
    ):
        np.testing.assert_array_equal(x, x_other)
        np.testing.assert_array_equal(y, y_other)
    assert "no validation images" in said


def test_arrays_of_many_kinds(tmp_path):
    names = np.array(["cat", "dog", "cow"])[LABELS]
    gray = IMAGES[..., 0] / 255.0
    place = _save(tmp_path, x_train=gray, y_train=names, x_val=gray[:3], y_val=names[:3])
    found, said = load(data.Arrays(str(place)), test_size=0.1)
    assert found.class_names == ("cat", "cow", "dog") and found.image_shape == (6, 5, 1)
    assert found.train.dtype == np.float32 and len(found.validation) == 3
    assert found.validation.labels.tolist() == [0, 2, 1]
    assert "of validation are in train, too: " in said and "mine.npz, validation, image" in said
    place = _save(tmp_path, **{**PAIRS, "y_train": LABELS[:, None] * 2, "y_test": LABELS[:9] * 2})
    found, said = load(data.Arrays(str(place)))
    assert found.num_classes == 5 and "2 classes have no image: 1, 3" in said
    found, _ = load(data.Arrays(str(place), classes=["a", "b", "c", "d", "e"]))
    assert found.class_names == ("a", "b", "c", "d", "e")


@pytest.mark.parametrize(
    "change, says",
    [
        ({"y_train": np.eye(3)[LABELS]}, "One-hot"),
        ({"y_train": LABELS - 1}, "a label is -1"),
        ({"y_train": LABELS * 10**6}, "number them 0, 1"),
        ({"y_train": LABELS / 2}, "labels are float64"),
        ({"y_train": LABELS[:-1]}, "60 images of train, 59 labels"),
        ({"x_train": IMAGES.astype(int)}, "images are int64"),
        ({"x_train": IMAGES.astype(float)}, r"train: image 0 spans .*in \[0, 1\]"),
        ({"x_train": IMAGES[:, :4]}, "have the shapes"),
        ({"y_train": np.array([{}] * 60)}, "nothing is unpickled"),
        ({"y_train": LABELS * 0}, "one class"),
        ({"x_train": None}, "x_train and y_train"),
        ({"y_test": None}, "x_test, but no y_test"),
    ],
)
def test_arrays_refuse(tmp_path, change, says):
    arrays = {key: value for key, value in {**PAIRS, **change}.items() if value is not None}
    place = _save(tmp_path, **arrays)
    with pytest.raises(data.DataError, match=says):
        load(data.Arrays(str(place)))


def test_arrays_that_are_not_there(tmp_path):
    with pytest.raises(data.DataError, match="no such file"):
        load(data.Arrays(str(tmp_path / "none.npz")))
    np.save(tmp_path / "one.npy", IMAGES)
    with pytest.raises(data.DataError, match="is one array; give the folder"):
        load(data.Arrays(str(tmp_path / "one.npy")))
    with pytest.raises(data.DataError, match="cannot be read"):
        load(data.Arrays(str(pictures.write(tmp_path / "bad.npz", b"x"))))


def _table(folder, rows, columns="file,label,split", name="table.csv"):
    text = "\n".join([columns, *[",".join(map(str, row)) for row in rows]])
    return pictures.write(folder / name, text.encode())


def _rows(folder, labels=("dog", "cat")):
    rows = []
    for number in range(12):
        name = f"pictures/number {number}.png"
        pictures.write(folder / name, pictures.png(pictures.noise(number)))
        rows.append((name, labels[number % 2], ("train", "train", "val", "Test")[number % 4 if
                     number > 3 else number]))  # fmt: skip
    return rows


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_table(tmp_path, kind):
    rows = _rows(tmp_path)
    if kind == "csv":
        path = _table(tmp_path, rows)
    else:
        pyarrow = pytest.importorskip("pyarrow", exc_type=ImportError)
        from pyarrow import parquet

        path = tmp_path / "table.parquet"
        columns = dict(
            zip(("file", "label", "split"), map(list, zip(*rows, strict=True)), strict=True)
        )
        parquet.write_table(pyarrow.table(columns), path)
    found, said = load(data.ImageTable(str(path)))
    assert found.name == "table" and found.class_names == ("cat", "dog")
    for split, which in ((found.train, "train"), (found.validation, "val"), (found.test, "Test")):
        numbers = [n for n, row in enumerate(rows) if row[2] == which]
        expected = np.stack([pictures.noise(n) for n in numbers])
        np.testing.assert_array_equal(split.images, expected)
        assert split.labels.tolist() == [1 - n % 2 for n in numbers]


def test_table_of_other_columns(tmp_path):
    rows = [(name, label) for name, label, _ in _rows(tmp_path, (0, 3))]
    path = _table(tmp_path, rows, "picture,kind", "other.csv")
    os.rename(tmp_path / "pictures", tmp_path / "elsewhere")
    os.mkdir(tmp_path / "root")
    os.rename(tmp_path / "elsewhere", tmp_path / "root" / "pictures")
    source = data.ImageTable(
        str(path), file="picture", label="kind", directory=str(tmp_path / "root"), image_size=4
    )
    found, said = load(source, test_size=2)
    assert found.num_classes == 4 and found.image_shape == (4, 4, 3)
    assert "2 classes have no image: 1, 2" in said and "no test images" in said
    with pytest.raises(data.DataError, match="no column 'file'; it has picture, kind"):
        load(data.ImageTable(str(path)))


def test_table_refuses(tmp_path):
    rows = _rows(tmp_path)
    with pytest.raises(data.DataError, match="no such file"):
        load(data.ImageTable(str(tmp_path / "none.csv")))
    wrong = [*rows, (rows[0][0], "", "train"), ("", "cat", "train"), (rows[0][0], "cat", "tset")]
    with pytest.raises(data.DataError) as caught:
        load(data.ImageTable(str(_table(tmp_path, wrong))))
    for part in ("row 13: it has no label", "row 14: it has no file", "row 15: split is 'tset'"):
        assert part in str(caught.value)
    gone = [*rows, ("gone.png", "cat", "train")]
    with pytest.raises(data.DataError, match="1 file of 13(.|\n)*gone.png"):
        load(data.ImageTable(str(_table(tmp_path, gone))))
    with pytest.raises(data.DataError, match="labels that are no class: dog"):
        load(data.ImageTable(str(_table(tmp_path, rows)), classes=["cat", "cow"]))
    twice = [*rows, (rows[0][0], "cat", "test")]
    _, said = load(data.ImageTable(str(_table(tmp_path, twice))))
    assert "1 image of test is in train, too" in said and "1 image in several classes" in said


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A user's own tfds datasets: of pictures of two sizes, of one, and in array_record files."""
    import tensorflow_datasets as tfds

    folder = tmp_path_factory.mktemp("tfds")

    def rows(first, count, height=8):
        for number in range(first, first + count):
            yield number, {"image": pictures.noise(number, height), "label": number % 2}

    for name, height, file_format in (
        ("mine", None, None),
        ("same", 8, None),
        ("indexed", 8, "array_record"),
    ):
        image = tfds.features.Image(shape=(height, 8, 3))
        tfds.dataset_builders.AdhocBuilder(
            name=name,
            version="1.0.0",
            features=tfds.features.FeaturesDict(
                {"image": image, "label": tfds.features.ClassLabel(names=["even", "odd"])}
            ),
            split_datasets={"train": rows(0, 20), "test": rows(20, 6, 12 if height is None else 8)},
            data_dir=str(folder),
            file_format=file_format,
        ).download_and_prepare()
    return str(folder)


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("name", ["same", "indexed"])
def test_tfds_of_the_users_own(prepared, name, in_memory):
    import tensorflow_datasets as tfds

    options = {"data_dir": prepared, "in_memory": in_memory, "validation_size": 0}
    found, said = load(data.TFDS(name), **options)
    assert found.class_names == ("even", "odd") and found.image_shape == (8, 8, 3)
    assert found.train.in_memory == in_memory
    for split, which in ((found.train, "train"), (found.test, "test")):
        if name == "indexed":
            examples = list(tfds.data_source(name, split=which, data_dir=prepared))
        else:
            examples = list(tfds.as_numpy(tfds.load(name, split=which, data_dir=prepared)))
        np.testing.assert_array_equal(split.images, [one["image"] for one in examples])
        assert split.labels.tolist() == [one["label"] for one in examples]
    part, _ = load(data.TFDS(f"{name}:1.0.0", train="train[25%:75%]", validation="train[75%:]"),
                   data_dir=prepared)  # fmt: skip
    np.testing.assert_array_equal(part.train.images, found.train.images[5:15])
    np.testing.assert_array_equal(part.validation.images, found.train.images[15:])
    np.testing.assert_array_equal(found.train.at(np.array([7, 2])), found.train.images[[7, 2]])
    small, _ = load(data.TFDS("mine", image_size=4, resize="stretch"), **options)
    assert small.image_shape == (4, 4, 3)
    other, _ = load(data.TFDS(name), **{**options, "in_memory": not in_memory})
    assert other.fingerprint() == found.fingerprint()


def test_tfds_refuses(prepared, tmp_path):
    with pytest.raises(data.DataError, match="not all the same: (.|\n)*TFDS.image_size"):
        load(data.TFDS("mine"), data_dir=prepared)
    with pytest.raises(data.DataError, match="no feature 'picture'; it has image, label"):
        load(data.TFDS("same", image="picture"), data_dir=prepared)
    with pytest.raises(ValueError, match="'auto'.: must be a number"):
        data.TFDS("mine", image_size="auto")
    with pytest.raises(data.DataError, match="no split 'valid'"):
        load(data.TFDS("same", validation="valid"), data_dir=prepared)
    for name in ("nosuch", "mnist"):
        with pytest.raises(data.DataError) as caught:
            load(data.TFDS(name), data_dir=prepared)
        for part in (f"no prepared dataset {name}", "It holds indexed, mine, same", "--data_dir"):
            assert part in str(caught.value)


def test_a_known_name_read_from_disk():
    folder = real_folder("mnist")
    held = data.load("mnist", data_dir=folder, train_size=300)
    read = data.load("mnist", data_dir=folder, train_size=300, in_memory=False)
    assert not read.train.in_memory
    np.testing.assert_array_equal(read.train.images, held.train.images)
    np.testing.assert_array_equal(read.train.labels, held.train.labels)
    positions = np.array([4999, 3, 77])
    np.testing.assert_array_equal(read.validation.at(positions), held.validation.at(positions))
    assert read.train.fingerprint == held.train.fingerprint
    assert isinstance(read.test, data.StreamedSplit) and tf.io.gfile.exists(folder)
