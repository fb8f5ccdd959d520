"""Keras' own normalization and noise layers, with the modes and seeds of `forward_mode`.

Each class differs from Keras' in its `call` alone, and outside of any `forward_mode` not even
there: `conversion.convert` gives the layers of a built network these classes in place.
"""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf

from robust_tf import draws, registration
from robust_tf.models import forward
from robust_tf.models.layers import normalize_by_batch


@registration.serializable
class KerasBatchNormalization(keras.layers.BatchNormalization):
    """Keras' batch normalization with the three modes of `forward_mode`.

    'running' is Keras' inference, 'training' Keras' training, 'batch' the statistics of the batch
    with the moving averages untouched. A frozen layer (`trainable=False`) uses its moving averages
    in every mode, as Keras defines it.
    """

    def call(self, inputs: tf.Tensor, training: Any = None, mask: Any = None) -> tf.Tensor:
        """The normalized inputs, same shape."""
        mode = forward.batch_norm_mode(training) if self.trainable else "running"
        if mode == "training":
            return self._trained(inputs, mask)
        if mode == "running":
            return super().call(inputs, training=False, mask=mask)
        if mask is not None:
            raise ValueError(
                f"the layer {self.name!r} is given a mask, which statistics of the batch without "
                "moving averages (batch_norm='batch') do not know; use batch_norm='running'."
            )
        axis = self.axis[0] if isinstance(self.axis, (list, tuple)) else self.axis
        rank = inputs.shape.rank
        others = [dimension for dimension in range(rank) if dimension != axis % rank]
        order = [*others, axis % rank]
        x = inputs if order == sorted(order) else tf.transpose(inputs, order)
        ones = tf.ones([x.shape[-1]])
        gamma = tf.convert_to_tensor(self.gamma) if self.scale else ones
        beta = tf.convert_to_tensor(self.beta) if self.center else tf.zeros_like(ones)
        outputs = normalize_by_batch(x, gamma, beta, self.epsilon)[0]
        if order != sorted(order):
            outputs = tf.transpose(outputs, [order.index(dimension) for dimension in range(rank)])
        return tf.cast(outputs, self.compute_dtype)

    def _trained(self, inputs: tf.Tensor, mask: Any) -> tf.Tensor:
        """Keras' training; a replica's share without examples leaves its averages as they were."""
        averages = (self.moving_mean, self.moving_variance)
        before = [tf.identity(tf.convert_to_tensor(average)) for average in averages]
        outputs = super().call(inputs, training=True, mask=mask)
        filled = forward.is_filled(inputs)
        for average, old in zip(averages, before, strict=True):
            average.assign(tf.where(filled, tf.convert_to_tensor(average), old))
        return outputs


class Seeded:
    """Noise drawn from the seed of `forward_mode`; without one, from Keras' generator.

    Args:
      salt: distinguishes the noise layers of one network.
    """

    def __init__(self, *args: Any, salt: int = 0, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.salt = int(salt)

    def call(self, inputs: tf.Tensor, training: Any = None) -> tf.Tensor:
        """The inputs, with noise while training."""
        seed = forward.dropout_seed()
        if not training or seed is None:
            return super().call(inputs, training=bool(training))  # type: ignore[misc]
        seed = tf.random.experimental.stateless_fold_in(seed, self.salt)
        return self.noised(inputs, seed)

    def noised(self, inputs: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """The inputs with noise of this seed, int32 (2,)."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """Keras' arguments, and the salt."""
        return {**super().get_config(), "salt": self.salt}  # type: ignore[misc]


class SeededMask(Seeded):
    """Noise that keeps a part of the values."""

    rate: float
    noise_shape: Any = None

    def kept(self, inputs: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """1 with probability 1 - rate, else 0, of a shape that fits the inputs' or is broadcast."""
        sizes = tf.unstack(tf.shape(inputs))
        wanted = self.noise_shape or [None] * len(sizes)
        shape = [size if own is None else own for size, own in zip(sizes, wanted, strict=True)]
        # A mask that the batch shares is drawn as it is.
        draw = draws.uniform if wanted[0] is None else tf.random.stateless_uniform
        return tf.cast(draw(tf.stack(shape), seed) >= self.rate, inputs.dtype)


@registration.serializable
class KerasDropout(SeededMask, keras.layers.Dropout):
    """Keras' dropout, its mask from the seed of `forward_mode`; `noise_shape` as in Keras."""

    def noised(self, inputs: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        if self.rate >= 1:
            return tf.zeros_like(inputs)
        return inputs * self.kept(inputs, seed) / tf.cast(1 - self.rate, inputs.dtype)


class SeededMaps(KerasDropout):
    """Whole feature maps are dropped."""

    def kept(self, inputs: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        first = getattr(self, "data_format", None) == "channels_first"
        sizes = tf.unstack(tf.shape(inputs))
        channels = 1 if first else len(sizes) - 1
        shape = [size if i in (0, channels) else 1 for i, size in enumerate(sizes)]
        uniform = draws.uniform(tf.stack(shape), seed)
        return tf.cast(uniform >= self.rate, inputs.dtype)


@registration.serializable
class KerasSpatialDropout1D(SeededMaps, keras.layers.SpatialDropout1D):
    """Keras' layer of this name, seeded."""


@registration.serializable
class KerasSpatialDropout2D(SeededMaps, keras.layers.SpatialDropout2D):
    """Keras' layer of this name, seeded."""


@registration.serializable
class KerasSpatialDropout3D(SeededMaps, keras.layers.SpatialDropout3D):
    """Keras' layer of this name, seeded."""


@registration.serializable
class KerasAlphaDropout(SeededMask, keras.layers.AlphaDropout):
    """Keras' alpha dropout (Klambauer et al., 2017), seeded."""

    def noised(self, inputs: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        saturated = -1.6732632423543772848170429916717 * 1.0507009873554804934193349852946
        kept = self.kept(inputs, seed)
        a = ((1 - self.rate) * (1 + self.rate * saturated**2)) ** -0.5
        return a * (inputs * kept + saturated * (1 - kept)) - a * saturated * self.rate


@registration.serializable
class KerasGaussianDropout(Seeded, keras.layers.GaussianDropout):
    """Keras' multiplicative noise N(1, rate / (1 - rate)), seeded."""

    def noised(self, inputs: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        deviation = math.sqrt(self.rate / (1 - self.rate)) if 0 < self.rate < 1 else 0.0
        return inputs * (1 + deviation * _normal(inputs, seed))


@registration.serializable
class KerasGaussianNoise(Seeded, keras.layers.GaussianNoise):
    """Keras' additive noise N(0, stddev^2), seeded."""

    def noised(self, inputs: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        return inputs + self.stddev * _normal(inputs, seed)


def _normal(inputs: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    return tf.cast(draws.normal(tf.shape(inputs), seed), inputs.dtype)


# Keras' class -> ours.
CONVERTED: dict[type, type] = {
    keras.layers.BatchNormalization: KerasBatchNormalization,
    keras.layers.Dropout: KerasDropout,
    keras.layers.SpatialDropout1D: KerasSpatialDropout1D,
    keras.layers.SpatialDropout2D: KerasSpatialDropout2D,
    keras.layers.SpatialDropout3D: KerasSpatialDropout3D,
    keras.layers.AlphaDropout: KerasAlphaDropout,
    keras.layers.GaussianDropout: KerasGaussianDropout,
    keras.layers.GaussianNoise: KerasGaussianNoise,
}
