"""ResNet-18, and the layers that it shares with ResNet-50."""

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
from robust_tf.validation import check_whole, plain

STEMS = ("cifar", "imagenet")


@registration.configurable
def ResNet18(
    input_shape: Sequence[int],
    num_classes: int,
    cut: str = "pool",
    stem: str = "cifar",
    widths: Sequence[int] = (64, 128, 256, 512),
) -> SplitClassifier:
    """3x3 conv 64, BN, ReLU, four stages of two basic blocks (64-128-256-512), pool | dense.

    A block is conv BN ReLU conv BN + skip, then ReLU; the skip is 1x1 conv BN where the shape
    changes. Every stage but the first halves the image (rounding up). Pixels in [0, 1] go in as
    they are.

    Args:
      input_shape: (height, width, channels).
      num_classes: number of logits, >= 2.
      cut: where z is: 'pool', the pooled feature (512,), h being one dense layer; or 'stage1' to
        'stage4', the feature map after that stage, as LAT attacks it after the second.
      stem: 'cifar' as above; 'imagenet', 7x7 conv with stride 2, BN, ReLU and 3x3 max-pooling with
        stride 2, for images of 64 pixels a side or more.
      widths: channels of the four stages, >= 1; the first is the stem's, too.

    Raises:
      ValueError: input_shape is not that of images; an unknown cut or stem; widths that are not
        four positive numbers.

    Source: He et al. (2016), as in the PyTorch programs of ADR and ST: padding, initialisers (all
    U(+-1/sqrt(fan_in))) and batch normalisation (momentum 0.1, that is decay 0.9, epsilon 1e-5) are
    PyTorch's. With the ImageNet stem it is torchvision's.
    """
    return residual_network(
        "ResNet18", input_shape, num_classes, cut, stem, widths, _block, (2, 2, 2, 2), 1
    )


def residual_network(
    builder: str,
    input_shape: Sequence[int],
    num_classes: int,
    cut: str,
    stem: str,
    widths: Sequence[int],
    block: Callable[[Any, int, int, str], Any],
    blocks: Sequence[int],
    expansion: int,
) -> SplitClassifier:
    """A stem, four stages of blocks, pooling and one dense layer.

    Args:
      builder: for messages, and in small letters the name of the network.
      input_shape: see `ResNet18`.
      num_classes: likewise.
      cut: likewise.
      stem: likewise.
      widths: likewise.
      block: makes one of a feature map, the width, the stride and its name.
      blocks: number of them in each stage.
      expansion: channels behind a block over its width.

    Raises:
      ValueError: see `ResNet18`.
    """
    check_image_shape(builder, input_shape)
    if stem not in STEMS:
        raise ValueError(f"{builder}(stem={stem!r}): must be one of {STEMS}.")
    widths = check_widths(builder, widths)

    def stage(number: int, x: Any) -> Any:
        for index in range(1, blocks[number - 1] + 1):
            stride = 2 if number > 1 and index == 1 else 1
            x = block(x, widths[number - 1], stride, f"stage{number}_block{index}")
        return x

    stages: dict[str, Callable[[Any], Any]] = {
        "stem": functools.partial(_stem, stem, widths[0]),
        **{f"stage{number}": functools.partial(stage, number) for number in (1, 2, 3, 4)},
    }
    logits = logits_layer(num_classes, torch_uniform(), torch_bias(expansion * widths[-1]))
    return split_after(cut, input_shape, stages, logits, builder, builder.lower())


def check_widths(builder: str, widths: Sequence[int]) -> tuple[int, ...]:
    """Four whole numbers of 1 or more.

    Raises:
      ValueError: anything else.
    """
    hint = "the published networks have (64, 128, 256, 512)"
    found = tuple(plain(widths))
    if len(found) != 4:
        raise ValueError(f"{builder}(widths={found}): must be four numbers; {hint}.")
    return tuple(check_whole(builder, "widths", width, 1, hint) for width in found)


def conv_bn(x: Any, filters: int, kernel: int, stride: int, name: str) -> Any:
    """A convolution and its BN, the layers NAME_conv and NAME_bn."""
    x = torch_conv(x, filters, kernel, stride, torch_uniform(), f"{name}_conv")
    return BatchNormalization(0.9, 1e-5, name=f"{name}_bn")(x)


def relu(x: Any, name: str) -> Any:
    """ReLU, the layer NAME_relu."""
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def skip_of(x: Any, filters: int, stride: int, name: str) -> Any:
    """The block's input, through 1x1 conv BN where the shape changes."""
    if stride > 1 or x.shape[-1] != filters:
        return conv_bn(x, filters, 1, stride, f"{name}_skip")
    return x


def _stem(stem: str, filters: int, x: Any) -> Any:
    if stem == "cifar":
        return relu(conv_bn(x, filters, 3, 1, "stem"), "stem")
    x = relu(conv_bn(x, filters, 7, 2, "stem"), "stem")
    # Zeros are as good as PyTorch's minus infinity: behind ReLU nothing is smaller.
    x = keras.layers.ZeroPadding2D(1, name="stem_pool_pad")(x)
    return keras.layers.MaxPooling2D(3, 2, name="stem_pool")(x)


def _block(x: Any, filters: int, stride: int, name: str) -> Any:
    skip = skip_of(x, filters, stride, name)
    x = relu(conv_bn(x, filters, 3, stride, f"{name}_1"), f"{name}_1")
    x = conv_bn(x, filters, 3, 1, f"{name}_2")
    return relu(keras.layers.Add(name=f"{name}_add")([x, skip]), f"{name}_2")
