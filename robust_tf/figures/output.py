"""Figures as files: which formats, what may be replaced, the same bytes of the same figure."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Any

from robust_tf import files
from robust_tf.figures import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("svg", "pdf", "png")
# How a figure says whose it is, and where that stands in its file.
MAKER = "robust_tf figures"
MARKS = {
    "svg": f"<dc:title>{MAKER}</dc:title>",
    "pdf": f"/Creator ({MAKER})",
    "png": f"Software\0{MAKER}",
}


def check_output(path: str | os.PathLike[str]) -> str:
    """The format of a file by its ending.

    Raises:
      ValueError: another than those of `FORMATS`. FileError: the file cannot be written.
    """
    ending = os.path.splitext(os.fspath(path))[1].lower().removeprefix(".")
    if ending not in FORMATS:
        known = ", ".join(f".{name}" for name in FORMATS)
        raise ValueError(f"{os.fspath(path)}: a figure is written as one of {known}.")
    files.check_writable(path)
    return ending


def check_free(path: str | os.PathLike[str], overwrite: bool = False) -> bool:
    """Whether a file is there that may be replaced: a figure of this library, by its metadata.

    Args:
      path: where a figure is to be written.
      overwrite: also takes any other file.

    Raises:
      ValueError: another ending than those of `FORMATS`. FileError: the file cannot be written, or
        is to be kept.
    """
    import tensorflow as tf

    ending, path = check_output(path), os.fspath(path)

    def is_figure(path: str) -> bool:
        with tf.io.gfile.GFile(path, "rb") as file:
            return MARKS[ending].encode() in file.read()

    what = "a figure of this command, by its metadata"
    return files.check_replaceable(path, what, is_figure, overwrite)


def save(figure: Figure, path: str | os.PathLike[str], dpi: int = 200) -> None:
    """Writes a figure as svg, pdf or png by the ending; the same figure gives the same bytes.

    Args:
      figure: of a draw function.
      path: with one of the endings.
      dpi: of a png, and of what is dense in the others.

    Raises:
      ValueError, FileError: as `check_output`.
    """
    content = as_bytes(figure, check_output(path), dpi)
    with files.atomic(path) as temporary:
        import tensorflow as tf

        with tf.io.gfile.GFile(temporary, "wb") as file:
            file.write(content)


def as_bytes(figure: Figure, ending: str, dpi: int = 200) -> bytes:
    """The content of such a file, 'svg', 'pdf' or 'png'."""
    about = {
        "svg": {"Date": None, "Creator": MAKER},
        "pdf": {"CreationDate": None, "Creator": MAKER},
        "png": {"Software": MAKER},
    }
    buffer = io.BytesIO()
    with style.matplotlib().rc_context({**style.matplotlib().rcParamsDefault, **style.PARAMETERS}):
        smallest: Any = {"pil_kwargs": {"optimize": True}} if ending == "png" else {}
        figure.savefig(buffer, format=ending, metadata=about[ending], dpi=dpi, **smallest)
    return buffer.getvalue()
