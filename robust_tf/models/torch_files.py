"""Files of PyTorch weights: `.safetensors`, and `.pt`, `.pth` or `.tar` of `torch.save`.

What a file is goes by its content, not by its name. Nothing is unpickled freely: PyTorch's own
reader of plain weights (`weights_only`) refuses whatever would run code.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import pickle
import re
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np
import tensorflow as tf

from robust_tf import files

_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"
_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U8": "u1",
    "BOOL": "?",
}
_RESAVE = (
    "where you trust it, read it with the program that wrote it and save the weights alone, "
    "torch.save(network.state_dict(), 'weights.pt')"
)


def read(path: str | os.PathLike[str]) -> Mapping[str, Any]:
    """What a file of PyTorch weights holds; tensors stay in the file until they are used.

    Args:
      path: of a `.safetensors` file, which needs the package safetensors and no PyTorch, or of a
        file of `torch.save`, zip or legacy, which needs PyTorch.

    Raises:
      FileError: there is no such file.
      ImportError: a package is missing; the sentence says which extra brings it.
      ValueError: a file of another kind, truncated, or with more in it than plain weights.
    """
    path = os.fspath(path)
    if not files.exists(path) or files.is_folder(path):
        raise files.FileError(f"there is no file {path}; give a .safetensors, .pt or .pth file.")
    if "://" in path:  # in a bucket: what maps files needs one that is here
        with tempfile.TemporaryDirectory() as folder:
            here = os.path.join(folder, os.path.basename(path))
            tf.io.gfile.copy(path, here)
            return _read(here, path)
    return _read(path, path)


def sha256(path: str | os.PathLike[str]) -> str:
    """Of the file's bytes, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with tf.io.gfile.GFile(os.fspath(path), "rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def _read(path: str, name: str) -> Mapping[str, Any]:
    with open(path, "rb") as file:
        head = file.read(9)
    if head[:4] == _ZIP:
        _check_zip(path, name)
        return _read_torch(path, name, mapped=True)
    if head[:1] == _PICKLE:
        return _read_torch(path, name, mapped=False)
    if len(head) == 9 and head[8:] == b"{":
        return Safetensors(path, name)
    raise ValueError(
        f"{name} is no file of PyTorch weights: it begins like neither a .safetensors file nor one "
        "of torch.save."
    )


def _check_zip(path: str, name: str) -> None:
    """Raises ValueError unless it is a whole zip file of `torch.save`."""
    try:
        with zipfile.ZipFile(path) as archive:
            inside = archive.namelist()
    except (zipfile.BadZipFile, OSError):
        raise ValueError(
            f"{name} is truncated: it begins like a file of torch.save, and its end is missing; "
            "get it again."
        ) from None
    if "config.json" in inside:
        raise ValueError(f"{name} is a Keras file; keras.models.load_model reads it.")
    if any(one.endswith("/constants.pkl") for one in inside):
        raise ValueError(f"{name} is a TorchScript program, which would have to be run; {_RESAVE}.")
    if not any(one.endswith("/data.pkl") for one in inside):
        raise ValueError(f"{name} is a zip file, and not one of torch.save.")


def _read_torch(path: str, name: str, mapped: bool) -> Mapping[str, Any]:
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            f"{name} is a file of torch.save, and PyTorch is not installed: "
            "pip install 'robust_tf[torch]', or save the weights as .safetensors where it is."
        ) from error
    try:
        with _allowed(torch):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = named[1] if named else "more"
        raise ValueError(
            f"{name} is refused: it holds {what} beside plain weights, and to load that could run "
            f"code of the file; none was run. Give another file, or {_RESAVE}."
        ) from error
    except Exception as error:  # of a broken file torch raises of every kind
        first = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ValueError(
            f"{name} cannot be read: truncated, or no file of torch.save ({first}); get it again."
        ) from error
    if not isinstance(content, Mapping):
        raise ValueError(
            f"{name} holds a {type(content).__name__}, and no weights by their names; {_RESAVE}."
        )
    return content


def _allowed(torch: Any) -> contextlib.AbstractContextManager[None]:
    """Lets checkpoints hold beside weights what runs no code: NumPy's numbers, and arguments."""
    if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 6):
        return contextlib.nullcontext()  # does not take other names
    scalar = np.float64(0).__reduce__()[0]
    of_numpy_1 = (scalar, "numpy.core.multiarray.scalar")
    dtypes = [type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i4", "i8", "?")]
    return torch.serialization.safe_globals(  # type: ignore[no-any-return]
        [scalar, of_numpy_1, np.dtype, *dtypes, argparse.Namespace]
    )


class Stored:
    """One tensor of a `.safetensors` file, which NumPy reads when it asks for the values."""

    def __init__(self, file: BinaryIO, begin: int, dtype: str, shape: Sequence[int]):
        self._file, self._begin = file, begin
        self.bfloat16 = dtype == "BF16"
        self.dtype = np.dtype(np.float32 if self.bfloat16 else _DTYPES[dtype])
        self.shape = tuple(shape)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        self._file.seek(self._begin)
        kind = np.dtype("<u2") if self.bfloat16 else self.dtype
        array = np.empty(self.shape, kind)
        self._file.readinto(array.reshape(-1).view(np.uint8).data)
        if self.bfloat16:  # the upper half of a float32
            array = (array.astype("<u4") << 16).view(np.float32)
        return array if dtype is None else array.astype(dtype, copy=False)


class Safetensors(Mapping[str, Stored]):
    """The tensors of a `.safetensors` file; bfloat16 is given as float32."""

    def __init__(self, path: str, name: str):
        try:
            import safetensors
        except ImportError as error:
            raise ImportError(
                f"{name} is a .safetensors file, and the package that reads it is not installed: "
                "pip install 'robust_tf[safetensors]'."
            ) from error
        try:
            with safetensors.safe_open(path, framework="numpy"):
                pass  # it checks that header and bytes agree
        except Exception as error:  # SafetensorError is not part of what it documents
            raise ValueError(
                f"{name} cannot be read: truncated, or no .safetensors file ({error}); get it "
                "again."
            ) from error
        file = open(path, "rb")  # closed with the last tensor of it
        size = int.from_bytes(file.read(8), "little")
        self._tensors = {}
        for key, entry in json.loads(file.read(size)).items():
            if key == "__metadata__":
                continue
            if entry["dtype"] not in (*_DTYPES, "BF16"):
                raise ValueError(
                    f"{name}: {key} is of dtype {entry['dtype']}; save the weights as float32, "
                    "float16 or bfloat16."
                )
            begin = 8 + size + entry["data_offsets"][0]
            self._tensors[key] = Stored(file, begin, entry["dtype"], entry["shape"])

    def __getitem__(self, key: str) -> Stored:
        return self._tensors[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)
