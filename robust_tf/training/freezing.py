"""Fine-tuning: layers that are not trained, for some epochs or for all."""

from __future__ import annotations

import difflib
from typing import Any

import keras

from robust_tf import compat
from robust_tf.models import Classifier, SplitClassifier


class Frozen:
    """Freezes a network from the images to a layer, and unfreezes it.

    A frozen layer's weights stay as they are, and its batch normalization normalizes by its moving
    averages, which stay too. A layer that was not trainable before is left so.

    Args:
      networks: of the same layers; the one that is trained, and that of its averaged weights.
      until: name of the last layer that is frozen; 'generator': all before the features.

    Attributes:
      on: whether they are frozen now.

    Raises:
      ValueError: there is no such layer; or nothing would be left to train.
    """

    def __init__(self, networks: list[Classifier], until: str):
        layers = [layer for network in networks for layer in _until(network, until)]
        self._before = [(layer, layer.trainable) for layer in layers]
        self.on = False
        self.turn(on=True)
        if not networks[0].trainable_variables:
            raise ValueError(f"train.frozen={until!r}: no weight would be left to train.")

    def turn(self, on: bool) -> None:
        """Freezes those layers, or has those of them trained again that were before."""
        for layer, before in self._before:  # a model before its layers, which it sets
            layer.trainable = before and not on
        self.on = on


def _until(network: Any, until: str) -> list[keras.layers.Layer]:
    """The layers up to the one of this name, those inside of layers behind them."""
    if not isinstance(network, SplitClassifier):
        raise ValueError(
            f"train.frozen={until!r}: the network is not cut, so that the order of its layers is "
            "not known; set layer.trainable = False where it is built."
        )
    generator = list(network.generator.layers)
    layers = [*generator, *network.classifier.layers]
    names = [layer.name for layer in layers]
    if until == "generator":
        names, until = names[: len(generator)], names[len(generator) - 1]
    if until not in names:
        near = difflib.get_close_matches(until, names, 1, cutoff=0.3)
        hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(names)}."
        raise ValueError(f"train.frozen={until!r}: the network has no such layer; {hint}")
    whole = layers[: names.index(until) + 1]
    return [one for layer in whole for one in compat.layers_of(layer)]
