"""Picture files: what their first bytes say."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterator

# Names of files that are taken for pictures; whether they are is told by what is in them.
EXTENSIONS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp")
_OTHERS = {  # by their first bytes; read by some programs, not by TensorFlow on all its versions
    b"II*\0": "a TIFF",
    b"MM\0*": "a TIFF",
    b"8BPS": "a Photoshop file",
    b"%PDF": "a PDF",
    b"<svg": "an SVG",
    b"<?xm": "an XML file, perhaps an SVG",
    b"<!DO": "a web page",
    b"<htm": "a web page",
}
OTHER_EXTENSIONS = (".tif", ".tiff", ".webp", ".heic", ".heif", ".avif", ".psd", ".svg", ".jp2")
_CONVERT = "; convert it to PNG or JPEG"


class PictureError(ValueError):
    """A file that is no picture which can be read; the message says what it is."""


@dataclasses.dataclass(frozen=True)
class Header:
    """What the first bytes of a picture say.

    Attributes:
      kind: 'JPEG', 'PNG', 'GIF' or 'BMP'.
      width, height: in pixels, as they are stored.
      gray: one channel, with or without transparency.
      remarks: what reading changes, each a phrase such as '16 bits, read as 8'.
      orientation: 1 .. 8 of EXIF, by which the picture is turned to stand upright.
    """

    kind: str
    width: int
    height: int
    gray: bool = False
    remarks: tuple[str, ...] = ()
    orientation: int = 1

    @property
    def upright(self) -> tuple[int, int]:
        """Height and width of the picture as it is to be seen."""
        sides = (self.height, self.width)
        return sides[::-1] if self.orientation > 4 else sides


def read_header(start: bytes) -> Header | None:
    """What a file that begins with these bytes is.

    Args:
      start: its first bytes; 64 kB nearly always suffice.

    Returns:
      None if more bytes are needed.

    Raises:
      PictureError: it is no picture that can be read.
    """
    if not start:
        raise PictureError("it is empty")
    try:
        if start.startswith(b"\xff\xd8"):
            found = _jpeg(start)
        elif start.startswith(b"\x89PNG\r\n\x1a\n"):
            found = _png(start)
        elif start[:6] in (b"GIF87a", b"GIF89a"):
            found = Header("GIF", *struct.unpack("<HH", start[6:10]))
        elif start.startswith(b"BM"):
            found = _bmp(start)
        else:
            raise PictureError(_other(start))
    except (struct.error, IndexError):
        return None
    if found is not None and not (found.width > 0 and found.height > 0):
        raise PictureError(f"its size is {found.width} x {found.height}: it is damaged")
    return found


def _png(start: bytes) -> Header:
    width, height, bits, color = struct.unpack(">IIBB", start[16:26])
    if start[12:16] != b"IHDR":
        raise PictureError("it is a damaged PNG, without a header")
    remarks: tuple[str, ...] = ("16 bits, read as 8",) if bits == 16 else ()
    if color in (4, 6) or b"tRNS" in start.split(b"IDAT", 1)[0]:
        remarks += ("transparency, left out",)
    return Header("PNG", width, height, color in (0, 4), remarks)


def _bmp(start: bytes) -> Header:
    width, height, _, bits, compression = struct.unpack("<iiHHI", start[18:34])
    if compression not in (0, 3) or bits not in (8, 24, 32):
        raise PictureError(
            f"it is a BMP of {bits} bits that is compressed or has a palette{_CONVERT}"
        )
    if bits == 8:
        # TensorFlow takes the numbers of the colors for their brightness: right if they are.
        (size,) = struct.unpack("<I", start[14:18])
        (used,) = struct.unpack("<I", start[46:50])
        palette = start[14 + size : 14 + size + 4 * (used or 256)]
        if len(palette) < 4 * (used or 256):
            raise IndexError
        if any(palette[4 * n : 4 * n + 3] != bytes([n] * 3) for n in range(len(palette) // 4)):
            raise PictureError(f"it is a BMP with a palette{_CONVERT}")
    remarks = ("transparency, left out",) if bits == 32 else ()
    return Header("BMP", width, abs(height), bits == 8, remarks)


def _jpeg(start: bytes) -> Header:
    orientation, adobe = 1, False
    for marker, content in _segments(start):
        if marker == 0xE1 and content.startswith(b"Exif\0\0"):
            orientation = _orientation(content[6:])
        elif marker == 0xEE and content.startswith(b"Adobe"):
            adobe = True
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            bits, height, width, channels = struct.unpack(">BHHB", content[:6])
            if bits != 8:
                raise PictureError(f"it is a JPEG of {bits} bits a channel{_CONVERT}")
            if marker not in (0xC0, 0xC1, 0xC2):
                raise PictureError(f"it is a lossless or arithmetically coded JPEG{_CONVERT}")
            if channels not in (1, 3, 4):
                raise PictureError(f"it is a JPEG of {channels} channels{_CONVERT}")
            if channels == 4 and not adobe:
                raise PictureError(
                    f"it is a CMYK JPEG that does not say how its inks are stored{_CONVERT}"
                )
            remarks = ["CMYK, read as RGB without its color profile"] * (channels == 4)
            remarks += ["turned upright, as EXIF says"] * (orientation > 1)
            return Header("JPEG", width, height, channels == 1, tuple(remarks), orientation)
    raise PictureError("it is a damaged JPEG, without an image")


def _segments(start: bytes) -> Iterator[tuple[int, bytes]]:
    """Markers and contents of a JPEG up to its pixels; IndexError where more bytes are needed."""
    place = 2
    while True:
        if start[place] != 0xFF:
            raise PictureError("it is a damaged JPEG")
        marker = start[place + 1]
        if marker == 0xFF:  # fill
            place += 1
            continue
        if marker in (0xD9, 0xDA):
            return
        if marker == 0x01 or 0xD0 <= marker <= 0xD7:  # without content
            place += 2
            continue
        (length,) = struct.unpack(">H", start[place + 2 : place + 4])
        if place + 2 + length > len(start):
            raise IndexError
        yield marker, start[place + 4 : place + 2 + length]
        place += 2 + length


def _orientation(tiff: bytes) -> int:
    """EXIF's orientation, 1 (upright) where it says nothing that can be read."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    try:
        if order is None:
            return 1
        (first,) = struct.unpack(f"{order}I", tiff[4:8])
        (count,) = struct.unpack(f"{order}H", tiff[first : first + 2])
        for entry in range(first + 2, first + 2 + 12 * count, 12):
            tag, _, _, value = struct.unpack(f"{order}HHIH", tiff[entry : entry + 10])
            if tag == 0x0112:
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1


def _other(start: bytes) -> str:
    """What a file is that is none of the four kinds."""
    for mark, what in _OTHERS.items():
        if start.startswith(mark):
            return f"it is {what}{_CONVERT}"
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return f"it is a WebP{_CONVERT}"
    if start[4:8] == b"ftyp":
        return f"it is a HEIC, AVIF or a film{_CONVERT}"
    if start.startswith(b"version https://git-lfs"):
        return "it is a pointer of Git LFS: fetch the file itself, git lfs pull"
    return "it is no JPEG, PNG, GIF or BMP"
