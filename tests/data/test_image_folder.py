"""Folders of pictures: what becomes an image, which one, and what is refused or told."""

import os
import shutil
import warnings

import gin
import numpy as np
import pytest
import tensorflow as tf

from robust_tf import data
from robust_tf.data.pictures import fit
from tests.data import pictures


def load(folder, notes=False, **options):
    """The dataset of a folder, and with `notes` what was said about it."""
    sizes = {key: options.pop(key) for key in list(options) if key in LOAD}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = data.load(source=data.ImageFolder(str(folder), **options), **sizes)
    notes_caught = [one for one in caught if issubclass(one.category, data.DataNote)]
    assert {one.filename for one in notes_caught} <= {__file__}, "said of the line that asks"
    said = [str(one.message) for one in notes_caught]
    return (found, said) if notes else found


LOAD = ("validation_size", "test_size", "train_size", "seed", "in_memory", "augmentation")


def test_splits_and_order(tmp_path):
    made = pictures.two_classes(tmp_path)
    found = load(tmp_path)
    assert found.name == tmp_path.name and found.class_names == ("cat", "dog")
    assert found.num_classes == 2 and found.image_shape == (8, 8, 3)
    assert found.description["image_size"] == [8, 8] and found.description["channels"] == 3
    for which, split in (("train", found.train), ("val", found.validation), ("test", found.test)):
        names = [name for name in made if name.startswith(f"{which}/")]
        names.sort(key=lambda name: (os.path.basename(name), name.split("/")[1]))
        np.testing.assert_array_equal(split.images, np.stack([made[name] for name in names]))
        assert split.labels.tolist() == [int("dog" in name.split("/")[1]) for name in names]


