"""Pictures that nobody here made: the samples that other packages bring, of many sizes."""

import warnings

import numpy as np
import pytest

from robust_tf import data
from tests.data import pictures


@pytest.fixture
def folder(tmp_path):
    return pictures.samples(tmp_path)


@pytest.mark.parametrize("resize", ["pad", "crop", "stretch"])
def test_they_become_images(folder, resize):
    source = data.ImageFolder(str(folder), image_size=(40, 64), resize=resize)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = data.load(source=source, test_size=2, validation_size=0)
        read = data.load(source=source, test_size=2, validation_size=0, in_memory=False)
    said = "\n".join(str(one.message) for one in caught)
    assert found.class_names == ("drawing", "photo") and found.image_shape == (40, 64, 3)
    assert "transparency, left out" in said and "resized to 40 x 64" in said
    np.testing.assert_array_equal(found.train.images, read.train.images)
    assert found.fingerprint() == read.fingerprint()


def test_the_pixels_are_those_of_other_programs(folder):
    image_module = pytest.importorskip("PIL.Image")
    photo = folder / "photo" / "china.jpg"
    with image_module.open(photo) as opened:
        width, height = opened.size
        whole = np.asarray(opened).astype(float)
    source = data.ImageFolder(str(folder), image_size=(height // 4, width // 4), resize="stretch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", data.DataNote)
        found = data.load(source=source, test_size=2, validation_size=0, in_memory=False)
    names = [found.train.reader.name(number) for number in found.train.numbers]
    names += [found.test.reader.name(number) for number in found.test.numbers]
    images = np.concatenate([found.train.images, found.test.images])
    got = images[names.index(str(photo))]
    rows, columns = 4 * (height // 4), 4 * (width // 4)
    blocks = whole[:rows, :columns].reshape(height // 4, 4, width // 4, 4, 3).mean((1, 3))
    assert np.abs(got - blocks).mean() < 1.5
    with image_module.open(photo) as opened:  # decodes no more than a quarter of each side
        opened.draft("RGB", (width // 4, height // 4))
        reduced = np.asarray(opened)
    assert abs(reduced.shape[0] - height // 4) <= 1
    reduced = reduced[: height // 4, : width // 4].astype(int)
    assert np.abs(got.astype(int) - reduced).max() <= 1  # 0, if both are built on the same decoder
