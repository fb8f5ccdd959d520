"""Layers that behave the same in training, in an attack, after a restart, and under both Keras."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from robust_tf import compat, draws, registration
from robust_tf.models import forward
from robust_tf.validation import check_number, check_whole, plain


@registration.serializable
class BatchNormalization(keras.layers.Layer):
    """Batch normalisation over all axes but the last, with the three modes of `forward_mode`.

    A frozen layer (`trainable=False`) uses its moving averages in every mode, as Keras' does.
    Statistics are float32 whatever the dtype policy. Under `tf.distribute` each replica normalises
    with its own batch, as in the papers' multi-GPU programs; moving averages are averaged when
    read.

    Args:
      decay: of the moving averages, in [0, 1): average <- decay * average + (1 - decay) * batch.
        PyTorch's "momentum" is 1 - decay.
      epsilon: added to the variance, > 0.

    Source: Ioffe & Szegedy (2015). The batch variance that normalises is the biased one, the one
    that is averaged the unbiased one, as in TensorFlow and PyTorch.
    """

    def __init__(self, decay: float = 0.9, epsilon: float = 1e-3, **kwargs: Any):
        super().__init__(**kwargs)
        owner = "BatchNormalization"
        check_number(owner, "decay", decay, 0.0, high=1.0, strict_high=True)
        check_number(owner, "epsilon", epsilon, 0.0, strict=True)
        self.decay, self.epsilon = float(decay), float(epsilon)

    def build(self, input_shape: Any) -> None:
        """Creates scale, offset and moving averages, one per channel."""
        size = int(input_shape[-1])
        self.gamma = compat.float32_weight(self, "gamma", size, "ones")
        self.beta = compat.float32_weight(self, "beta", size, "zeros")
        self.moving_mean = compat.moving_average(self, "moving_mean", size, "zeros")
        self.moving_variance = compat.moving_average(self, "moving_variance", size, "ones")
        self.built = True

    def call(self, inputs: tf.Tensor, training: bool | None = None, mask: Any = None) -> tf.Tensor:
        """The normalised inputs (B, ..., C), same shape and dtype; a mask is not looked at."""
        mode = forward.batch_norm_mode(training) if self.trainable else "running"
        averages = [tf.convert_to_tensor(v) for v in (self.moving_mean, self.moving_variance)]
        outputs, mean, variance = normalize_by_batch(
            inputs,
            tf.convert_to_tensor(self.gamma),
            tf.convert_to_tensor(self.beta),
            self.epsilon,
            averages if mode == "running" else None,
        )
        if mode == "training":
            filled = forward.is_filled(inputs)  # else its moments are no number, or of nothing
            variables = (self.moving_mean, self.moving_variance)
            for variable, old, batch in zip(variables, averages, (mean, variance), strict=True):
                new = self.decay * old + (1 - self.decay) * tf.stop_gradient(batch)
                variable.assign(tf.where(filled, new, old))
        return outputs

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "decay": self.decay, "epsilon": self.epsilon}


def normalize_by_batch(
    inputs: tf.Tensor,
    gamma: tf.Tensor,
    beta: tf.Tensor,
    epsilon: float,
    averages: list[tf.Tensor] | None = None,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta over all axes but the last.

    Args:
      inputs: (B, ..., C), float32 or bfloat16.
      gamma: float32 (C,).
      beta: float32 (C,).
      epsilon: > 0.
      averages: mean and variance (C,), or None for those of the batch.

    Returns:
      The outputs, of the inputs' shape and dtype; mean and unbiased variance of the batch, (C,).
    """
    # The fused kernel takes images only. It accepts bfloat16, computes in float32, and is 2-5
    # times faster on a CPU, gradient included, than moments written out.
    images = inputs
    if inputs.shape.rank != 4:
        images = tf.reshape(inputs, (-1, 1, 1, inputs.shape[-1]))
    outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
        images,
        gamma,
        beta,
        *(averages or (None, None)),
        epsilon=epsilon,
        is_training=averages is None,
    )
    if inputs.shape.rank != 4:
        outputs = tf.ensure_shape(tf.reshape(outputs, tf.shape(inputs)), inputs.shape)
    return outputs, mean, variance


@registration.serializable
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
        check_number("Dropout", "rate", rate, 0.0, high=1.0, strict_high=True)
        check_whole("Dropout", "salt", salt, 0)
        self.rate, self.salt = float(rate), int(salt)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """The inputs, some of them zero while training, the others scaled up."""
        if not training or self.rate == 0:
            return inputs
        seed = forward.dropout_seed()
        if seed is None:
            uniform = tf.random.uniform(tf.shape(inputs))
        else:
            seed = tf.random.experimental.stateless_fold_in(seed, self.salt)
            uniform = draws.uniform(tf.shape(inputs), seed)
        keep = tf.cast(uniform >= self.rate, inputs.dtype)
        return inputs * keep / tf.cast(1 - self.rate, inputs.dtype)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "rate": self.rate, "salt": self.salt}


