"""ResNet-18 for small images."""

from __future__ import annotations

from collections.abc import Sequence
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
from robust_tf.models.split import SplitClassifier, split_pooled

WIDTHS = (64, 128, 256, 512)
CUTS = ("pool", "stage1", "stage2", "stage3", "stage4")


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
    if cut not in CUTS:
        raise ValueError(f"ResNet18(cut={cut!r}): must be one of {CUTS}.")
    inputs = keras.Input(tuple(input_shape), name="images")
    x = _relu(_conv_bn(inputs, WIDTHS[0], 3, 1, "stem"), "stem")
    generator, begins = None, inputs
    for stage, width in enumerate(WIDTHS, start=1):
        for block in (1, 2):
            stride = 2 if stage > 1 and block == 1 else 1
            x = _block(x, width, stride, f"stage{stage}_block{block}")
        if cut == f"stage{stage}":
            generator = keras.Model(inputs, x, name="generator")
            x = begins = keras.Input(tuple(x.shape[1:]), name="features")
    logits = logits_layer(num_classes, torch_uniform(), torch_bias(WIDTHS[-1]))
    if generator is None:
        return split_pooled(inputs, x, logits, "resnet18")
    pooled = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    classifier = keras.Model(begins, logits(pooled), name="classifier")
    return SplitClassifier(generator, classifier, name="resnet18")


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