@pytest.mark.parametrize("in_memory", [True, False])
def test_the_same_bits_from_memory_and_from_the_files(tmp_path, in_memory):
    pictures.two_classes(tmp_path, count=10)
    here = load(tmp_path, in_memory=True)
    other = load(tmp_path, in_memory=in_memory)
    assert other.train.in_memory == in_memory and other.fingerprint() == here.fingerprint()
    options = {"seed": 3, "augmentation": data.Augmentation(2, True)}
    for shard in ((1, 0), (2, 1)):
        expected = list(data.epochs(here.train, 8, 3, skip=1, shard=shard, **options))
        got = data.epochs(other.train, 8, 3, skip=1, shard=shard, **options)
        assert got.cardinality() in (5, tf.data.UNKNOWN_CARDINALITY)
        assert got.element_spec[0].shape == (8 // shard[0], 8, 8, 3)
        for (x, y), (x_got, y_got) in zip(expected, got, strict=True):
            np.testing.assert_array_equal(x, x_got)
            np.testing.assert_array_equal(y, y_got)
        for size in (6, 8, 20, 50):
            size *= shard[0]
            expected = list(data.batches(here.test, size, shard=shard))
            got = list(data.batches(other.test, size, shard=shard))
            for (x, y), (x_got, y_got) in zip(expected, got, strict=True):
                np.testing.assert_array_equal(x, x_got)
                np.testing.assert_array_equal(y, y_got)


def test_held_out_by_class_and_told(tmp_path):
    pictures.two_classes(tmp_path, count=20, splits=("",))
    found, said = load(tmp_path, notes=True, seed=4)
    assert (len(found.train), len(found.validation), len(found.test)) == (29, 3, 8)
    assert np.bincount(found.test.labels).tolist() == [4, 4]
    assert sorted(np.bincount(found.validation.labels)) == [1, 2]
    assert any("no test images: 8 of its training images" in note for note in said)
    assert any("no validation images: 3 of" in note and "seed = 4" in note for note in said)
    rows = [
        image.tobytes()
        for one in (found.train, found.validation, found.test)
        for image in one.images
    ]
    assert len(set(rows)) == 40
    again, other = load(tmp_path, seed=4), load(tmp_path, seed=5)
    assert again.fingerprint() == found.fingerprint() != other.fingerprint()
    assert load(tmp_path, test_size=0.5, validation_size=2).train.labels.shape == (18,)
    few = load(tmp_path, train_size=10)
    assert np.bincount(few.train.labels).tolist() == [5, 5]


def test_kinds_of_files(tmp_path):
    colors = [[0, 0, 0], [250, 10, 20], [30, 240, 50], [60, 70, 230]]
    numbers = np.arange(64).reshape(8, 8) % 4
    by_colors = np.asarray(colors, np.uint8)[numbers]
    gray = pictures.noise(1, channels=1)
    deep = np.random.default_rng(2).integers(0, 2**16, (8, 8, 3)).astype(np.uint16)
    clear = pictures.noise(3, channels=4)
    image = pictures.noise(4)
    expected = {
        "a.png": (pictures.png(image), image),
        "b.png": (pictures.palette_png(numbers, colors), by_colors),
        "c.png": (pictures.png(gray), np.repeat(gray, 3, -1)),
        "d.png": (pictures.png(deep), (deep >> 8).astype(np.uint8)),
        "e.png": (pictures.png(clear), clear[..., :3]),
        "f.gif": (pictures.gif([numbers, 3 - numbers], colors), by_colors),
        "g.bmp": (pictures.bmp(image), image),
        "h.bmp": (pictures.bmp(gray[..., 0], np.arange(256)[:, None].repeat(3, 1)),
                  np.repeat(gray, 3, -1)),
        "i.PNG": (pictures.png(image[::-1]), image[::-1]),
        "j.png": (pictures.bmp(image[:, ::-1]), image[:, ::-1]),  # its content tells the kind
    }  # fmt: skip
    for name, (content, _) in expected.items():
        pictures.write(tmp_path / "train" / "x" / name, content)
        pictures.write(tmp_path / "train" / "y" / f"z{name}", content[:-1] + content[-1:])
        pictures.write(tmp_path / "test" / "x" / name, content)
    found, said = load(tmp_path, notes=True, validation_size=0)
    for name, got in zip(expected, found.test.images, strict=True):
        if name == "d.png":  # by 256 or by 257, as the PNG library of this TensorFlow has it
            assert np.abs(got.astype(int) - expected[name][1]).max() <= 1
        else:
            np.testing.assert_array_equal(got, expected[name][1], err_msg=name)
    text = "\n".join(said)
    for part in ("3 pictures, such as", "16 bits, read as 8", "transparency, left out",
                 "GIF, of which the first frame is read", "gray, read as color"):  # fmt: skip
        assert part in text
    assert "10 images of test are in train, too" in text and "in several classes" in text
    gray_ones = load(tmp_path, channels=1, validation_size=0).test.images
    assert gray_ones.shape == (10, 8, 8, 1)
    np.testing.assert_array_equal(gray_ones[2], gray)
    luma = np.rint(image @ [0.299, 0.587, 0.114])
    assert np.abs(gray_ones[0][..., 0] - luma).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_pictures_stand_upright(tmp_path, orientation):
    image = np.zeros((24, 32, 3), np.uint8)
    image[:12, :16], image[12:, 16:] = 255, 120  # white at the top left, gray at the bottom right
    stored = {
        1: image, 2: image[:, ::-1], 3: image[::-1, ::-1], 4: image[::-1],
        5: image.transpose(1, 0, 2), 6: np.rot90(image), 7: np.rot90(image, 2).transpose(1, 0, 2),
        8: np.rot90(image, -1),
    }[orientation]  # fmt: skip
    for kind in "ab":
        for which in ("train", "test"):
            content = pictures.turned_jpeg(np.ascontiguousarray(stored), orientation)
            pictures.write(tmp_path / which / kind / f"{which}{kind}.jpg", content)
    found, said = load(tmp_path, notes=True, validation_size=0)
    assert found.image_shape == (24, 32, 3)
    assert np.abs(found.test.images[0].astype(int) - image).mean() < 3
    assert any("turned upright" in note for note in said) == (orientation > 1)


def test_resizing(tmp_path):
    image = pictures.smooth(24, 48)
    for kind in "ab":
        for which in ("train", "test"):
            pictures.write(tmp_path / which / kind / f"{which}.png", pictures.png(image))
    found = {
        how: load(tmp_path, image_size=12, resize=how, validation_size=0).test.images[0]
        for how in ("pad", "crop", "stretch")
    }
    assert all(one.shape == (12, 12, 3) for one in found.values())
    padded = found["pad"]
    assert not padded[:3].any() and not padded[9:].any() and padded[4:8].any()
    small = image.reshape(12, 2, 24, 2, 3).mean((1, 3))
    assert np.abs(found["crop"] - small[:, 6:18]).max() <= 12
    narrow = image.reshape(12, 2, 12, 4, 3).mean((1, 3))
    assert np.abs(found["stretch"] - narrow).max() <= 20
    # Whole numbers of pixels become their mean, whatever is finer than that.
    fine = np.random.default_rng(0).integers(0, 256, (24, 48, 3), np.uint8)
    shrunk = fit(tf.constant(fine), (8, 12), "stretch").numpy()
    exact = fine.reshape(8, 3, 12, 4, 3).mean((1, 3))
    assert np.abs(shrunk - exact).max() <= 0.51
    larger = fit(tf.constant(fine[:2, :2]), (4, 4), "stretch").numpy()
    np.testing.assert_array_equal(larger[::3, ::3], fine[:2, :2])
    same = load(tmp_path, image_size=(24, 48), validation_size=0).test.images[0]
    np.testing.assert_array_equal(same, image)


def test_two_sizes_need_a_size(tmp_path):
    pictures.two_classes(tmp_path, splits=("",))
    odd = pictures.write(tmp_path / "dog" / "odd.png", pictures.png(pictures.noise(99, 5, 9)))
    with pytest.raises(data.DataError, match="2 sizes: 12 are 8 x 8") as caught:
        load(tmp_path)
    assert str(odd) in str(caught.value) and "ImageFolder.image_size" in str(caught.value)
    found, said = load(tmp_path, notes=True, image_size=8)
    assert found.image_shape == (8, 8, 3) and any("1 picture, such as" in note for note in said)


def test_a_size_by_itself(tmp_path):
    """The pictures' own where all have one, else one that small networks take; recorded."""
    pictures.two_classes(tmp_path, splits=("",))
    assert load(tmp_path, image_size="auto").image_shape == (8, 8, 3)
    for number, sides in enumerate([(5, 9), (12, 4), (3, 12), (11, 11), (70, 20), (13, 2)] * 3):
        image = pictures.noise(number, *sides)
        pictures.write(tmp_path / "cat" / f"other{number}.png", pictures.png(image))
    found = load(tmp_path, image_size="auto")
    longer = [8] * 12 + [9, 12, 12, 11, 70, 13] * 3
    assert found.image_shape == (round(np.median(longer)),) * 2 + (3,) == (10, 10, 3)
    for path in tmp_path.rglob("*.png"):
        if path.name < "other":
            path.unlink()
    pictures.write(tmp_path / "dog" / "large.png", pictures.png(pictures.noise(1, 70, 100)))
    about = {"name": found.name, **found.description, "class_names": found.class_names}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", data.DataNote)
        assert data.load_recorded(about).image_shape == (10, 10, 3)
    shutil.rmtree(tmp_path / "cat")
    pictures.write(tmp_path / "cat" / "large.png", pictures.png(pictures.noise(2, 70, 100)))
    pictures.write(tmp_path / "cat" / "other.png", pictures.png(pictures.noise(3, 70, 100)))
    assert load(tmp_path, image_size="auto").image_shape == (64, 64, 3)


def _broken():
    good = pictures.jpeg(pictures.smooth())
    whole = pictures.png(pictures.noise(5))
    return {
        "empty.png": (b"", "it is empty"),
        "short.png": (whole[:20], "ends before its first pixel"),
        "text.jpg": (b"not a picture", "no JPEG, PNG, GIF or BMP"),
        "page.png": (b"<html>404</html>", "a web page"),
        "photo.webp": (b"RIFF\0\0\0\0WEBPVP8 ", "a WebP"),
        "scan.tif": (b"II*\0" + b"\0" * 20, "a TIFF"),
        "phone.heic": (b"\0\0\0\x18ftypheic", "HEIC"),
        "pointer.png": (b"version https://git-lfs.github.com/spec/v1", "Git LFS"),
        "palette.bmp": (
            pictures.bmp(np.zeros((8, 8)), [[255, 0, 0], [0, 255, 0]]), "BMP with a palette"),
        "deep.jpg": (_deep(good), "12 bits"),
        "inks.jpg": (_inks(good), "CMYK JPEG that does not say"),
        "nothing.png": (whole[:16] + b"\0\0\0\0" + whole[20:], "0 x 8"),
    }  # fmt: skip


def _frame(content):
    """Where the frame header of a JPEG begins."""
    return content.index(b"\xff\xc0")


def _deep(content):
    place = _frame(content) + 4
    return content[:place] + b"\x0c" + content[place + 1 :]


def _inks(content):
    place = _frame(content) + 9
    return content[:place] + b"\x04" + content[place + 1 :]


def test_what_is_no_picture_is_listed(tmp_path):
    pictures.two_classes(tmp_path, splits=("",))
    for name, (content, _) in _broken().items():
        pictures.write(tmp_path / "dog" / name, content)
    with pytest.raises(data.DataError) as caught:
        load(tmp_path)
    lines = str(caught.value).splitlines()
    assert "12 files of 24 cannot be read" in lines[0] and "nothing is skipped" in lines[-1]
    for name, (_, says) in _broken().items():
        (line,) = [line for line in lines if name in line]
        assert says in line and str(tmp_path) in line, line


@pytest.mark.parametrize("in_memory", [True, False])
def test_broken_pixels_are_listed(tmp_path, in_memory):
    pictures.two_classes(tmp_path, splits=("",))
    for number in range(2):
        cut = pictures.png(pictures.noise(50 + number))
        pictures.write(tmp_path / "cat" / f"cut{number}.png", cut[: len(cut) // 2])
    with pytest.raises(data.DataError, match="2 images cannot be read") as caught:
        load(tmp_path, in_memory=in_memory).check()
    for number in range(2):
        assert f"cut{number}.png: Invalid PNG data" in str(caught.value)


def test_names_hidden_files_and_empty_folders(tmp_path):
    pictures.two_classes(tmp_path, splits=("",))
    pictures.write(
        tmp_path / "dog" / "größe mit Leerzeichen é.png", pictures.png(pictures.noise(7))
    )
    pictures.write(tmp_path / "dog" / "deep" / "er" / "one.png", pictures.png(pictures.noise(8)))
    pictures.write(tmp_path / "dog" / ".DS_Store", b"x")
    pictures.write(tmp_path / ".git" / "x.png", b"x")
    pictures.write(tmp_path / "dog" / "labels.csv", b"x")
    pictures.write(tmp_path / "loose.png", b"x")
    (tmp_path / "bird").mkdir()
    found, said = load(tmp_path, notes=True, test_size=2, validation_size=0)
    assert found.class_names == ("cat", "dog") and len(found.train) == 12
    text = "\n".join(said)
    for part in ("1 hidden file is left out", ".DS_Store", "labels.csv", "loose.png",
                 "1 folder without pictures is left out", "bird"):  # fmt: skip
        assert part in text
    spaced = tmp_path.parent / "eine Mappe ü"
    os.rename(tmp_path, spaced)
    assert load(spaced, test_size=2, validation_size=0).fingerprint() == found.fingerprint()


def test_folders_that_cannot_be_learnt(tmp_path):
    with pytest.raises(data.DataError, match="none.*does not exist"):
        load(tmp_path / "none")
    with pytest.raises(data.DataError, match="'none'.: does not exist in /.*; it should be a"):
        load("none")
    file = pictures.write(tmp_path / "file", b"x")
    with pytest.raises(data.DataError, match="is a file; it should be a folder"):
        load(file)
    with pytest.raises(data.DataError, match="holds no pictures in folders"):
        load(tmp_path)
    pictures.write(tmp_path / "train" / "cat" / "a.png", pictures.png(pictures.noise(1)))
    with pytest.raises(data.DataError, match="one class, cat"):
        load(tmp_path)
    pictures.write(tmp_path / "train" / "dog" / "a.png", pictures.png(pictures.noise(2)))
    with pytest.raises(data.DataError, match="all images of 1 class"):
        load(tmp_path, test_size=1)
    pictures.write(tmp_path / "test" / "cow" / "a.png", pictures.png(pictures.noise(3)))
    with pytest.raises(data.DataError, match="in test is no class of the training(.|\n)*cow"):
        load(tmp_path)
    os.rename(tmp_path / "test" / "cow", tmp_path / "test" / "dog")
    _, said = load(tmp_path, notes=True, validation_size=0)
    assert any("one training image alone: cat, dog" in note for note in said)
    assert any("no test images of 1 class: cat" in note for note in said)


def test_classes_of_another_machine(tmp_path):
    pictures.two_classes(tmp_path)
    found = load(tmp_path, classes=["dog", "cow", "cat"])
    assert found.num_classes == 3 and found.class_names == ("dog", "cow", "cat")
    assert (found.test.labels == 2 - 2 * load(tmp_path).test.labels).all()
    assert set(found.test.labels.tolist()) == {0, 2}
    with pytest.raises(data.DataError, match="no class of the training"):
        load(tmp_path, classes=["dog", "cow"])


def test_fingerprint_follows_content_and_size(tmp_path):
    pictures.two_classes(tmp_path)
    first = load(tmp_path).fingerprint()
    assert load(tmp_path, image_size=8).fingerprint() == first
    assert load(tmp_path, image_size=6).fingerprint() != first
    pictures.write(tmp_path / "test" / "cat" / "000cat.png", pictures.png(pictures.noise(77)))
    changed = load(tmp_path)
    assert changed.fingerprint() != first


@pytest.mark.parametrize(
    "options, says",
    [
        ({"image_size": 0}, "image_size=0"),
        ({"image_size": (8, 8, 3)}, "image_size"),
        ({"resize": "squash"}, "pad.*crop.*stretch"),
        ({"channels": 4}, "channels=4"),
        ({"classes": "cat"}, "list of names"),
        ({"classes": ["a", "a"]}, "twice"),
    ],
)
def test_arguments(tmp_path, options, says):
    with pytest.raises(ValueError, match=says):
        data.ImageFolder(str(tmp_path), **options)


def test_gin_binds_it(tmp_path):
    pictures.two_classes(tmp_path)
    gin.parse_config("data.source = @ImageFolder\nImageFolder.image_size = 6")
    try:
        with pytest.raises(ValueError, match="ImageFolder.directory = 'photos'"):
            data.load()
        gin.parse_config(f"ImageFolder.directory = {str(tmp_path)!r}")
        assert data.load().image_shape == (6, 6, 3)
    finally:
        gin.clear_config()
    with pytest.raises(ValueError, match="in_memory='perhaps'"):
        data.load(in_memory="perhaps")
    with pytest.raises(ValueError, match="data.source=.*must be a source"):
        data.load(source=3)
