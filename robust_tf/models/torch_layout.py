"""Layers with weights in the order of a network, and the layout of PyTorch's tensors for them.

PyTorch has the channels first: kernels are (out, in, height, width), dense ones (out, in), and a
map is flattened channel by channel, so that a dense layer behind it has its rows in another order.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import keras
import numpy as np

from robust_tf import compat
from robust_tf.models.discriminator import Discriminator
from robust_tf.models.graph import calls_of
from robust_tf.models.layers import BatchNormalization
from robust_tf.models.split import SplitClassifier

Shape = tuple[int, ...]

_CONV = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
_TRANSPOSED = (
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)
_SEPARABLE = (keras.layers.SeparableConv1D, keras.layers.SeparableConv2D)
_NORMALIZED = (keras.layers.LayerNormalization, keras.layers.GroupNormalization)
_BATCH = (BatchNormalization, keras.layers.BatchNormalization)
UNKNOWN: Shape = (0,)


class Leaf(NamedTuple):
    """One layer with weights.

    layer: of Keras; flattened: (height, width, channels) of the map that its inputs were flattened
    from, None where they were not, or PyTorch's order is the same; center: whether its 1x1 kernel
    is the center of a 3x3 one there.
    """

    layer: Any
    flattened: Shape | None = None
    center: bool = False

    @property
    def name(self) -> str:
        """Of the layer."""
        return str(self.layer.name)

    def variables(self) -> dict[str, Any]:
        """The variables by PyTorch's names of them."""
        layer = self.layer
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            kernel = "kernel" if hasattr(layer, "kernel") else "depthwise_kernel"
            named = {"weight": getattr(layer, kernel), "bias": layer.bias}
        elif isinstance(layer, _BATCH):
            named = {
                "weight": layer.gamma,
                "bias": layer.beta,
                "running_mean": layer.moving_mean,
                "running_var": layer.moving_variance,
            }
        elif isinstance(layer, _NORMALIZED):
            named = {"weight": layer.gamma, "bias": layer.beta}
        else:
            named = {"weight": layer.kernel, "bias": layer.bias}
        return {name: variable for name, variable in named.items() if variable is not None}

    def shapes(self) -> dict[str, Shape]:
        """Of PyTorch's tensors."""
        return {name: self._shape(one) for name, one in self.variables().items()}

    def _shape(self, variable: Any) -> Shape:
        shape = tuple(variable.shape)
        if isinstance(self.layer, keras.layers.DepthwiseConv2D) and len(shape) == 4:
            return (shape[2] * shape[3], 1, *shape[:2])
        if len(shape) > 2:
            sides = (3, 3) if self.center else shape[:-2]
            return (shape[-1], shape[-2], *sides)
        return shape[::-1]

    def to_keras(self, tensor: np.ndarray, variable: Any) -> np.ndarray:
        """A tensor of PyTorch's shape in the layout of the variable."""
        if tensor.ndim == 1:
            return self._order(tensor[:, None])[:, 0] if self._ordered else tensor
        if tensor.ndim == 2:
            return self._order(tensor.T)
        if isinstance(self.layer, keras.layers.DepthwiseConv2D):
            channels, multiplier = variable.shape[2:]
            split = tensor.reshape(channels, multiplier, *tensor.shape[2:])
            return split.transpose(2, 3, 0, 1)
        if self.center:
            tensor = tensor[:, :, 1:2, 1:2]
        return np.moveaxis(tensor, (0, 1), (-1, -2))

    def to_torch(self, array: np.ndarray) -> np.ndarray:
        """Inverse of `to_keras`, in memory of its own; around a center there are zeros."""
        if array.ndim == 1:
            made = self._order(array[:, None], back=True)[:, 0] if self._ordered else array
        elif array.ndim == 2:
            made = self._order(array, back=True).T
        elif isinstance(self.layer, keras.layers.DepthwiseConv2D):
            height, width, channels, multiplier = array.shape
            made = array.transpose(2, 3, 0, 1).reshape(channels * multiplier, 1, height, width)
        else:
            made = np.moveaxis(array, (-1, -2), (0, 1))
            if self.center:
                made = np.pad(made, ((0, 0), (0, 0), (1, 1), (1, 1)))
        return np.array(made, order="C")

    @property
    def _ordered(self) -> bool:
        return self.flattened is not None and isinstance(self.layer, (*_BATCH, *_NORMALIZED))

    def _order(self, rows: np.ndarray, back: bool = False) -> np.ndarray:
        """Rows (n, m) of a flattened map from PyTorch's order to Keras', or back."""
        if self.flattened is None:
            return rows
        *sides, channels = self.flattened
        if back:
            return np.moveaxis(rows.reshape(*sides, channels, -1), -2, 0).reshape(rows.shape)
        return np.moveaxis(rows.reshape(channels, *sides, -1), 0, -2).reshape(rows.shape)


