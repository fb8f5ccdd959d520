"""ResNet-18 for small images."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras

from robust_tf import registration
from robust_tf.models.layers import (
    BatchNormalization,
    check_image_shape,
    logits_layer,
    torch_bias,
    torch_conv,
    torch_uniform,
)
from robust_tf.models.split import SplitClassifier, split_after

WIDTHS = (64, 128, 256, 512)


@registration.configurable
def ResNet18(input_shape: Sequence[int], num_classes: int, cut: str = "pool") -> SplitClassifier:
    """3x3 conv 64, BN, ReLU, four stages of two basic blocks (64-128-256-512), pool | dense.

    A block is conv BN ReLU conv BN + skip, then ReLU; the skip is 1x1 conv BN where the shape
    changes. Every stage but the first halves the image (rounding up). Pixels in [0, 1] go in as
    they are.

    Args:
      input_shape: (height, width, channels).
      num_classes: number of logits, >= 2.
      cut: where z is: 'pool', the pooled feature (512,), h being one dense layer; or 'stage1' to
        'stage4', the feature map after that stage, as LAT attacks it after the second.

    Raises:
      ValueError: input_shape is not that of images; an unknown cut.

    Source: He et al. (2016), as in the PyTorch programs of ADR and ST: padding, initialisers (all
    U(+-1/sqrt(fan_in))) and batch normalisation (momentum 0.1, that is decay 0.9, epsilon 1e-5) are
    PyTorch's.
    """
    check_image_shape("ResNet18", input_shape)
    stages: dict[str, Callable[[Any], Any]] = {
        "stem": lambda x: _relu(_conv_bn(x, WIDTHS[0], 3, 1, "stem"), "stem"),
        **{f"stage{number}": functools.partial(_stage, number) for number in (1, 2, 3, 4)},
    }
    logits = logits_layer(num_classes, torch_uniform(), torch_bias(WIDTHS[-1]))
    return split_after(cut, input_shape, stages, logits, "ResNet18", "resnet18")


def _stage(number: int, x: Any) -> Any:
    for block in (1, 2):
        stride = 2 if number > 1 and block == 1 else 1
        x = _block(x, WIDTHS[number - 1], stride, f"stage{number}_block{block}")
    return x


def _block(x: Any, filters: int, stride: int, name: str) -> Any:
    skip = x
    if stride > 1 or x.shape[-1] != filters:
        skip = _conv_bn(x, filters, 1, stride, f"{name}_skip")
    x = _relu(_conv_bn(x, filters, 3, stride, f"{name}_1"), f"{name}_1")
    x = _conv_bn(x, filters, 3, 1, f"{name}_2")
    return _relu(keras.layers.Add(name=f"{name}_add")([x, skip]), f"{name}_2")


def _conv_bn(x: Any, filters: int, kernel: int, stride: int, name: str) -> Any:
    x = torch_conv(x, filters, kernel, stride, torch_uniform(), f"{name}_conv")
    return BatchNormalization(0.9, 1e-5, name=f"{name}_bn")(x)


def _relu(x: Any, name: str) -> Any:
    return keras.layers.ReLU(name=f"{name}_relu")(x)
