"""The MNIST network of the convex-adversarial-polytope and fast-adversarial-training programs."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from robust_tf import registration
from robust_tf.models.layers import check_image_shape, logits_layer, torch_bias, torch_uniform
from robust_tf.models.split import SplitClassifier, split_chain
from robust_tf.validation import check_whole, plain

# Number of layers of the chain below that belong to the generator.
CUTS = {"2conv": 5, "2conv1fc": 6}


@registration.configurable
def StridedCNN(
    input_shape: Sequence[int],
    num_classes: int,
    filters: Sequence[int] = (16, 32),
    hidden: int = 100,
    cut: str = "2conv",
) -> SplitClassifier:
    """Conv(16) Conv(32) flatten | FC(100) FC(C).

    4x4 convolutions with stride 2, padded by 1 on every side, ReLU after each layer but the last.
    Pixels in [0, 1] go in as they are.

    Args:
      input_shape: (height, width, channels), sides of 4 or more.
      num_classes: C, >= 2.
      filters: of the two convolutions, >= 1.
      hidden: units of the dense layer before the last, >= 1.
      cut: where the intermediate layer z is, after '2conv' (flattened) or '2conv1fc'.

    Raises:
      ValueError: an argument outside its range, an unknown cut.

    Source: Wong & Kolter (2018); Wong et al. (2020), `mnist_net`; initial values are PyTorch's, all
    U(+-1/sqrt(fan_in)).
    """
    check_image_shape("StridedCNN", input_shape)
    if min(input_shape[:2]) < 4:
        raise ValueError(
            f"StridedCNN(input_shape={tuple(input_shape)}): images of 4x4 pixels or more are "
            "needed; use MLP for smaller ones."
        )
    if cut not in CUTS:
        raise ValueError(f"StridedCNN(cut={cut!r}): must be one of {tuple(CUTS)}.")
    hint = "the published network has filters=(16, 32) and hidden=100"
    hidden = check_whole("StridedCNN", "hidden", hidden, 1, hint)
    widths = tuple(plain(filters))
    if len(widths) != 2:
        raise ValueError(f"StridedCNN(filters={widths}): must be two numbers; {hint}.")
    first, second = (check_whole("StridedCNN", "filters", width, 1, hint) for width in widths)
    height, width, channels = input_shape
    layers = [
        *_conv(channels, first, "conv1"),
        *_conv(first, second, "conv2"),
        keras.layers.Flatten(name="flatten"),
        keras.layers.Dense(
            hidden,
            activation="relu",
            kernel_initializer=torch_uniform(),
            bias_initializer=torch_bias((height // 4) * (width // 4) * second),
            name="fc1",
        ),
        logits_layer(num_classes, torch_uniform(), torch_bias(hidden)),
    ]
    return split_chain(layers, CUTS[cut], tuple(input_shape), "strided_cnn")


def _conv(before: int, filters: int, name: str) -> list[keras.layers.Layer]:
    return [
        keras.layers.ZeroPadding2D(1, name=f"{name}_pad"),
        keras.layers.Conv2D(
            filters,
            4,
            strides=2,
            activation="relu",
            kernel_initializer=torch_uniform(),
            bias_initializer=torch_bias(16 * before),
            name=name,
        ),
    ]