def leaves(network: Any) -> list[Leaf]:
    """The layers with weights, in an order in which they are called.

    Raises:
      ValueError: a layer with weights of a kind whose layout in PyTorch is not known; a dense layer
        of which it cannot be told in which order its inputs are.
    """
    found: dict[int, Leaf] = {}
    _Walk(found).model(network, None)
    known = {id(one) for leaf in found.values() for one in leaf.variables().values()}
    for layer in compat.layers_of(network):
        inner = {id(one) for part in _parts(layer) for one in part.weights}
        own = {id(one) for one in layer.weights} - inner
        if own - known and not isinstance(layer, keras.layers.Normalization):  # its are no weights
            raise ValueError(
                f"the layer {layer.name!r}, a {type(layer).__name__}, has weights whose layout in "
                "PyTorch is not known; convolutions (but for separable ones), dense layers and "
                "normalizations are: build the network of these."
            )
    if not found:
        raise ValueError(
            f"the network {network.name!r} has no weights: build it, by keras.Input((height, "
            "width, channels)) at its beginning or a call on images."
        )
    return list(found.values())


def _parts(layer: Any) -> list[Any]:
    return [one for one in compat.layers_of(layer) if one is not layer]


def _is_leaf(layer: Any) -> bool:
    kinds = (*_CONV, *_TRANSPOSED, keras.layers.DepthwiseConv2D, keras.layers.Dense)
    known = isinstance(layer, (*kinds, *_BATCH, *_NORMALIZED))
    return known and not isinstance(layer, _SEPARABLE)


class _Walk:
    """Collects leaves in the order of calls; of vectors it knows the map that they are made of."""

    def __init__(self, found: dict[int, Leaf]):
        self.found = found

    def model(self, model: Any, flattened: Shape | None) -> Shape | None:
        """Of what a model gives, given that of its inputs."""
        if isinstance(model, SplitClassifier):
            return self.model(model.classifier, self.model(model.generator, flattened))
        if isinstance(model, Discriminator):
            return self.model(model.heads, self.model(model.trunk, flattened))
        if hasattr(model, "output_key"):  # a WholeClassifier
            return self.model(model.model, flattened)
        if not compat.is_graph(model):
            self.unknown_order(model)
            return None
        origins: dict[int, Shape | None] = {id(one): flattened for one in model.inputs}
        for output in model.outputs:
            for call in calls_of(model.inputs[0], output):
                if not all(id(one) in origins for one in call.outputs):
                    self.call(call, origins)
        return origins[id(model.outputs[0])]

    def call(self, call: Any, origins: dict[int, Shape | None]) -> None:
        before = {origins.get(id(one)) for one in call.inputs}
        origin = before.pop() if len(before) == 1 else UNKNOWN if any(before) else None
        layer = call.layer
        if _is_leaf(layer):
            self.leaf(layer, origin)
        elif isinstance(layer, keras.layers.Layer) and _parts(layer):
            origin = self.model(layer, origin)
        elif call.inputs:
            origin = _after(call, origin)
        if isinstance(layer, keras.layers.Dense):
            origin = None
        for one in call.outputs:
            origins[id(one)] = origin

    def leaf(self, layer: Any, origin: Shape | None) -> None:
        if origin == UNKNOWN:
            raise ValueError(
                f"the inputs of the layer {layer.name!r} are made of a flattened map by more than "
                "dropout, activations and normalization, so that their order in PyTorch is not "
                "known; take the mean over the map, or flatten it right before the layer."
            )
        flat = origin is not None and math.prod(origin[:-1]) > 1
        self.found.setdefault(id(layer), Leaf(layer, origin if flat else None))

    def unknown_order(self, model: Any) -> None:
        """A subclassed model: its layers in the order in which it has them."""
        channels = None
        for layer in _inner_leaves(model):
            if isinstance(layer, keras.layers.Dense):
                if channels not in (None, layer.kernel.shape[0]):
                    raise ValueError(
                        f"{model.name!r}, a {type(model).__name__}, calls its layers by code of "
                        f"its own, and the layer {layer.name!r} has {layer.kernel.shape[0]} inputs "
                        f"behind {channels} channels: whether and how they are flattened is not "
                        "known; build it as a functional model."
                    )
                channels = None
            elif isinstance(layer, (*_CONV, *_TRANSPOSED)):
                channels = layer.filters
            self.found.setdefault(id(layer), Leaf(layer))


def _inner_leaves(model: Any) -> Iterator[Any]:
    for layer in compat.layers_of(model):
        if _is_leaf(layer) and layer.weights:
            yield layer


def _after(call: Any, origin: Shape | None) -> Shape | None:
    """Of what a layer without weights, or an operator, gives."""
    taken, made = tuple(call.inputs[0].shape)[1:], tuple(call.outputs[0].shape)[1:]
    if len(made) == 1 and len(taken) > 1 and None not in taken:
        if made[0] != math.prod(taken) or math.prod(taken[:-1]) == 1:
            return None  # pooled
        if origin is not None:
            return UNKNOWN
        producer = compat.producer_of(call.inputs[0])[0]
        if isinstance(producer, keras.layers.Permute):
            first = producer.dims == (len(taken), *range(1, len(taken)))
            return None if first else UNKNOWN
        return taken
    if origin is None or made == taken:
        return origin
    return UNKNOWN
