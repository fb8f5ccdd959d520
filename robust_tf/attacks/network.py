"""A model as attacks see it: images to logits, input gradients, and a count of what they cost."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from robust_tf.models import forward
from robust_tf.models.differentiation import counts_of_gradients, differentiated

Network = Callable[[tf.Tensor], tf.Tensor]
GradientAt = Callable[..., tuple[tf.Tensor, tf.Tensor, tf.Tensor]]


def logits_of(model: Callable[..., Any], batch_norm: str) -> Network:
    """`model` as a function from images to float32 logits, dropout off, in this mode."""
    arguments = {"training": False} if isinstance(model, keras.layers.Layer) else {}

    def network(x: tf.Tensor) -> tf.Tensor:
        with forward.forward_mode(batch_norm=batch_norm):
            return tf.cast(model(x, **arguments), tf.float32)

    return network


def traced(
    network: Network, model: Any, shape: Sequence[int | None]
) -> Callable[[tf.Tensor], tf.Tensor]:
    """`network` as one graph for all batches of images of this shape.

    Args:
      network: of `model`, images to tensors.
      model: for the error.
      shape: of one image.

    Raises:
      TypeError: it cannot be a graph.
    """
    images = tf.TensorSpec([None, *shape], tf.float32)
    try:
        return tf.function(network).get_concrete_function(images)
    except Exception as error:  # what a model calls may raise anything
        line = (str(error).strip().splitlines() or [""])[0]
        raise TypeError(
            f"the model, a {type(model).__name__}, cannot be traced by TensorFlow "
            f"({type(error).__name__}: {line}); a function in NumPy, of scikit-learn or of a "
            "service is attacked as models.black_box(predict, num_classes)."
        ) from error


class Passes:
    """How many images have gone through a model, forwards and backwards (int64 variables)."""

    def __init__(self) -> None:
        self.forwards, self.gradients = (
            tf.Variable(0, dtype=tf.int64, trainable=False) for _ in range(2)
        )

    def counting(self, network: Network) -> Network:
        """`network`, each call and each gradient of which is counted, by number of images."""

        def counted(x: tf.Tensor) -> tf.Tensor:
            images = tf.shape(x, out_type=tf.int64)[0]
            self.forwards.assign_add(images)
            counts = counts_of_gradients()
            if counts is not None:
                counts.append(lambda: self.gradients.assign_add(images))
            return network(x)

        return counted


def num_classes_of(logits: tf.Tensor) -> int:
    """The number of classes, which must be known when an attack is traced."""
    if logits.shape[-1] is None:
        raise ValueError(
            "the model's number of classes is not known before it runs; set it: "
            "tf.ensure_shape(logits, [None, classes])."
        )
    return int(logits.shape[-1])


def finite(gradient: tf.Tensor) -> tf.Tensor:
    """The gradient, 0 where it is not a number: one such pixel would end up in the image."""
    return tf.where(tf.math.is_finite(gradient), gradient, tf.zeros_like(gradient))


def input_gradient(network: Network, values: Callable[..., tf.Tensor]) -> GradientAt:
    """(x, *arguments) -> (gradient, values, logits), at one forward and one backward pass.

    Args:
      network: images to logits (B, C).
      values: (logits, *arguments) -> (B,), one value for each example; the arguments are tensors.

    Returns:
      To be made once, outside the loop. The gradient has the shape of x and is 0 where the values
      do not depend on x.
    """

    # Not inlined: TensorFlow swaps in oneDNN's pooling gradient only where its walk over the graph
    # meets the forward first, which in the cycle of a loop is a matter of luck. The other kernel is
    # 30 times slower and then takes 40 % of the attack.
    @functools.partial(tf.function, autograph=False, experimental_attributes={"_noinline": True})
    def gradient_at(x: tf.Tensor, *arguments: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        with tf.GradientTape(watch_accessed_variables=False) as tape, differentiated() as counts:
            tape.watch(x)
            logits = network(x)
            value = values(logits, *arguments)
        for count in counts:
            count()
        gradient = tape.gradient(value, x, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return finite(gradient), value, logits

    return gradient_at
