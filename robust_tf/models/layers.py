"""Layers that behave the same in training, in an attack, after a restart, and under both Keras."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from robust_tf import compat
from robust_tf.models import forward


@compat.serializable
class BatchNormalization(keras.layers.Layer):
    """Batch normalisation over all axes but the last, with the three modes of `forward_mode`.

    Statistics are float32 whatever the dtype policy. Under `tf.distribute` each replica normalises
    with its own batch, as in the papers' multi-GPU programs; moving averages are averaged when read.

    Args:
      decay: of the moving averages, in [0, 1): average <- decay * average + (1 - decay) * batch.
        PyTorch's "momentum" is 1 - decay.
      epsilon: added to the variance, > 0.

    Source: Ioffe & Szegedy (2015). The batch variance that normalises is the biased one, the one
    that is averaged the unbiased one, as in TensorFlow and PyTorch.
    """

    def __init__(self, decay: float = 0.9, epsilon: float = 1e-3, **kwargs: Any):
        super().__init__(**kwargs)
        if not 0 <= decay < 1:
            raise ValueError(f"BatchNormalization(decay={decay}): must be in [0, 1).")
        if epsilon <= 0:
            raise ValueError(f"BatchNormalization(epsilon={epsilon}): must be > 0.")
        self.decay, self.epsilon = float(decay), float(epsilon)

    def build(self, input_shape: Any) -> None:
        size = int(input_shape[-1])
        self.gamma = compat.float32_weight(self, "gamma", size, "ones")
        self.beta = compat.float32_weight(self, "beta", size, "zeros")
        self.moving_mean = compat.moving_average(self, "moving_mean", size, "zeros")
        self.moving_variance = compat.moving_average(
            self, "moving_variance", size, "ones"
        )
        self.built = True

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        mode = forward.batch_norm_mode(training)
        images = (
            inputs if inputs.shape.rank == 4 else inputs[:, tf.newaxis, tf.newaxis, :]
        )
        gamma, beta = tf.convert_to_tensor(self.gamma), tf.convert_to_tensor(self.beta)
        if mode == "running":
            # One multiply and one add: cheaper than the fused kernel's inference path on a CPU,
            # and the form whose input gradient is exact in low precision.
            scale = gamma * tf.math.rsqrt(self.moving_variance + self.epsilon)
            shift = beta - self.moving_mean * scale
            outputs = images * tf.cast(scale, images.dtype) + tf.cast(
                shift, images.dtype
            )
        else:
            outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
                images, gamma, beta, epsilon=self.epsilon, is_training=True
            )
            if mode == "training":
                self._update(self.moving_mean, mean)
                self._update(self.moving_variance, variance)
        return tf.reshape(outputs, tf.shape(inputs))

    def _update(self, average: Any, batch: tf.Tensor) -> None:
        average.assign(
            self.decay * average + (1 - self.decay) * tf.stop_gradient(batch)
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "decay": self.decay, "epsilon": self.epsilon}


@compat.serializable
class Dropout(keras.layers.Layer):
    """Dropout whose mask is a function of the seed of `forward_mode`, of nothing hidden.

    A run that is killed and started again therefore draws the same masks.

    Args:
      rate: fraction set to zero, in [0, 1).
      salt: distinguishes the dropout layers of one network.

    Source: Srivastava et al. (2014).
    """

    def __init__(self, rate: float, salt: int = 0, **kwargs: Any):
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"Dropout(rate={rate}): must be in [0, 1).")
        self.rate, self.salt = float(rate), int(salt)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        if not training or self.rate == 0:
            return inputs
        seed = forward.dropout_seed()
        if seed is None:
            uniform = tf.random.uniform(tf.shape(inputs))
        else:
            seed = tf.random.experimental.stateless_fold_in(seed, self.salt)
            uniform = tf.random.stateless_uniform(tf.shape(inputs), seed)
        keep = tf.cast(uniform >= self.rate, inputs.dtype)
        return inputs * keep / tf.cast(1 - self.rate, inputs.dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rate": self.rate, "salt": self.salt}


@compat.serializable
class PerImageStandardization(keras.layers.Layer):
    """(x - mean) / max(std, 1/sqrt(n)) over the n values of each image, float32.

    Inside the network, so that eps stays in pixel units and attack gradients pass through it.
    The scale of the pixels cancels but for the floor of the deviation, which in the released
    program stands against pixels in 0..255; `pixel_scale` restores that.
    """

    def __init__(self, pixel_scale: float = 255.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.pixel_scale = float(pixel_scale)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        outputs = tf.image.per_image_standardization(
            tf.cast(inputs, tf.float32) * self.pixel_scale
        )
        return tf.cast(outputs, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "pixel_scale": self.pixel_scale}
