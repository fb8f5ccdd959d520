"""The files of `bin/convert`: written, read again and compared, and told from others."""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from robust_tf import compat, files
from robust_tf.cli import UserError
from robust_tf.evaluation import loading
from robust_tf.models import InputRange, torch_files
from robust_tf.version import __version__

MARK = "robust_tf"  # in the metadata of a .safetensors file


def write_keras(network: Any, path: str) -> list[bytes]:
    """Writes a network; returns what `check_keras` compares, so that the network can go.

    Raises:
      FileError: it cannot be written.
    """
    with files.atomic(path) as temporary:
        network.save(temporary)
    return _seen(network)


def check_keras(path: str, written: list[bytes]) -> None:
    """Raises UserError, and removes the file, if what is read back is not what was written."""
    if _seen(loading.load_model(path)) != written:
        files.remove(path)
        raise UserError(
            f"{path} was removed: what is read back is not the network; look at get_config of "
            "layers of your own."
        )


def _seen(network: Any) -> list[bytes]:
    """Of each weight its bits, shortened, and the outputs for images of noise."""
    weights = (compat.raw(variable).numpy() for variable in network.variables)
    return [*(hashlib.sha256(one.tobytes()).digest() for one in weights), _outputs(network)]


def _outputs(network: Any) -> bytes:
    """Of four inputs of noise."""
    shape = getattr(network, "image_shape", None) or (network.input_size,)
    x = tf.random.stateless_uniform([4, *shape], [0, 0])
    outputs = network(x, training=False)
    parts = outputs if isinstance(outputs, tuple) else (outputs,)
    return np.concatenate([np.ravel(part) for part in parts]).tobytes()


def write_torch(state: Mapping[str, np.ndarray], path: str) -> None:
    """Writes a state dict as `.safetensors` or as a file of `torch.save`, and reads it again.

    Raises:
      FileError: it cannot be written.
      ImportError: the package is missing.
      UserError: something else is read back.
    """
    with files.atomic(path) as temporary:
        if path.endswith(".safetensors"):
            _save_safetensors(state, temporary)
        else:
            _save_torch(state, temporary)
        again = torch_files.read(temporary)
        if set(again) != set(state) or not all(
            np.array_equal(np.asarray(again[name]), array) for name, array in state.items()
        ):
            raise UserError(f"nothing was written to {path}: other weights are read back.")
        del again  # it maps the file


def _save_safetensors(state: Mapping[str, np.ndarray], path: str) -> None:
    try:
        from safetensors.numpy import save
    except ImportError as error:
        raise ImportError(
            "to write .safetensors the package safetensors is needed: "
            "pip install 'robust_tf[safetensors]'."
        ) from error
    content = save(
        {name: np.asarray(array, order="C") for name, array in state.items()},
        metadata={"format": "pt", MARK: __version__},
    )
    with tf.io.gfile.GFile(path, "wb") as file:
        file.write(content)


def _save_torch(state: Mapping[str, np.ndarray], path: str) -> None:
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            "to write a file of torch.save PyTorch is needed: pip install 'robust_tf[torch]', or "
            "name an --output that ends in .safetensors."
        ) from error
    content = io.BytesIO()
    torch.save({name: torch.from_numpy(array) for name, array in state.items()}, content)
    with tf.io.gfile.GFile(path, "wb") as file:
        file.write(content.getvalue())


def is_ours(path: str) -> bool:
    """Whether this command has written a file, by its content.

    A file of `torch.save` holds weights alone and does not tell.
    """
    try:
        if path.endswith(".keras"):
            with tf.io.gfile.GFile(path, "rb") as file, zipfile.ZipFile(file) as archive:
                return "weights_source" in json.loads(archive.read("config.json"))["config"]
        with tf.io.gfile.GFile(path, "rb") as file:
            size = int.from_bytes(file.read(8), "little")
            whole = 0 < size <= tf.io.gfile.stat(path).length
            header = json.loads(file.read(size)) if whole else {}
        return MARK in header.get("__metadata__", {})
    except (OSError, tf.errors.OpError, ValueError, KeyError, AttributeError, zipfile.BadZipFile):
        return False


def usage(network: keras.Model, path: str) -> list[str]:
    """How PyTorch reads a state dict of this network, and what it is to be given."""
    name = os.path.basename(path)
    lines = (
        [f"  state = safetensors.torch.load_file({name!r})"]
        if path.endswith(".safetensors")
        else [f"  state = torch.load({name!r}, weights_only=True)"]
    )
    lines.append("  network.load_state_dict(state); network.eval()")
    layers = [one for one in compat.layers_of(network) if isinstance(one, InputRange)]
    for layer in layers:
        reverse = ", channels reversed first" if layer.reverse else ""
        lines.append(
            f"  # not in the file: images in [0, 1] * {layer.scale} + {layer.offset}{reverse}"
        )
    return lines
