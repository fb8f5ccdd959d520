"""Picture files as examples: all are looked at first, then each is read when it is needed."""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from robust_tf import files
from robust_tf.data.errors import DataError, counted, listed
from robust_tf.data.picture_headers import Header, PictureError, read_header
from robust_tf.data.pictures import RESIZES, decode, image_of, upright
from robust_tf.data.streamed import PARALLEL, Reader

# Up to so many bytes in all, files are hashed whole; beyond, by their beginning and their length.
_WHOLE = 2 << 30
_START = 64 << 10
AUTO = 64  # the longest side of what `image_size='auto'` makes of pictures
_MOST_PIXELS = 89_478_485 * 2  # of one picture: beyond, as Pillow has it, it is taken for an attack


@dataclasses.dataclass(frozen=True)
class Format:
    """What pictures become.

    Attributes:
      image_size: (height, width) or one number for both; None: the pictures' own, if all have one;
        'auto': that, if no side is longer than `AUTO`, else a square with the median of their
        longer sides, at most `AUTO`.
      resize: 'pad', 'crop' or 'stretch', see `pictures.fit`.
      channels: 3 or 1; None: 1 if all pictures are gray, else 3.

    Raises:
      ValueError: a value outside its range; the message names `owner`.
    """

    owner: str
    image_size: Any
    resize: str
    channels: int | None

    def __post_init__(self) -> None:
        """Checks the fields."""
        size = self.image_size
        if size is not None and size != "auto":
            sides = size if isinstance(size, (tuple, list)) else (size, size)
            if len(sides) != 2 or not all(_is_side(side) for side in sides):
                raise ValueError(
                    f"{self.owner}(image_size={size!r}): must be a whole number of pixels >= 1, "
                    "(height, width), or 'auto'."
                )
            object.__setattr__(self, "image_size", tuple(int(side) for side in sides))
        if self.resize not in RESIZES:
            raise ValueError(f"{self.owner}(resize={self.resize!r}): must be one of {RESIZES}.")
        if self.channels not in (None, 1, 3):
            raise ValueError(
                f"{self.owner}(channels={self.channels!r}): must be 3 (color), 1 (gray), or None: "
                "1 if all pictures are gray."
            )


@dataclasses.dataclass(frozen=True, eq=False)
class Pictures:
    """Picture files that have been looked at.

    Attributes:
      reader: reads them, by their number in the list.
      description: of what becomes of them, JSON-ready: for the run.
      notes: what reading changes, each a sentence with a count.
    """

    reader: Reader
    description: dict[str, Any]
    notes: list[str]


def look_at(paths: Sequence[str], names: Sequence[str], wanted: Format) -> Pictures:
    """Looks at the beginning of every file.

    Args:
      paths: of the files.
      names: of the files, the same wherever their folder lies: they are part of the fingerprint.
      wanted: what is to become of them.

    Raises:
      DataError: lists every file that is missing, or no picture that can be read; or pictures of
        several sizes without an `image_size`.
    """
    whole = _total(paths) <= _WHOLE
    with concurrent.futures.ThreadPoolExecutor(PARALLEL) as pool:
        found = list(pool.map(lambda path: _look(path, whole), paths))
    faults = [f"{path}: {one}" for path, one in zip(paths, found, strict=True) if type(one) is str]
    if faults:
        raise DataError(
            f"{counted(len(faults), 'file')} of {len(paths):,} cannot be read as pictures:\n"
            f"{listed(faults)}\nMend or remove them: nothing is skipped."
        )
    looks: list[_Look] = [one for one in found if isinstance(one, _Look)]
    headers = [look.header for look in looks]
    size = wanted.image_size
    if size == "auto":
        size = _auto_size(headers)
    elif size is None:
        size = _common_size(paths, headers, wanted.owner)
    channels = wanted.channels or (1 if all(header.gray for header in headers) else 3)
    digest = hashlib.sha256(f"{size}{wanted.resize}{channels}".encode())
    for name, look in zip(names, looks, strict=True):
        digest.update(f"{name}\0{look.size}\0".encode() + look.digest)
    keys = np.array([int.from_bytes(look.digest[:8], "little") for look in looks], np.uint64)
    description = {"image_size": list(size), "resize": wanted.resize, "channels": channels}
    reader = Reader(
        _reading(paths, headers, size, wanted.resize, channels),
        (*size, channels),
        np.uint8,
        lambda number: paths[number],
        digest.hexdigest()[:16],
        keys,
    )
    return Pictures(reader, description, _notes(paths, headers, size, wanted.resize, channels))


