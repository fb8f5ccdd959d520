"""Rematerialization: a forward pass keeps what goes in between blocks of layers, not the rest.

The gradient of a block computes its inside again, at the cost of one more forward in all. The
blocks are sought in the graph of layers: between places that all of the computation passes, so that
what is kept, and the inside of the largest block, are as few numbers as can be.

Source: Chen et al. (2016), "Training Deep Nets with Sublinear Memory Cost"; the gradient is
`tf.recompute_grad`. Keras 3's `RematScope` is not used: it forgets the inside of one layer at a
time, must be in force when layers are made, and Keras 2 has none.
"""

from __future__ import annotations

import math
import weakref
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from robust_tf import compat
from robust_tf.models import forward
from robust_tf.models.graph import calls_of, endpoints

# Blocks of each model that is rematerialized. Not an attribute, which Keras would save.
_BLOCKS: weakref.WeakKeyDictionary[Any, list[Any]] = weakref.WeakKeyDictionary()


def turn(models: list[keras.Model], on: bool) -> int:
    """Has the forward passes of these models that are traced from now on rematerialized, or not.

    Returns:
      The number of blocks in all: with less than two nothing is saved.
    """
    for model in models:
        _BLOCKS.pop(model, None)
        if on:
            _BLOCKS[model] = blocks_of(model)
    return sum(len(_BLOCKS[model]) for model in models) if on else 0


def call(model: keras.Model, x: tf.Tensor, training: bool) -> Any:
    """`model(x, training=training)`, block by block where the model is rematerialized."""
    blocks = _BLOCKS.get(model)
    if blocks is None:
        return model(x, training=training)
    for block in blocks:
        x = _recomputed(block, x, training)
    return x


def _recomputed(block: keras.Model, x: tf.Tensor, training: bool) -> tf.Tensor:
    """The outputs of a block, whose inside the gradient computes again in the same mode."""
    mode = forward.in_force()
    passes = 0

    def run(images: tf.Tensor) -> tf.Tensor:
        nonlocal passes
        passes += 1
        if passes == 1:
            outputs = block(images, training=training)
            _check_losses(block)
            return outputs
        with forward.again(mode):  # moving averages have seen these images
            return block(images, training=training)

    return tf.recompute_grad(run)(x)


def _check_losses(block: keras.Model) -> None:
    """Raises ValueError where a layer has added a loss, whose gradient would not be taken."""
    for layer in compat.layers_of(block):
        if getattr(layer, "_losses", None):
            raise ValueError(
                f"remat=True: the layer {layer.name!r} adds a loss of its outputs (add_loss, or an "
                "activity regularizer), whose gradient is lost in a block that is computed again; "
                "take it out, or use accumulate to save memory."
            )


class _Unit(NamedTuple):
    """What lies between two places that all of the computation passes.

    begin, end: symbolic tensors; inside: numbers that its layers give for an image, the last one
    aside; outside: that the last one gives; nested: the model that it is a call of, or None.
    """

    begin: Any
    end: Any
    inside: int
    outside: int
    nested: Any


def blocks_of(model: keras.Model) -> list[keras.Model]:
    """The model as a chain of models, which share its layers; itself where it cannot be cut."""
    if not compat.is_graph(model):
        return [model]
    images, outputs = endpoints(model)
    if tf.nest.is_nested(outputs):
        return [model]
    blocks: list[keras.Model] = []
    units: list[_Unit] = []
    for unit in [*_units(images, outputs), None]:
        if unit is not None and unit.nested is None:
            units.append(unit)
            continue
        if units:
            blocks += [keras.Model(begin, end) for begin, end in _grouped(units)]
            units = []
        if unit is not None:
            blocks += blocks_of(unit.nested)
    return blocks


def _units(images: Any, outputs: Any) -> list[_Unit]:
    """All of a graph, in order."""
    units, begin, calls = [], images, []
    for call in calls_of(images, outputs):
        calls.append(call)
        end = call.outputs[0]
        if not call.narrow and end is not outputs:
            continue
        inner = calls[0].layer if len(calls) == 1 and len(calls[0].inputs) == 1 else None
        nested = inner if compat.is_graph(inner) else None
        inside = sum(_size(one) for part in calls[:-1] for one in part.outputs)
        units.append(_Unit(begin, end, inside, _size(end), nested))
        begin, calls = end, []
    return units


def _size(tensor: Any) -> int:
    """Numbers for an image; sides that are not known count once."""
    return math.prod(side or 1 for side in tensor.shape[1:])


def _grouped(units: list[_Unit]) -> list[tuple[Any, Any]]:
    """Begin and end of each block, with the least sum of what is kept and the largest inside."""
    best: tuple[float, list[tuple[Any, Any]]] = (math.inf, [])
    total = sum(unit.inside + unit.outside for unit in units)
    for number in range(1, len(units) + 1):
        limit, groups = total / number, [[units[0]]]
        for unit in units[1:]:
            if _inside([*groups[-1], unit]) > limit:
                groups.append([])
            groups[-1].append(unit)
        kept = sum(group[-1].outside for group in groups[:-1])
        cost = kept + max(map(_inside, groups))
        if cost < best[0]:
            best = cost, [(group[0].begin, group[-1].end) for group in groups]
    return best[1]


def _inside(units: list[_Unit]) -> int:
    return sum(unit.inside + unit.outside for unit in units)
