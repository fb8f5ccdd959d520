"""PreActResNet-18 of fast and early-stopped adversarial training, and DeepMind's."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from robust_tf import registration
from robust_tf.models.layers import check_image_shape, logits_layer, torch_bias, torch_uniform
from robust_tf.models.pre_activation import PreActivation
from robust_tf.models.resnet18 import check_widths
from robust_tf.models.split import SplitClassifier, split_after


@registration.configurable
def PreActResNet18(
    input_shape: Sequence[int],
    num_classes: int,
    cut: str = "pool",
    shortcut: str = "activated",
    head_bn: bool = True,
    activation: str = "relu",
    padding: str = "torch",
    decay: float = 0.9,
    widths: Sequence[int] = (64, 128, 256, 512),
) -> SplitClassifier:
    """3x3 conv, four stages of two pre-activation blocks, BN, activation, pool | dense.

    A block is BN, activation, conv, BN, activation, conv + skip. Every stage but the first halves
    the image (rounding up). Pixels in [0, 1] go in as they are. The programs have the same names
    for different functions:

    | program | arguments |
    |---|---|
    | Rice et al. (2020) | the defaults |
    | Wong et al. (2020), Andriushchenko & Flammarion (2020) | shortcut='raw', head_bn=False |
    | Wong et al. (2020), where it has the last BN | shortcut='raw' |
    | Rebuffi et al. (2021) | shortcut='raw3x3', activation='silu', padding='same', decay=0.99 |

    Args:
      input_shape: (height, width, channels).
      num_classes: number of logits, >= 2.
      cut: where z is: 'pool', the pooled feature (512,), h being one dense layer; or 'stage1' to
        'stage4', the feature map after that stage.
      shortcut: where the convolution on the skip, where the shape changes, starts: 'activated',
        behind the block's first activation, 1x1; 'raw', from the block's input, 1x1; 'raw3x3',
        from there, 3x3.
      head_bn: whether there are a BN and an activation before the pooling.
      activation: 'relu' or 'silu', x * sigmoid(x).
      padding: of 3x3 convolutions: 'torch', 1 on every side; or 'same', TensorFlow's, which at
        stride 2 and even sides pads below and to the right only.
      decay: of the moving averages of batch normalization, in [0, 1): 1 - PyTorch's momentum.
      widths: channels of the four stages, >= 1; the first is the stem's, too.

    Raises:
      ValueError: input_shape is not that of images; an unknown cut, shortcut, activation or
        padding; decay outside [0, 1); widths that are not four positive numbers.

    Source: He et al. (2016), Identity Mappings, as in the PyTorch programs named above; initial
    values are PyTorch's, all U(+-1/sqrt(fan_in)).
    """
    check_image_shape("PreActResNet18", input_shape)
    widths = check_widths("PreActResNet18", widths)
    layers = PreActivation(
        "PreActResNet18",
        torch_uniform,
        torch_uniform,
        activation=activation,
        padding=padding,
        decay=decay,
        shortcut=shortcut,
    )

    def stage(number: int, x: Any) -> Any:
        for block in (1, 2):
            stride = 2 if number > 1 and block == 1 else 1
            x = layers.block(x, widths[number - 1], stride, f"stage{number}_block{block}")
        return x

    stages: dict[str, Callable[[Any], Any]] = {
        "stem": lambda x: layers.conv(x, widths[0], 1, "stem"),
        **{f"stage{number}": functools.partial(stage, number) for number in (1, 2, 3, 4)},
    }
    if head_bn:
        stages["head"] = lambda x: layers.activate(x, "head")
    logits = logits_layer(num_classes, torch_uniform(), torch_bias(widths[-1]))
    return split_after(cut, input_shape, stages, logits, "PreActResNet18", "preact_resnet18")
