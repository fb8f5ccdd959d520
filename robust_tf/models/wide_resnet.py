"""Wide residual networks: WRN-34-10 of TRADES, WRN-28-10 of ATLD and ST."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras

from robust_tf import registration
from robust_tf.models.layers import (
    BatchNormalization,
    check_image_shape,
    fan_out_normal,
    logits_layer,
    torch_conv,
    torch_uniform,
)
from robust_tf.models.split import SplitClassifier, split_after


@registration.configurable
def WideResNet(
    input_shape: Sequence[int],
    num_classes: int,
    depth: int = 34,
    width: int = 10,
    cut: str = "pool",
) -> SplitClassifier:
    """3x3 conv 16, three stages of (depth - 4) / 6 wide blocks, BN, ReLU, pool | dense.

    Pixels in [0, 1] go in as they are.

    Args:
      input_shape: (height, width, channels).
      num_classes: number of logits, >= 2.
      depth: layers with weights on the main path, 6 * n + 4: 10, 16, 22, 28, 34, 40 ...
      width: factor of the channels 16, 32, 64, >= 1.
      cut: where z is: 'pool', the pooled feature (64 * width,), h being one dense layer; or
        'stage1' to 'stage3', the feature map after that stage, before BN and ReLU, as LAT attacks
        it after the second.

    Raises:
      ValueError: depth is not 6 * n + 4, width < 1, input_shape is not that of images; an unknown
        cut.

    Source: Zagoruyko & Komodakis (2016), as in the program of Zhang et al. (2019, TRADES), without
    the extra first-stage block which its constructor makes and never calls; no dropout.
    Convolutions N(0, sqrt(2/(k k out))), dense kernel U(+-1/sqrt(fan_in)), bias 0.
    """
    check_image_shape("WideResNet", input_shape)
    stages = wide_stages(depth, width)
    logits = logits_layer(num_classes, torch_uniform())
    return split_after(cut, input_shape, stages, logits, "WideResNet", "wide_resnet")


def wide_stages(depth: int, width: int, kernel: int = 3) -> dict[str, Callable[[Any], Any]]:
    """'stem', 'stage1' to 'stage3' and 'head': functions of feature maps, in this order."""
    if depth < 10 or (depth - 4) % 6:
        raise ValueError(
            f"WideResNet(depth={depth}): must be 6 * n + 4 with n >= 1, such as 10, 28 or 34."
        )
    if width < 1:
        raise ValueError(f"WideResNet(width={width}): must be 1 or more.")

    def stage(number: int, x: Any) -> Any:
        for block in range(1, (depth - 4) // 6 + 1):
            stride = 2 if number > 1 and block == 1 else 1
            filters = 16 * 2 ** (number - 1) * width
            x = _block(x, filters, kernel, stride, f"stage{number}_block{block}")
        return x

    return {
        "stem": lambda x: _conv(x, 16, kernel, 1, "stem"),
        **{f"stage{number}": functools.partial(stage, number) for number in (1, 2, 3)},
        "head": lambda x: _activate(x, "head"),
    }


def wide_trunk(x: Any, depth: int, width: int, kernel: int = 3) -> Any:
    """All but pooling and dense layer: images -> feature map (B, H / 4, W / 4, 64 * width).

    With kernel 1 it is what 3x3 kernels compute on maps of one pixel, where all but their centres
    meet padding: the same initial values, and the same steps.
    """
    for stage in wide_stages(depth, width, kernel).values():
        x = stage(x)
    return x


def _block(x: Any, filters: int, kernel: int, stride: int, name: str) -> Any:
    """BN ReLU conv BN ReLU conv + skip; where channels change, the skip starts behind BN ReLU."""
    activated = _activate(x, f"{name}_1")
    skip = x
    if x.shape[-1] != filters:
        skip = torch_conv(activated, filters, 1, stride, fan_out_normal(), f"{name}_skip_conv")
    x = _conv(activated, filters, kernel, stride, f"{name}_conv1")
    x = _conv(_activate(x, f"{name}_2"), filters, kernel, 1, f"{name}_conv2")
    return keras.layers.Add(name=f"{name}_add")([x, skip])


def _activate(x: Any, name: str) -> Any:
    x = BatchNormalization(0.9, 1e-5, name=f"{name}_bn")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def _conv(x: Any, filters: int, kernel: int, stride: int, name: str) -> Any:
    """As a 3x3 kernel begins: N(0, sqrt(2 / (9 filters))), whatever its size."""
    return torch_conv(x, filters, kernel, stride, fan_out_normal(kernel**2 / 9), name)
