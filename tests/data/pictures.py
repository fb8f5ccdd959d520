"""Tiny picture files, made by TensorFlow and by hand; and those that other packages bring."""

import importlib.util
import os
import pathlib
import shutil
import struct
import zlib

import numpy as np
import pytest
import sklearn.datasets
import tensorflow as tf

from robust_tf.data.picture_headers import EXTENSIONS


def noise(seed, height=8, width=8, channels=3):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def smooth(height=24, width=32, shift=0):
    rows, columns = np.mgrid[:height, :width]
    planes = [rows * 200 // height, columns * 200 // width, (rows + columns + shift) % 90]
    return np.stack(planes, -1).astype(np.uint8)


def png(image):
    return tf.io.encode_png(image).numpy()


def jpeg(image, **options):
    return tf.io.encode_jpeg(image, quality=95, **options).numpy()


def write(path, content):
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def _chunk(name, content):
    check = struct.pack(">I", zlib.crc32(name + content))
    return struct.pack(">I", len(content)) + name + content + check


def palette_png(numbers, colors):
    """A PNG with a palette: numbers (H, W), colors (n, 3)."""
    height, width = numbers.shape
    rows = b"".join(b"\0" + row.astype(np.uint8).tobytes() for row in numbers)
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    parts = [(b"IHDR", header), (b"PLTE", np.asarray(colors, np.uint8).tobytes())]
    parts += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part) for part in parts)


def bmp(image, palette=None):
    """A BMP of 24 bits, or of 8 with a palette (n, 3): image (H, W, 3), or numbers (H, W)."""
    height, width = image.shape[:2]
    table = b""
    if palette is not None:
        table = b"".join(bytes([b, g, r, 0]) for r, g, b in palette)
    pixels = image[::-1] if palette is not None else image[::-1, :, ::-1]
    rows = b""
    for row in pixels.astype(np.uint8):
        row = row.tobytes()
        rows += row + b"\0" * (-len(row) % 4)
    bits, start = (8 if palette is not None else 24), 54 + len(table)
    colors = 0 if palette is None else len(palette)
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, 0, len(rows), 0, 0, colors, 0)
    return b"BM" + struct.pack("<IHHI", start + len(rows), 0, 0, start) + info + table + rows


def gif(frames, colors):
    """An uncompressed GIF: frames (n, H, W) of numbers below 4, colors (4, 3)."""
    height, width = frames[0].shape
    content = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x91, 0, 0)
    content += np.asarray(colors, np.uint8).tobytes()
    for frame in frames:
        bits = 0
        count = 0
        for number in frame.ravel().tolist():  # the table is cleared before each: codes stay 3 bits
            for code in (4, number):
                bits |= code << (3 * count)
                count += 1
        bits |= 5 << (3 * count)
        packed = bits.to_bytes(-(-3 * (count + 1) // 8), "little")
        content += b"\x2c" + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02"
        for first in range(0, len(packed), 255):
            piece = packed[first : first + 255]
            content += bytes([len(piece)]) + piece
        content += b"\0"
    return content + b"\x3b"


def turned_jpeg(image, orientation):
    """A JPEG whose EXIF says how it is turned."""
    plain = jpeg(image)
    tiff = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    exif = b"Exif\0\0" + tiff
    return plain[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + plain[2:]


def two_classes(folder, count=6, size=8, splits=("train", "val", "test"), seed=0):
    """count PNG files of each of two classes in every split; images by path below the folder."""
    found = {}
    for which in splits:
        for kind in ("cat", "dog"):
            for number in range(count):
                seed += 1
                image = noise(seed, size, size)
                name = f"{which}/{kind}/{number:03d}{kind}.png" if which else f"{kind}/{number}.png"
                write(pathlib.Path(folder, name), png(image))
                found[name] = image
    return found


def samples(folder):
    """A folder of two classes: photographs, and what matplotlib draws buttons with.

    Of scikit-learn, matplotlib and, where it is installed, scikit-image.
    """
    matplotlib = pathlib.Path(pytest.importorskip("matplotlib").get_data_path())
    photos = [pathlib.Path(sklearn.datasets.__file__).parent / "images", matplotlib / "sample_data"]
    skimage = importlib.util.find_spec("skimage")
    if skimage is not None and skimage.origin:
        photos.append(pathlib.Path(skimage.origin).parent / "data")
    for kind, places in (("photo", photos), ("drawing", [matplotlib / "images"])):
        for place in places:
            for path in sorted(place.iterdir()):
                if path.suffix.lower() in EXTENSIONS:
                    (folder / kind).mkdir(exist_ok=True)
                    shutil.copy(path, folder / kind / path.name)
    if len(os.listdir(folder / "photo")) < 3:
        pytest.skip("the sample pictures are not installed")
    return folder
