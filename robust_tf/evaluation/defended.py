"""Attacks on what hides from gradients: inference-time transforms and random models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from robust_tf.validation import check_whole

Transform = Callable[[tf.Tensor], tf.Tensor]


class Defended:
    """A network behind a transform of its images: x -> network(transform(x)).

    A model like any other, to be attacked and evaluated. The logits are those of the real transform
    in any case; only the gradient that an attack gets may be another than the transform's own,
    because a defence that rounds, takes signs or searches has one that is zero or noise.

    Args:
      network: Keras model or callable, images to logits (B, C).
      transform: Keras layer or callable, images (B, H, W, C) in [0, 1] to what the network takes.
      gradient: 'bpda' takes the transform's Jacobian for the identity; 'own'
        differentiates the transform itself.
      surrogate: a differentiable stand-in for the transform, whose gradient is used in place of
        the identity.

    Attributes:
      image_shape: shape of one image where the network states it and the transform keeps it.

    Raises:
      ValueError: an unknown gradient; a surrogate beside gradient='own'; when called, a transform
        whose result has another shape than the images, or than the surrogate's result.

    Source: Athalye et al. (2018), section 4.1 (backward pass differentiable approximation); Tramer
    et al. (2020) on why a defence has to be attacked as a whole.
    """

    def __init__(
        self,
        network: Callable[..., Any],
        transform: Transform,
        gradient: str = "bpda",
        surrogate: Transform | None = None,
    ):
        if gradient not in ("bpda", "own"):
            raise ValueError(
                f"gradient={gradient!r}: must be 'bpda' ('straight_through' in version 0.1) or "
                "'own'; another function's gradient is given as surrogate=function."
            )
        if gradient == "own" and surrogate is not None:
            raise ValueError(
                "gradient='own' with a surrogate: choose one, the transform's gradient or the "
                "surrogate's (leave gradient out)."
            )
        self.classifier, self.transform = network, transform
        self._gradient, self._surrogate = gradient, surrogate
        self.image_shape = None if gradient == "own" or surrogate else image_shape_of(network)

    @property
    def gradient(self) -> str:
        """Not to be changed: attacks compiled for this object would keep the old one."""
        return self._gradient

    @property
    def surrogate(self) -> Transform | None:
        """Not to be changed either; make another `Defended`."""
        return self._surrogate

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """Logits (B, C) of the transformed images."""
        if self.gradient == "own":
            return _call(self.classifier, _call(self.transform, x))
        path = x if self.surrogate is None else _call(self.surrogate, x)
        value = tf.stop_gradient(_call(self.transform, tf.stop_gradient(x)))
        if not value.shape.is_compatible_with(path.shape):
            raise ValueError(
                f"the transform gives {value.shape}, its gradient would be that of {path.shape}; "
                "give a surrogate of the transform's shape, or gradient='own'."
            )
        return _call(self.classifier, _with_gradient_of(value, tf.cast(path, value.dtype)))


class ExpectationOverTransformation:
    """The expected prediction of a random model: the log of its mean probabilities.

    Any attack that ascends a loss of these logits follows the gradient of the expectation, and the
    verdict is that of the mean. One call costs `samples` calls of the model, and a gradient the
    memory of as many.

    Args:
      model: Keras model or callable, images to logits (B, C), that draws anew at each call.
      samples: number of draws, >= 1; AutoAttack's version for random models takes 20.

    Attributes:
      image_shape: shape of one image, where the model states it.

    Source: Athalye et al. (2018), section 4.2 (expectation over transformation).
    """

    def __init__(self, model: Callable[..., Any], samples: int = 20):
        self.model = model
        self.samples = check_whole(type(self).__name__, "samples", samples, 1, "20 is common")
        self.image_shape = image_shape_of(model)

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """log(mean over draws of softmax(model(x))), float32 (B, C)."""

        def draw(_: tf.Tensor) -> tf.Tensor:
            return tf.nn.log_softmax(tf.cast(_call(self.model, x), tf.float32))

        # A loop, though copies of the model run faster: where it is a function of TensorFlow's, and
        # a global seed is set, the copies of its generators would all give the same numbers.
        draws = tf.map_fn(
            draw, tf.range(self.samples), parallel_iterations=1, fn_output_signature=tf.float32
        )
        return tf.reduce_logsumexp(draws, axis=0) - tf.math.log(float(self.samples))


def image_shape_of(model: Any) -> tuple[int | None, ...] | None:
    """The shape of one image as `model` states it, or None; entries may be None."""
    model = getattr(model, "network", model)
    shape = getattr(model, "image_shape", None)
    if shape is None and isinstance(getattr(model, "input_shape", None), tuple):
        shape = model.input_shape[1:]
    return None if shape is None else tuple(shape)


def _call(function: Callable[..., Any], x: tf.Tensor) -> tf.Tensor:
    """A Keras layer as at inference, another callable as it is."""
    return function(x, training=False) if isinstance(function, keras.layers.Layer) else function(x)


def _with_gradient_of(value: tf.Tensor, path: tf.Tensor) -> tf.Tensor:
    """`value` to the bit, which path + stop_gradient(value - path) is not; gradient of `path`.

    Both finite. No custom gradient: TensorFlow would keep the graph for ever.
    """
    return value + (path - tf.stop_gradient(path))
