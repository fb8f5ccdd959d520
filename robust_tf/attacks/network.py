"""A model as attacks see it: images to logits, input gradients, and a count of what they cost."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from robust_tf import autograph
from robust_tf.models import forward
from robust_tf.models.conversion import check_follows
from robust_tf.models.differentiation import counts_of_gradients, differentiated

Network = Callable[[tf.Tensor], tf.Tensor]
GradientAt = Callable[..., tuple[tf.Tensor, tf.Tensor, tf.Tensor]]


def logits_of(model: Callable[..., Any], batch_norm: str) -> Network:
    """`model` as a function from images to float32 logits, dropout off, in this mode.

    Raises:
      ValueError: a mode that Keras' own batch normalization in the model could not follow. What a
        plain function calls is not known: there the mode acts on what `models.convert` has been
        given.
    """
    check_follows(model, batch_norm)
    arguments = {"training": False} if isinstance(model, keras.layers.Layer) else {}

    def network(x: tf.Tensor) -> tf.Tensor:
        with forward.forward_mode(batch_norm=batch_norm):
            return tf.cast(_only(model(x, **arguments)), tf.float32)

    network.alone = batch_norm == "running"  # type: ignore[attr-defined]
    return network


class OutputError(ValueError):
    """A model that gives something else than one tensor."""


def _only(outputs: Any) -> Any:
    """The output of a model, which has to be one."""
    if isinstance(outputs, (list, tuple, dict)):
        raise OutputError(
            f"the model gives {len(outputs)} outputs; expected one, the logits (batch, classes): "
            "models.split(model, output=NAME) or models.WholeClassifier(model, output=NAME) takes "
            "one of them."
        )
    return outputs


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
        convert = autograph.is_needed(model)
        return tf.function(network, autograph=convert).get_concrete_function(images)
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
      do not depend on x. Through a network that computes in float16 it goes scaled, see `pull`.
    """
    alone = getattr(network, "alone", False)

    # Not inlined: TensorFlow swaps in oneDNN's pooling gradient only where its walk over the graph
    # meets the forward first, which in the cycle of a loop is a matter of luck. The other kernel is
    # 30 times slower and then takes 40 % of the attack.
    @functools.partial(tf.function, autograph=False, experimental_attributes={"_noinline": True})
    def gradient_at(x: tf.Tensor, *arguments: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        with (
            tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape,
            differentiated() as counts,
        ):
            tape.watch(x)
            logits = network(x)
            value = values(logits, *arguments)
        for count in counts:
            count()
        return finite(gradient_through(tape, value, logits, x, alone)), value, logits

    return gradient_at


def gradient_through(
    tape: tf.GradientTape, value: tf.Tensor, logits: tf.Tensor, x: tf.Tensor, alone: bool = False
) -> tf.Tensor:
    """The gradient for x (B, ...) of `value`, a function of logits (B, C); see `pull`."""
    if not _computes_in_half():
        return tape.gradient(value, x, unconnected_gradients="zero")
    upstream = tape.gradient(value, logits, unconnected_gradients="zero")
    return pull(tape, logits, x, upstream, alone)


def pull(
    tape: tf.GradientTape, logits: tf.Tensor, x: tf.Tensor, upstream: tf.Tensor, alone: bool = False
) -> tf.Tensor:
    """The gradient for x (B, ...) of logits (B, C) times `upstream`, in graph code.

    The logits' gradient for an image that the model is sure of is smaller than the smallest number
    of float16 (6e-8). On its way through a network that computes in float16 the largest entry is
    moved to [1, 2), by a power of two, which changes no digit.

    Args:
      tape: persistent, with logits and x.
      logits: of the network.
      x: images.
      upstream: (B, C).
      alone: examples do not see each other, so that each has its own power; else the batch has one.
    """
    if not _computes_in_half():
        return tape.gradient(logits, x, upstream, unconnected_gradients="zero")
    axes = list(range(1, upstream.shape.rank)) if alone else None
    largest = tf.reduce_max(tf.abs(upstream), axis=axes, keepdims=True)
    bits = tf.bitwise.bitwise_and(tf.bitcast(largest, tf.int32), 0x7F800000)  # the exponent
    power = tf.bitcast(bits, tf.float32)
    power = tf.where(tf.logical_and(power > 0.0, tf.math.is_finite(power)), power, 1.0)
    gradient = tape.gradient(logits, x, upstream / power, unconnected_gradients="zero")
    shape = tf.concat([tf.shape(power)[:1], tf.ones([x.shape.rank - 1], tf.int32)], 0)
    return gradient * tf.reshape(power, shape)


def _computes_in_half() -> bool:
    """Whether the graph that is being traced has float16 in it."""
    operations = tf.compat.v1.get_default_graph().get_operations()
    return any(out.dtype == tf.float16 for operation in operations for out in operation.outputs)
