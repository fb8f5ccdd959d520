"""From what a file holds to one flat state dict: entry, prefixes, and a normalization in it."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

# Entries of the programs' checkpoints that hold weights; of several the first, averages before what
# was averaged.
ENTRIES = (
    "state_dict_ema",
    "model_ema",
    "ema_state_dict",
    "ema",
    "model_state_dict",
    "state_dict",
    "model",
    "net",
    "last",
    "best",
)
# Never of use: counters, a second list of the same weights (robustness), a stage that is never
# called (TRADES).
_DROPPED = re.compile(r"(.*\.)?(num_batches_tracked|n_averaged)|attacker\..*|sub_block1\..*")
# Mean and deviation of pixels, as they are called beside the weights.
_NORMALIZATION = (("mean", "std"), ("mu", "sigma"), ("new_mean", "new_std"))
# Networks that one program saves together.
TOGETHER = ("basic_net", "discriminator")


class State(NamedTuple):
    """Weights by their names, and how they were found.

    Attributes:
      tensors: name -> array or tensor, in the file's order.
      entry: keys under which they stood, joined by dots; None: they stood alone.
      prefixes: leading components that all names had, from the left.
      normalization: mean and std of pixels in [0, 1] that were stored, numbers or one for each
        channel.
      dropped: names that are never of use.
    """

    tensors: dict[str, Any]
    entry: str | None
    prefixes: list[str]
    normalization: dict[str, list[float]] | None
    dropped: list[str]


def unpack(
    content: Mapping[str, Any],
    name: str,
    channels: int | None,
    entry: str | None = None,
    part: str = TOGETHER[0],
) -> State:
    """The state dict in a checkpoint, with bare names.

    Args:
      content: what `torch_files.read` gives, or a mapping of a user.
      name: of the file, for messages.
      channels: of the images, where known; a stored normalization has so many numbers, or one.
      entry: key of the weights; None: the first of `ENTRIES` that is there.
      part: which of `TOGETHER`, where both are there.

    Raises:
      ValueError: no weights, no such entry, several that could be meant.
    """
    tensors, chosen = _entry(content, name, entry)
    prefixes: list[str] = []
    dropped: list[str] = []
    normalization = None
    while True:
        for key in [key for key in tensors if _DROPPED.fullmatch(key)]:
            dropped.append(key)
            del tensors[key]
        if normalization is None:
            normalization = _normalization(tensors, channels)
        leading = {key.partition(".")[0] for key in tensors}
        if leading == set(TOGETHER):
            tensors = {key: one for key, one in tensors.items() if key.startswith(f"{part}.")}
            leading = {part}
        # A network of a single layer keeps that layer's name.
        if len(leading) != 1 or any(key.count(".") < 2 for key in tensors):
            break
        [prefix] = leading
        prefixes.append(prefix)
        tensors = {key[len(prefix) + 1 :]: value for key, value in tensors.items()}
    for key, one in tensors.items():
        if not is_tensor(one):
            raise ValueError(f"{name}: {key} is a {type(one).__name__}, and no tensor.")
    return State(tensors, chosen, prefixes, normalization, dropped)


def _entry(
    content: Mapping[str, Any], name: str, entry: str | None
) -> tuple[dict[str, Any], str | None]:
    """The mapping of names to tensors in a checkpoint, and its keys."""
    keys: list[str] = []
    if entry is not None:
        if not isinstance(content.get(entry), Mapping):
            held = [str(key) for key, value in content.items() if isinstance(value, Mapping)]
            there = f"it has {', '.join(held)}" if held else "the weights stand in it without one"
            raise ValueError(f"entry={entry!r}: {name} has no such entry of weights; {there}.")
        content, keys = content[entry], [entry]
    while True:
        inner = [key for key, value in content.items() if _holds_state(value)]
        known = [key for key in ENTRIES if key in inner]
        if not known and _is_state(content):
            return dict(content), ".".join(keys) or None
        if not inner:
            raise ValueError(f"{name} holds no weights by their names, such as 'conv1.weight'.")
        key = (known or inner)[0]
        if len(inner) > 1:
            entries = ", ".join(map(str, inner))
            if not known:
                raise ValueError(
                    f"{name} has several entries of weights, {entries}: choose by "
                    f"entry={str(key)!r}."
                )
            warnings.warn(
                f"{name} has several entries of weights, {entries}: {key!r} was taken; choose by "
                f"entry={str(inner[-1])!r}.",
                stacklevel=4,
            )
        content, keys = content[key], [*keys, str(key)]


def _is_state(value: Any) -> bool:
    """Whether it maps names of weights to tensors; those of an optimizer's state have no dots."""
    return isinstance(value, Mapping) and any(
        isinstance(key, str) and ("." in key or key == "weight") and is_tensor(one)
        for key, one in value.items()
    )


def _holds_state(value: Any) -> bool:
    if not isinstance(value, Mapping):
        return False
    return _is_state(value) or any(_holds_state(one) for one in value.values())


def is_tensor(value: Any) -> bool:
    """Whether it is an array of NumPy, or a tensor of whatever library."""
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _normalization(tensors: dict[str, Any], channels: int | None) -> dict[str, list[float]] | None:
    """Mean and deviation of pixels, taken out of the tensors."""
    for key in list(tensors):
        outside, _, last = key.rpartition(".")
        for mean, deviation in _NORMALIZATION:
            other = f"{outside}.{deviation}" if outside else deviation
            if last != mean or "." in outside or other not in tensors:
                continue
            pair = [as_array(tensors[one]).reshape(-1) for one in (key, other)]
            sizes = {len(one) for one in pair} - {1}
            if sizes <= ({1, 2, 3, 4} if channels is None else {channels}):
                del tensors[key], tensors[other]
                names = ("mean", "std")
                return {n: one.astype(float).tolist() for n, one in zip(names, pair, strict=True)}
    return None


def as_array(value: Any) -> np.ndarray:
    """Float32 (float64 as it is) of an array or tensor, without a copy where it can be."""
    if hasattr(value, "detach"):  # PyTorch
        value = value.detach().cpu()
        value = value.double() if value.dtype.itemsize == 8 else value.float()
        return value.numpy()  # type: ignore[no-any-return]
    array = np.asarray(value)
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)
