"""Weights of the field's PyTorch networks into a Keras network, and back."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from robust_tf import compat
from robust_tf.models import input_range as pixels
from robust_tf.models import torch_files, torch_matching, torch_state
from robust_tf.models.classifier import image_shape_of
from robust_tf.models.discriminator import Discriminator
from robust_tf.models.input_range import InputRange, with_input_range
from robust_tf.models.torch_layout import leaves
from robust_tf.models.torch_matching import by_layer, tables_for
from robust_tf.version import __version__


def from_torch(
    network: Any,
    checkpoint: str | os.PathLike[str] | Mapping[str, Any],
    *,
    input_range: Any = None,
    entry: str | None = None,
) -> Any:
    """Puts the weights of a PyTorch checkpoint into a Keras network of the same architecture.

    Layers are found by name where the network is one of this library and the checkpoint of a
    program of the field, otherwise by order and shapes: then every layer has a module of its
    shapes, at the same place of the order; two layers of the same shapes that the programs have in
    another order cannot be told apart. A `.safetensors` file does not keep the order, so that there
    layers of the same shapes are told apart by the numbers in their names alone. Whether strides,
    padding, activations and the range of pixels are the program's no file says: compare the
    accuracy with what was published.

    Args:
      network: built Keras model or `Discriminator`; its weights are set in place, all of them or,
        if anything does not fit, none.
      checkpoint: a `.safetensors` file, a file of `torch.save`, or a mapping of names to arrays or
        tensors.
      input_range: the pixels that the weights were trained on, where the program made them of
        images in [0, 1] outside of the network: what `with_input_range` takes, such as (-1, 1) or
        {'mean': (0.4914, 0.4822, 0.4465), 'std': (0.2471, 0.2435, 0.2616)}. None: [0, 1], or what
        the file stores.
      entry: key of the weights in a checkpoint that has several, such as 'best'; None: averaged
        weights first, then as the programs have it.

    Returns:
      The network; where pixels are not [0, 1] one around it that makes them inside, with the same
      weights. `weights_source` says where they come from: file, sha256, entry, prefixes, program,
      normalization, version.

    Raises:
      FileError, ImportError: no such file; a package that reads it is missing.
      TypeError, ValueError: the file cannot be read or is refused; something does not fit, is left
        over or is not finite. The sentence names it, with both shapes.

    >>> network = models.WideResNet((32, 32, 3), 10, depth=34, width=10)
    >>> network = models.from_torch(network, "model_cifar_wrn.pt")
    """
    if not isinstance(network, keras.Model) or hasattr(network, "step_metrics"):
        hint = "give its network." if hasattr(network, "network") else "give a built Keras model."
        raise TypeError(f"models.from_torch: the network is a {type(network).__name__}; {hint}")
    if isinstance(checkpoint, Mapping):
        content, name, file, sha256 = checkpoint, "the mapping", None, None
        ordered = True
    else:
        content, name = torch_files.read(checkpoint), os.fspath(checkpoint)
        file, sha256 = os.path.basename(name), torch_files.sha256(name)
        ordered = not isinstance(content, torch_files.Safetensors)
    shape = None if isinstance(network, Discriminator) else image_shape_of(network)
    part = torch_state.TOGETHER[isinstance(network, Discriminator)]
    channels = shape[-1] if shape else None
    state = torch_state.unpack(content, name, channels, entry, part)
    modules = torch_matching.modules_of(state.tensors)
    found = torch_matching.match(network, leaves(network), modules, name, state.dropped, ordered)
    _check_values(state.tensors, name)
    wanted, inside = _pixels(network, state.normalization, input_range, name)
    made = network if wanted is None or inside else with_input_range(network, wanted)
    for leaf, module in found.pairs:
        for last, variable in leaf.variables().items():
            array = torch_state.as_array(modules[module][last])
            variable.assign(tf.cast(leaf.to_keras(array, variable), variable.dtype))
    _note_epsilon(found)
    source = {
        "file": file,
        "sha256": sha256,
        "entry": state.entry,
        "prefixes": state.prefixes,
        "program": found.program,
        "normalization": _plain(wanted),
        "version": __version__,
    }
    object.__setattr__(made, "weights_source", source)  # Keras would track a dict
    return made


def to_torch(network: Any, program: str | None = None) -> dict[str, np.ndarray]:
    """The weights of a Keras network as a PyTorch program calls them, and in its layout.

    The pixels that an `InputRange` inside makes of images in [0, 1] are no weights: the PyTorch
    network must be given them.

    Args:
      network: built Keras model or `Discriminator`.
      program: 'PROGRAM.CLASS' as in `weights_source['program']`; None: the one that the weights
        came from, else the first that has this network, else the names of the layers here.

    Returns:
      Names to arrays of their own, with `num_batches_tracked`, in the order of the layers: for
      `load_state_dict({name: torch.from_numpy(array) for name, array in ...})`.

    Raises:
      ValueError: no such program, or not of this network.
    """
    if not isinstance(network, keras.Model) or hasattr(network, "step_metrics"):
        hint = "give its network." if hasattr(network, "network") else "give a built Keras model."
        raise TypeError(f"models.to_torch: the network is a {type(network).__name__}; {hint}")
    found = leaves(network)
    tables = {
        table.name: (table, pairs)
        for table, pairs in tables_for(network, found)
        if table.check(network) is None
    }
    if program is None:
        came_from = (getattr(network, "weights_source", None) or {}).get("program")
        program = came_from if came_from in tables else next(iter(tables), None)
    if program is not None and program not in tables:
        known = ", ".join(map(repr, tables)) or "none that has it is known; leave program out"
        raise ValueError(
            f"models.to_torch(program={program!r}): the network {network.name!r} is not of this "
            f"program; those that have it: {known}."
        )
    table, pairs = tables[program] if program is not None else (None, by_layer(found))
    state: dict[str, np.ndarray] = {}
    for leaf, module in pairs:
        for last, variable in leaf.variables().items():
            state[f"{module}.{last}"] = leaf.to_torch(compat.raw(variable).numpy())
        if f"{module}.running_var" in state:
            state[f"{module}.num_batches_tracked"] = np.array(0, np.int64)
    for begin, of in table.unused.items() if table is not None else ():
        copies = {key: one.copy() for key, one in state.items() if key.startswith(of)}
        state |= {begin + key[len(of) :]: one for key, one in copies.items()}
    return state


def _check_values(tensors: Mapping[str, Any], name: str) -> None:
    """Raises ValueError for what is no number, or too large for float32."""
    for key, tensor in tensors.items():
        with np.errstate(over="ignore"):
            array = torch_state.as_array(tensor).astype(np.float32, copy=False)
        finite = np.isfinite(array)
        if not finite.all():
            raise ValueError(
                f"{name}: {array.size - int(finite.sum())} of the {array.size} values of {key} are "
                "NaN or infinite in float32; the training that it comes from has diverged, or the "
                "file is damaged."
            )
        if key.endswith("running_var") and array.min() < 0:
            raise ValueError(f"{name}: {key}, a variance, is negative; the file is damaged.")


def _pixels(network: Any, stored: Any, given: Any, name: str) -> tuple[Any, bool]:
    """What pixels the weights are for, None for those in [0, 1]; whether the network makes them."""
    if stored is not None and given is not None:
        raise ValueError(
            f"input_range={given!r}: {name} stores a normalization of pixels with the weights, "
            f"{stored}; leave input_range out, or take that out of a mapping."
        )
    wanted = stored if given is None else given
    if wanted is None:
        return None, False
    if isinstance(network, Discriminator):
        raise ValueError(f"input_range={given!r}: a Discriminator takes no pixels.")
    kinds = (InputRange, keras.layers.Rescaling, keras.layers.Normalization)
    for layer in (one for one in compat.layers_of(network) if isinstance(one, kinds)):
        same = pixels.input_range(wanted, image_shape_of(network) or (None,))
        if isinstance(same, InputRange) and _same(layer, same):
            return wanted, True
        raise ValueError(
            f"the network {network.name!r} has the layer {layer.name!r} for its pixels, and "
            f"{wanted} would be put before that; build the network without it."
        )
    return wanted, False


def _same(layer: Any, other: InputRange) -> bool:
    """Whether two layers make the same pixels, but for rounding."""
    if not isinstance(layer, InputRange) or layer.reverse != other.reverse:
        return False
    pairs = ((layer.scale, other.scale), (layer.offset, other.offset))
    return all(np.allclose(one, two, rtol=1e-5, atol=1e-6) for one, two in pairs)


def _plain(wanted: Any) -> Any:
    """As JSON has it."""
    if wanted is None or isinstance(wanted, str):
        return wanted
    if isinstance(wanted, keras.layers.Layer):
        return wanted.name
    if isinstance(wanted, Mapping):
        return {key: np.asarray(one, float).tolist() for key, one in wanted.items()}
    return np.asarray(wanted, float).tolist()


def _note_epsilon(found: torch_matching.Match) -> None:
    """Says which normalizations have another epsilon than PyTorch's, which no file tells."""
    other = {
        leaf.name: leaf.layer.epsilon
        for leaf, _ in found.pairs
        if "running_var" in leaf.variables() and not np.isclose(leaf.layer.epsilon, 1e-5)
    }
    if other:
        name, epsilon = next(iter(other.items()))
        warnings.warn(
            f"models.from_torch: the layer {name!r} has epsilon={epsilon:g}, and {len(other)} of "
            "the batch normalizations have another than 1e-5, which PyTorch takes unless told "
            "otherwise and no checkpoint holds: build them with epsilon=1e-5.",
            stacklevel=3,
        )