@registration.serializable
class PerImageStandardization(keras.layers.Layer):
    """(x - mean) / max(std, 1/sqrt(n)) over the n values of each image, float32.

    Inside the network, so that eps stays in pixel units and attack gradients pass through it.
    The scale of the pixels cancels but for the floor of the deviation, which in the released
    program stands against pixels in 0..255; `pixel_scale` restores that.
    """

    def __init__(self, pixel_scale: float = 255.0, **kwargs: Any):
        super().__init__(**kwargs)
        hint = "255 as in the released program"
        check_number("PerImageStandardization", "pixel_scale", pixel_scale, 0.0, hint, strict=True)
        self.pixel_scale = float(pixel_scale)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """The standardised images (B, H, W, C)."""
        outputs = tf.image.per_image_standardization(tf.cast(inputs, tf.float32) * self.pixel_scale)
        return tf.cast(outputs, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "pixel_scale": self.pixel_scale}


@registration.serializable
class Centering(keras.layers.Layer):
    """Subtracts from each example's values (B, d) their mean, as softmax does unseen."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Values of mean 0."""
        return inputs - tf.reduce_mean(inputs, axis=-1, keepdims=True)


def check_image_shape(builder: str, input_shape: Sequence[int], multiple: int = 1) -> None:
    """Raises ValueError unless this is (height, width, channels), sides multiples of `multiple`."""
    shape = tuple(input_shape)
    if len(shape) == 2:
        raise ValueError(
            f"{builder}(input_shape={shape}): the channel is missing; gray images are "
            f"{(*shape, 1)}, color images {(*shape, 3)}."
        )
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(
            f"{builder}(input_shape={shape}): must be (height, width, channels); use MLP for "
            "points."
        )
    larger = tuple(-(-side // multiple) * multiple for side in shape[:2])
    if larger != shape[:2]:
        raise ValueError(
            f"{builder}(input_shape={shape}): height and width must be multiples of {multiple}; "
            "use ResNet18 or WideResNet, which take images of any size, or set that of the data, "
            f"such as ImageFolder.image_size = {larger}."
        )


def fan_out_normal(factor: float = 1.0) -> keras.initializers.Initializer:
    """N(0, sqrt(2 factor / (kernel height * width * filters))).

    A function, because in Keras 3 one object gives every layer the same numbers.
    """
    return keras.initializers.VarianceScaling(2.0 * factor, "fan_out", "untruncated_normal")


def torch_uniform() -> keras.initializers.Initializer:
    """U(+-1/sqrt(fan_in)), PyTorch's default kernel (Kaiming-uniform with a = sqrt 5)."""
    return keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")


def torch_bias(fan_in: int) -> keras.initializers.Initializer:
    """U(+-1/sqrt(fan_in)), PyTorch's default bias."""
    return keras.initializers.RandomUniform(-(fan_in**-0.5), fan_in**-0.5)


def torch_conv(
    x: Any,
    filters: int,
    kernel: int,
    stride: int,
    initializer: keras.initializers.Initializer,
    name: str,
    padding: str = "torch",
) -> Any:
    """A convolution without bias, padded by kernel // 2 on every side, as PyTorch's are.

    TensorFlow's 'same' pads strided convolutions below and to the right only, if sides are even.
    Without a stride it is PyTorch's padding, and spares a copy of the images, forwards and
    backwards: 1.08 times as fast in an attack on ResNet-18.
    """
    same = padding == "same" or (stride == 1 and kernel % 2 == 1)
    if kernel > 1 and not same:
        x = keras.layers.ZeroPadding2D(kernel // 2, name=f"{name}_pad")(x)
    return keras.layers.Conv2D(
        filters,
        kernel,
        strides=stride,
        padding="same" if same else "valid",
        use_bias=False,
        kernel_initializer=initializer,
        name=name,
    )(x)


def logits_layer(
    num_classes: int, kernel_initializer: Any, bias_initializer: Any = "zeros"
) -> keras.layers.Layer:
    """The last layer, float32 under every dtype policy: bfloat16 logits have two good digits."""
    num_classes = plain(num_classes)
    if num_classes < 2:
        raise ValueError(f"num_classes={num_classes}: must be 2 or more.")
    return keras.layers.Dense(
        num_classes,
        kernel_initializer=kernel_initializer,
        bias_initializer=bias_initializer,
        dtype="float32",
        name="logits",
    )
