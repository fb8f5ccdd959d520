"""Whether a model still is what an attack was compiled for, told by its logits on a few images."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from robust_tf.attacks.input_range import LEAST, at_chance, warn_of_range
from robust_tf.attacks.network import Network, traced
from robust_tf.models.black_box import BlackBox

IMAGES = 8  # that are looked at; of a model that gives labels, as whole numbers, all
TOLERANCE = 1e-4  # of the largest logit: float rounding stays below it
NOISE = 10  # times as far apart as two calls of a random model, its logits have changed


class Watch:
    """The logits of a model as it was when attacks on it were compiled.

    Weights that are TensorFlow variables may change: graphs read them. Anything else that a model
    looks up in Python (a global name, an attribute, a layer's activation, an array) is a constant
    of the graph, and a change of it is seen here, before each eager call of an attack, at the price
    of two forwards of eight images:

    * The graph's logits and the model's, called eagerly, agree: nothing has changed.
    * They do not: the model is traced again. If the new graph's logits are those of the old one,
      eager and compiled calls only round apart, as in bfloat16; that difference is allowed for from
      then on.
    * A model is random if two eager calls differ. It has changed if the new graph's logits are
      more than ten times as far from the old one's as the two calls from each other. A smaller
      change of a random model is not seen, and it is not compiled at every call; `evaluate`, which
      compiles its own attacks, does not depend on this.

    What changes gradients and no logits is not seen either.

    Args:
      num_classes: of the model.
      logits: the traced model, images to logits; None: it is not looked at again.
      x, first: images, and the model's logits of the first of them.
    """

    def __init__(
        self,
        num_classes: int,
        logits: Callable[[tf.Tensor], tf.Tensor] | None,
        x: tf.Tensor,
        first: tf.Tensor,
    ):
        self.num_classes, self.logits = num_classes, logits
        self.tolerance = TOLERANCE
        self.knows_range = logits is None
        self._first = weakref.ref(x), np.argmax(first, 1)

    def is_current(self, network: Network, model: Any, x: tf.Tensor) -> bool:
        """Whether the model, eagerly `network`, still gives the logits of the graph on images x."""
        if self.logits is None or isinstance(model, BlackBox) or not x.shape[0]:
            return True  # a black box is called by its graph each time
        here = network(x[:IMAGES]).numpy()
        images = x if (here == np.round(here)).all() else x[:IMAGES]
        if len(images) > IMAGES:  # two models may well give eight images the same labels
            here = network(images).numpy()
        before = self.logits(images).numpy()
        difference = distance(before, here)
        if difference <= self.tolerance:
            return True
        noise = distance(here, network(images).numpy())
        now = traced(network, model, x.shape[1:])(images).numpy()
        if distance(before, now) > max(TOLERANCE, NOISE * noise):
            return False
        self.tolerance = 2 * difference
        return True

    def check_range(self, x: tf.Tensor, y: tf.Tensor) -> None:
        """Warns, once, of a model that seems to take images of another range."""
        logits = self.logits
        if self.knows_range or logits is None or len(x) < LEAST:
            return
        self.knows_range = True
        (seen, classes), labels = self._first, np.asarray(y)
        if seen() is x and len(classes) >= LEAST:
            if not at_chance(classes == labels[: len(classes)], self.num_classes):
                return
        warn_of_range(
            lambda images: logits(tf.constant(images)).numpy().argmax(1),
            np.asarray(x),
            labels,
            self.num_classes,
        )


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference of logits (B, C), in parts of the largest logit; inf of other shapes.

    NaN and infinities are equal to themselves.
    """
    if a.shape != b.shape:
        return np.inf
    unequal = (a != b) & ~(np.isnan(a) & np.isnan(b))
    if not unequal.any():
        return 0.0
    if not (np.isfinite(a) & np.isfinite(b))[unequal].all():
        return np.inf
    finite = np.isfinite(a) & np.isfinite(b)
    return float(np.abs(a - b)[unequal].max() / max(np.abs(a[finite]).max(), 1e-30))
