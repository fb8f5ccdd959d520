"""Whole files given to an exported model: the images that the run's own source makes of them."""

import struct

import keras
import numpy as np
import pytest
import tensorflow as tf

from robust_tf import data
from robust_tf.data.picture_bytes import orientation_of
from robust_tf.data.picture_headers import read_header
from robust_tf.export import signatures
from robust_tf.export.signatures import Signatures
from robust_tf.models import SplitClassifier
from tests import tiny
from tests.data import pictures

NAMES = ("blå", "gray & small")
SIZE = (12, 10)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures of many sizes, kinds and orientations."""
    place = tmp_path_factory.mktemp("pictures")
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    colors = pictures.noise(5, 4, 3).reshape(-1, 3)[:4]
    numbers = np.random.default_rng(0).integers(0, 4, (9, 17))
    made = {
        "large.jpg": pictures.jpeg(pictures.smooth(40, 61)),
        "tall.jpg": pictures.jpeg(pictures.smooth(33, 7)),
        "fits.png": pictures.png(pictures.noise(1, *SIZE)),
        "gray.jpg": pictures.jpeg(pictures.smooth(30, 30)[..., :1]),
        "levels.png": pictures.png(levels),
        "clear.png": pictures.png(pictures.noise(2, 15, 15, 4)),
        "sixteen.png": tf.io.encode_png(pictures.noise(3, 9, 9).astype(np.uint16) * 200).numpy(),
        "palette.png": pictures.palette_png(numbers, colors),
        "drawn.gif": pictures.gif([numbers, numbers[::-1]], colors),
        "plain.bmp": pictures.bmp(pictures.noise(4, 13, 21)),
        **{f"{k}.jpg": pictures.turned_jpeg(pictures.smooth(24, 32), k) for k in (1, 3, 6, 8)},
    }
    for number, (name, content) in enumerate(made.items()):
        pictures.write(place / NAMES[number % 2] / name, content)
    return place


def dense(channels):
    """A network in which every pixel counts."""
    shape = (*SIZE, channels)
    flat = keras.Sequential([keras.Input(shape), keras.layers.Flatten()])
    logits = keras.Sequential([keras.Input(flat.output_shape[1:]), keras.layers.Dense(2)])
    return SplitClassifier(flat, logits)


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("resize", ["pad", "crop", "stretch"])
def test_the_logits_are_those_of_the_source(tmp_path, folder, resize, channels):
    source = data.ImageFolder(str(folder), SIZE, resize, channels)
    split = source.read().train
    files = [split.reader.name(number) for number in split.numbers]
    made = Signatures(dense(channels), class_names=NAMES, resize=resize)
    wanted = {name: made.functions[name] for name in ("serving_default", "serve_image_bytes")}
    tf.saved_model.save(made, str(tmp_path), signatures=wanted)
    loaded = tf.saved_model.load(str(tmp_path)).signatures
    images = split.images.astype(np.float32) / np.float32(255)
    assert images.shape == (14, *SIZE, channels)
    expected = loaded["serving_default"](images=tf.constant(images))
    contents = [tf.io.read_file(name) for name in files]
    found = loaded["serve_image_bytes"](image_bytes=tf.stack(contents))
    distinct = np.unique(expected["logits"].numpy().round(4), axis=0)
    assert len(distinct) == 13  # the first frame of the GIF has the pixels of the palette
    for key in ("logits", "probabilities", "class", "label"):
        assert found[key].dtype == expected[key].dtype
        np.testing.assert_array_equal(found[key], expected[key])
    labels = [NAMES[number].encode() for number in np.argmax(found["logits"], 1)]
    assert found["label"].numpy().tolist() == labels


def exif(order, entries):
    """EXIF of these entries, each (tag, value)."""
    tiff = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}IH", 8, len(entries))
    for tag, value in entries:
        tiff += struct.pack(f"{order}HHIHH", tag, 3, 1, value, 0)
    return b"Exif\0\0" + tiff


def with_segments(*segments):
    plain = pictures.jpeg(pictures.smooth(8, 8))
    packed = [
        b"\xff" + bytes([marker]) + struct.pack(">H", len(content) + 2) + content
        for marker, content in segments
    ]
    return plain[:2] + b"".join(packed) + plain[2:]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        *[(pictures.turned_jpeg(pictures.smooth(8, 8), k), k) for k in range(1, 9)],
        (with_segments((0xE1, exif(">", [(0x010F, 7), (0x0112, 6)]))), 6),
        (with_segments((0xE2, b"x" * 60_000), (0xE1, exif("<", [(0x0112, 3)]))), 3),
        (with_segments((0xE1, exif("<", [(0x0112, 3)])), (0xE1, b"http://ns.adobe.com/x")), 3),
        (with_segments((0xE1, exif("<", [(0x0112, 9)]))), 1),
        (with_segments((0xE1, exif("<", [(0x0112, 6)])[:-6])), 1),
        (with_segments((0xE1, b"Exif\0\0II*\0" + b"\xff" * 4)), 1),
        (with_segments((0xE1, b"Exif\0\0??*\0" + exif("<", [(0x0112, 6)])[10:])), 1),
        (pictures.jpeg(pictures.smooth(8, 8)), 1),
        (pictures.png(pictures.noise(0)), 1),
    ],
)  # fmt: skip
def test_the_orientation_is_found_as_when_pictures_are_looked_at(content, expected):
    assert read_header(content).orientation == expected
    assert int(orientation_of(tf.constant(content))) == expected


@pytest.mark.parametrize("content", [b"", b"\xff", b"\xff\xd8\xff\xe1\xff\xff", b"\xff\xd8\xff"])
def test_what_is_no_picture_has_no_orientation(content):
    assert int(orientation_of(tf.constant(content))) == 1


def test_names_are_checked_and_optional():
    network = dense(1)
    with pytest.raises(ValueError, match="3 names, but the model has 2 classes"):
        Signatures(network, class_names=["a", "b", "c"])
    with pytest.raises(ValueError, match=r"export\(resize='fill'\): must be one of"):
        Signatures(network, resize="fill")
    named = Signatures(dense(1), class_names=NAMES).functions["serving_default"]
    x = np.random.default_rng(0).random((64, *SIZE, 1), np.float32)
    outputs = named(tf.constant(x))
    classes = np.argmax(outputs["logits"], 1).tolist()
    assert outputs["label"].numpy().tolist() == [NAMES[number].encode() for number in classes]
    made = signatures._naming(("a", "b", "c"))({"class": tf.constant([2, 0, 1])})
    assert made["label"].numpy().tolist() == [b"c", b"a", b"b"]
    plain = Signatures(network)
    outputs = plain.functions["serving_default"](tf.zeros([1, *SIZE, 1]))
    assert set(outputs) == {"logits", "probabilities", "class"}
    tiny.same_bits(outputs["class"], np.argmax(outputs["logits"], 1).astype(np.int32))