@dataclasses.dataclass(frozen=True)
class _Look:
    """What looking at one file told: its header, its size in bytes, a digest of its content."""

    header: Header
    size: int
    digest: bytes


def _look(path: str, whole: bool) -> _Look | str:
    """Looks at one file; what is wrong with it, where it is none that can be read."""
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            size = file.size()
            content = file.read(size if whole else min(size, _START))
            header = read_header(content)
            if header is None and len(content) < size:
                header = read_header(content + file.read(size - len(content)))
    except PictureError as error:
        return str(error)
    except (tf.errors.OpError, OSError) as error:
        return files.reason(error)
    if header is None:
        return "it ends before its first pixel: it is damaged"
    if header.width * header.height > _MOST_PIXELS:
        return f"it has {header.width} x {header.height} pixels, more than {_MOST_PIXELS:,}"
    return _Look(header, size, hashlib.sha256(f"{size}\0".encode() + content).digest()[:16])


def _total(paths: Sequence[str]) -> int:
    """Bytes of all files; those that are missing count nothing."""

    def size(path: str) -> int:
        try:
            return tf.io.gfile.stat(path).length
        except tf.errors.OpError:
            return 0

    with concurrent.futures.ThreadPoolExecutor(PARALLEL) as pool:
        return sum(pool.map(size, paths))


def _auto_size(headers: Sequence[Header]) -> tuple[int, int]:
    """A size at which small networks can be trained, see `Format`."""
    sizes = {header.upright for header in headers}
    if len(sizes) == 1 and all(max(sides) <= AUTO for sides in sizes):
        return sizes.pop()
    side = min(AUTO, round(float(np.median([max(header.upright) for header in headers]))))
    return side, side


def _common_size(paths: Sequence[str], headers: Sequence[Header], owner: str) -> tuple[int, int]:
    """The size of all pictures."""
    sizes = collections.Counter(header.upright for header in headers)
    if len(sizes) == 1:
        return next(iter(sizes))
    (usual, count), *_ = sizes.most_common(1)
    other = next(n for n, header in enumerate(headers) if header.upright != usual)
    (height, width), (high, wide) = usual, headers[other].upright
    raise DataError(
        f"The pictures have {len(sizes)} sizes: {count:,} are {height} x {width} (height x width), "
        f"{paths[other]} is {high} x {wide}. Say which size they are to become: "
        f"{owner}.image_size = (64, 64), or 'auto', and {owner}.resize = 'pad', 'crop' or "
        "'stretch'."
    )


def _reading(
    paths: Sequence[str],
    headers: Sequence[Header],
    size: tuple[int, int],
    resize: str,
    channels: int,
) -> Any:
    with tf.init_scope(), tf.device("CPU:0"):
        all_paths = tf.constant(list(paths), tf.string)
        gray = tf.constant([header.gray for header in headers], tf.bool)
        orientations = tf.constant([header.orientation for header in headers], tf.uint8)

    # What no picture needs is not in the graph.
    is_turned = any(header.orientation > 1 for header in headers)
    is_resized = any(header.upright != size for header in headers)

    def read(number: tf.Tensor) -> tf.Tensor:
        content = tf.io.read_file(all_paths[number])
        orientation = tf.cast(orientations[number], tf.int32)
        if is_resized:
            return image_of(content, gray[number], orientation, channels, size, resize)
        image = decode(content, gray[number], channels)
        return upright(image, orientation) if is_turned else image

    return read


def _notes(
    paths: Sequence[str],
    headers: Sequence[Header],
    size: tuple[int, int],
    resize: str,
    channels: int,
) -> list[str]:
    """What reading changes, with a count and the first file of each kind."""
    changed: dict[str, list[int]] = collections.defaultdict(list)
    for number, header in enumerate(headers):
        for remark in header.remarks:
            changed[remark].append(number)
        if header.kind == "GIF":
            changed["GIF, of which the first frame is read"].append(number)
        if header.upright != size:
            changed[f"resized to {size[0]} x {size[1]} by {resize!r}"].append(number)
        if channels == 1 and not header.gray:
            changed["in color, read as gray"].append(number)
        if channels == 3 and header.gray:
            changed["gray, read as color"].append(number)
    return [
        f"{counted(len(numbers), 'picture')}, such as {paths[numbers[0]]}: {what}."
        for what, numbers in changed.items()
    ]


def _is_side(side: Any) -> bool:
    whole = isinstance(side, (int, np.integer)) and not isinstance(side, bool)
    return bool(whole and side >= 1)
