"""ResNet-50, with the stem for small images or for ImageNet's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from robust_tf import registration
from robust_tf.models.resnet18 import conv_bn, relu, residual_network, skip_of
from robust_tf.models.split import SplitClassifier

EXPANSION = 4


@registration.configurable
def ResNet50(
    input_shape: Sequence[int],
    num_classes: int,
    cut: str = "pool",
    stem: str = "cifar",
    widths: Sequence[int] = (64, 128, 256, 512),
) -> SplitClassifier:
    """3x3 conv 64, BN, ReLU, stages of 3, 4, 6, 3 bottleneck blocks (256 to 2048), pool | dense.

    A block is 1x1 conv BN ReLU, 3x3 conv BN ReLU, 1x1 conv BN + skip, then ReLU; the skip is 1x1
    conv BN where the shape changes. The stride is in the 3x3 convolution, as in PyTorch
    (`keras.applications.ResNet50` has it in the first 1x1). Every stage but the first halves the
    image (rounding up). Pixels in [0, 1] go in as they are.

    Args:
      input_shape: (height, width, channels).
      num_classes: number of logits, >= 2.
      cut: where z is: 'pool', the pooled feature (2048,), h being one dense layer; or 'stage1' to
        'stage4', the feature map after that stage.
      stem: 'cifar' as above; 'imagenet', 7x7 conv with stride 2, BN, ReLU and 3x3 max-pooling with
        stride 2, for images of 64 pixels a side or more.
      widths: channels of the 3x3 convolutions of the four stages, a quarter of the stages', >= 1;
        the first is the stem's, too.

    Raises:
      ValueError: input_shape is not that of images; an unknown cut or stem; widths that are not
        four positive numbers.

    Source: He et al. (2016), as in the CIFAR program of Engstrom et al. (2019, `robustness`), and
    with the ImageNet stem in torchvision ("v1.5"); initial values are PyTorch's, all
    U(+-1/sqrt(fan_in)).
    """
    return residual_network(
        "ResNet50", input_shape, num_classes, cut, stem, widths, _block, (3, 4, 6, 3), EXPANSION
    )


def _block(x: Any, filters: int, stride: int, name: str) -> Any:
    skip = skip_of(x, EXPANSION * filters, stride, name)
    x = relu(conv_bn(x, filters, 1, 1, f"{name}_1"), f"{name}_1")
    x = relu(conv_bn(x, filters, 3, stride, f"{name}_2"), f"{name}_2")
    x = conv_bn(x, EXPANSION * filters, 1, 1, f"{name}_3")
    return relu(keras.layers.Add(name=f"{name}_add")([x, skip]), f"{name}_3")
