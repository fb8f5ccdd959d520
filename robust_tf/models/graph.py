"""The graph of layers of a Sequential or functional model, and where it can be cut."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras

from robust_tf import compat


class Call(NamedTuple):
    """One call of a layer or operator in a graph.

    inputs, outputs: symbolic tensors; narrow: whether all that comes later depends on the images
    through `outputs` alone, so that the graph can be cut behind it.
    """

    layer: Any
    inputs: list[Any]
    outputs: list[Any]
    narrow: bool

    @property
    def name(self) -> str:
        """Of the layer or operator."""
        return str(self.layer.name)

    @property
    def has_weights(self) -> bool:
        """Whether there is anything to train in it."""
        return bool(getattr(self.layer, "weights", None))


def calls_of(images: Any, outputs: Any) -> list[Call]:
    """The calls on the way from `images` to `outputs`, in an order in which they can be run."""
    found: dict[int, tuple[Any, list[Any], list[Any]]] = {}
    stack = [(outputs, False)]
    while stack:
        tensor, ready = stack.pop()
        layer, inputs, made = compat.producer_of(tensor)
        key = id(made[0])
        if key in found or tensor is images:
            continue
        if ready:
            found[key] = (layer, inputs, made)
            continue
        stack.append((tensor, True))
        stack += [(one, False) for one in reversed(inputs)]
    last_use = {id(outputs): len(found)}
    for position, (_, inputs, _) in enumerate(found.values()):
        last_use |= {id(one): max(position, last_use.get(id(one), 0)) for one in inputs}
    calls, alive = [], {id(images)}
    for position, (layer, inputs, made) in enumerate(found.values()):
        alive |= {id(one) for one in made}
        alive = {one for one in alive if last_use.get(one, -1) > position}
        calls.append(Call(layer, inputs, made, alive == {id(made[0])} and bool(inputs)))
    return calls


def endpoints(model: keras.Model) -> tuple[Any, Any]:
    """The symbolic image of a model and what it gives, whole.

    Raises:
      ValueError: it takes several inputs, or batches of one size only.
    """
    if len(model.inputs) != 1:
        raise ValueError(
            f"the model {model.name!r} takes {len(model.inputs)} inputs; a classifier takes one, "
            "the images."
        )
    images = model.inputs[0]
    if images.shape[0] is not None and not isinstance(model, keras.Sequential):
        raise ValueError(
            f"the model {model.name!r} takes batches of {images.shape[0]} images only; build it "
            f"with keras.Input({tuple(images.shape[1:])})."
        )
    if isinstance(model, keras.Sequential):
        if images.shape[0] is not None:  # it was built by a call on so many images
            images = keras.Input(tuple(images.shape[1:]))
            layers = [one for one in model.layers if not isinstance(one, keras.layers.InputLayer)]
            outputs = images
            for layer in layers:
                outputs = layer(outputs)
            return images, outputs
        return images, model.outputs[0] if len(model.outputs) == 1 else model.outputs
    return images, model.output
