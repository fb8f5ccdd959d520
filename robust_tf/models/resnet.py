"""The narrow pre-activation ResNet of ADR's TensorFlow program, and its wide variant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from robust_tf import registration
from robust_tf.models.layers import (
    BatchNormalization,
    PerImageStandardization,
    check_image_shape,
    fan_out_normal,
    logits_layer,
)
from robust_tf.models.split import SplitClassifier, split_pooled

SLOPE = 0.1


@registration.configurable
def ResNet(
    input_shape: Sequence[int],
    num_classes: int,
    filters: Sequence[int] = (16, 16, 32, 64),
    units: int = 5,
) -> SplitClassifier:
    """Per-image standardisation, conv, stages of residual units, BN, LReLU, pool | dense.

    Pre-activation units of two 3x3 convolutions, leaky slope 0.1, padding 'same'. Skips have no
    weights: average pooling over the stride, zeros for the new channels. Every stage but the first
    halves the image. z is the pooled feature, (64,) as published; h is one dense layer.

    Args:
      input_shape: (height, width, channels), sides multiples of 4 (of 2 ** (stages - 1)).
      num_classes: number of logits, >= 2.
      filters: of the stem and of each stage; (16, 160, 320, 640) is the wide variant.
      units: residual units per stage, >= 1.

    Raises:
      ValueError: image sides that cannot be halved, filters that shrink or grow by an odd number.

    Source: Madry et al. (2018), the CIFAR-10 challenge network, as narrowed in the TensorFlow
    program of Bui et al. (2020): batch normalisation with decay 0.9 and epsilon 1e-3, convolutions
    N(0, sqrt(2/(9 out))), dense kernel U(+-sqrt(3/fan_in)), bias 0.
    """
    widths = tuple(filters)
    growth = [out - before for before, out in zip(widths, widths[1:], strict=False)]
    if len(widths) < 2 or widths[0] < 1 or any(g < 0 or g % 2 for g in growth):
        raise ValueError(
            f"ResNet(filters={widths}): must be those of the stem and of one stage or more, "
            "never falling, and growing by even numbers (zeros are added on both sides)."
        )
    if units < 1:
        raise ValueError(f"ResNet(units={units}): must be 1 or more.")
    check_image_shape("ResNet", input_shape, multiple=2 ** (len(widths) - 2))
    inputs = keras.Input(tuple(input_shape), name="images")
    x = PerImageStandardization(name="standardize")(inputs)
    x = _conv(x, widths[0], 1, "stem")
    for stage, width in enumerate(widths[1:], start=1):
        for unit in range(1, units + 1):
            stride = 2 if stage > 1 and unit == 1 else 1
            # "Activate before residual": the very first skip starts behind the activation.
            x = _unit(x, width, stride, stage == unit == 1, f"stage{stage}_unit{unit}")
    x = _activate(x, "head")
    fan_in_uniform = keras.initializers.VarianceScaling(1.0, "fan_in", "uniform")
    return split_pooled(inputs, x, logits_layer(num_classes, fan_in_uniform), "resnet")


def _unit(x: Any, filters: int, stride: int, activate_skip: bool, name: str) -> Any:
    activated = _activate(x, f"{name}_1")
    skip = activated if activate_skip else x
    x = _conv(activated, filters, stride, f"{name}_conv1")
    x = _conv(_activate(x, f"{name}_2"), filters, 1, f"{name}_conv2")
    if stride > 1:
        skip = keras.layers.AveragePooling2D(stride, name=f"{name}_skip_pool")(skip)
    if skip.shape[-1] != filters:
        skip = PadChannels(filters, name=f"{name}_skip_pad")(skip)
    return keras.layers.Add(name=f"{name}_add")([x, skip])


def _activate(x: Any, name: str) -> Any:
    x = BatchNormalization(0.9, 1e-3, name=f"{name}_bn")(x)
    return keras.layers.LeakyReLU(SLOPE, name=f"{name}_lrelu")(x)


def _conv(x: Any, filters: int, stride: int, name: str) -> Any:
    return keras.layers.Conv2D(
        filters,
        3,
        strides=stride,
        padding="same",
        use_bias=False,
        kernel_initializer=fan_out_normal(),
        name=name,
    )(x)


@registration.serializable
class PadChannels(keras.layers.Layer):
    """Zeros before and behind the channels, equally many, up to `filters` of them."""

    def __init__(self, filters: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.filters = int(filters)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Images (B, H, W, C) -> (B, H, W, filters)."""
        side = (self.filters - inputs.shape[-1]) // 2
        return tf.pad(inputs, ((0, 0), (0, 0), (0, 0), (side, side)))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "filters": self.filters}
