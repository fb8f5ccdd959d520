"""Wide residual networks: WRN-34-10 of TRADES, WRN-28-10 of ATLD and ST, DeepMind's WRN-70-16."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from robust_tf import registration
from robust_tf.models.layers import (
    check_image_shape,
    fan_out_normal,
    logits_layer,
    torch_uniform,
)
from robust_tf.models.pre_activation import PreActivation
from robust_tf.models.split import SplitClassifier, split_after


@registration.configurable
def WideResNet(
    input_shape: Sequence[int],
    num_classes: int,
    depth: int = 34,
    width: int = 10,
    cut: str = "pool",
    activation: str = "relu",
    padding: str = "torch",
    decay: float = 0.9,
) -> SplitClassifier:
    """3x3 conv 16, three stages of (depth - 4) / 6 wide blocks, BN, activation, pool | dense.

    Pixels in [0, 1] go in as they are. DeepMind's networks are those with activation='silu',
    padding='same' and decay=0.99, behind a normalization (`Normalized`).

    Args:
      input_shape: (height, width, channels).
      num_classes: number of logits, >= 2.
      depth: layers with weights on the main path, 6 * n + 4: 10, 16, 22, 28, 34, 40 ...
      width: factor of the channels 16, 32, 64, >= 1.
      cut: where z is: 'pool', the pooled feature (64 * width,), h being one dense layer; or
        'stage1' to 'stage3', the feature map after that stage, before BN and activation, as LAT
        attacks it after the second.
      activation: 'relu' or 'silu', x * sigmoid(x).
      padding: of 3x3 convolutions: 'torch', 1 on every side; or 'same', TensorFlow's, which at
        stride 2 and even sides pads below and to the right only.
      decay: of the moving averages of batch normalization, in [0, 1): 1 - PyTorch's momentum.

    Raises:
      ValueError: depth is not 6 * n + 4, width < 1, input_shape is not that of images; an unknown
        cut, activation or padding; decay outside [0, 1).

    Source: Zagoruyko & Komodakis (2016), as in the program of Zhang et al. (2019, TRADES), without
    the extra first-stage block which its constructor makes and never calls; no dropout.
    Convolutions N(0, sqrt(2/(k k out))), dense kernel U(+-1/sqrt(fan_in)), bias 0. The other
    activation, padding and decay: Gowal et al. (2020), Rebuffi et al. (2021), in their PyTorch
    classes.
    """
    check_image_shape("WideResNet", input_shape)
    stages = wide_stages(depth, width, activation=activation, padding=padding, decay=decay)
    logits = logits_layer(num_classes, torch_uniform())
    return split_after(cut, input_shape, stages, logits, "WideResNet", "wide_resnet")


def wide_stages(
    depth: int, width: int, kernel: int = 3, **parts: Any
) -> dict[str, Callable[[Any], Any]]:
    """'stem', 'stage1' to 'stage3' and 'head': functions of feature maps, in this order.

    Kernels begin as 3x3 ones do, N(0, sqrt(2 / (9 filters))), whatever their size; `parts` are
    arguments of `PreActivation`.
    """
    if depth < 10 or (depth - 4) % 6:
        raise ValueError(
            f"WideResNet(depth={depth}): must be 6 * n + 4 with n >= 1, such as 10, 28 or 34."
        )
    if width < 1:
        raise ValueError(f"WideResNet(width={width}): must be 1 or more.")
    initializer = functools.partial(fan_out_normal, kernel**2 / 9)
    layers = PreActivation("WideResNet", initializer, fan_out_normal, kernel=kernel, **parts)

    def stage(number: int, x: Any) -> Any:
        for block in range(1, (depth - 4) // 6 + 1):
            stride = 2 if number > 1 and block == 1 else 1
            filters = 16 * 2 ** (number - 1) * width
            x = layers.block(x, filters, stride, f"stage{number}_block{block}")
        return x

    return {
        "stem": lambda x: layers.conv(x, 16, 1, "stem"),
        **{f"stage{number}": functools.partial(stage, number) for number in (1, 2, 3)},
        "head": lambda x: layers.activate(x, "head"),
    }


def wide_trunk(x: Any, depth: int, width: int, kernel: int = 3) -> Any:
    """All but pooling and dense layer: images -> feature map (B, H / 4, W / 4, 64 * width).

    With kernel 1 it is what 3x3 kernels compute on maps of one pixel, where all but their centres
    meet padding: the same initial values, and the same steps.
    """
    for stage in wide_stages(depth, width, kernel).values():
        x = stage(x)
    return x
