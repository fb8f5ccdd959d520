"""CNN-4C3F(F): the four-convolution, three-dense network of the ADR paper."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from robust_tf import registration
from robust_tf.models.layers import Dropout, check_image_shape, logits_layer
from robust_tf.models.split import SplitClassifier, split_chain
from robust_tf.validation import check_whole, plain

# Number of layers of the chain below that belong to the generator.
CUTS = {"2conv": 3, "3conv": 4, "4conv": 7, "4conv1fc": 8, "4conv2fc": 10}
SMALLEST = 18  # side of an image in pixels
MOST = 16_384  # values of the flattened feature map, on which the first dense layer works


@registration.configurable
def CNN(
    input_shape: Sequence[int],
    num_classes: int,
    filters: int | Sequence[int] = 32,
    hidden: int = 200,
    cut: str = "4conv",
    dropout: float = 0.5,
) -> SplitClassifier:
    """Conv(F) Conv(F) pool Conv(F) Conv(F) pool flatten | FC(H) dropout FC(H) FC(C).

    3x3 convolutions without padding, ReLU after each layer but the last, 2x2 max-pooling. He-normal
    convolutions, zero-initialised last layer, the other dense layers U(+-1/sqrt(fan_in)).

    Args:
      input_shape: (height, width, channels), at least 18 by 18; it is made for 28 by 28 to 64 by
        64, and refused where the flattened map has more than 16,384 values.
      num_classes: number of logits, >= 2.
      filters: F for all four convolutions, as the paper names them (32 for MNIST, 64 for CIFAR-10),
        or four numbers, such as (32, 32, 64, 64), the Carlini-Wagner network which it cites.
      hidden: H, 200 for MNIST, 256 for CIFAR-10.
      cut: where the intermediate layer z is, after '2conv' (its pooling included), '3conv', '4conv'
        (flattened; the paper's choice), '4conv1fc' or '4conv2fc' (Table 5).
      dropout: rate in [0, 1); 0.5 in the papers.

    Raises:
      ValueError: images too small or too large, unknown cut, filters neither one nor four numbers.

    Source: Bui et al. (2020), supplement section 7; kernels and initialisers from the released
    `small_cnn.py`.
    """
    filters = plain(filters)
    widths = (filters,) * 4 if isinstance(filters, int) else tuple(map(plain, filters))
    if len(widths) != 4 or min(widths) < 1:
        raise ValueError(f"CNN(filters={filters}): one number or four, each >= 1.")
    if cut not in CUTS:
        raise ValueError(f"CNN(cut={cut!r}): must be one of {tuple(CUTS)}.")
    check_image_shape("CNN", input_shape)
    check_whole("CNN", "hidden", hidden, 1)
    _check_size(tuple(input_shape), widths[3])
    layers = [
        _conv(widths[0], "conv1"),
        _conv(widths[1], "conv2"),
        keras.layers.MaxPooling2D(name="pool1"),
        _conv(widths[2], "conv3"),
        _conv(widths[3], "conv4"),
        keras.layers.MaxPooling2D(name="pool2"),
        keras.layers.Flatten(name="flatten"),
        _dense(hidden, "fc1"),
        Dropout(dropout, name="dropout"),
        _dense(hidden, "fc2"),
        logits_layer(num_classes, "zeros"),
    ]
    return split_chain(layers, CUTS[cut], tuple(input_shape), "cnn")


def _check_size(shape: tuple[int, ...], filters: int) -> None:
    """Raises ValueError for images on which this network makes no sense."""
    if min(shape[:2]) < SMALLEST:
        raise ValueError(
            f"CNN(input_shape={shape}): images of {SMALLEST}x{SMALLEST} pixels or more are needed; "
            "use ResNet18 or WideResNet, which take smaller ones, or MLP for points."
        )
    height, width = (((side - 4) // 2 - 4) // 2 for side in shape[:2])
    if height * width * filters > MOST:
        raise ValueError(
            f"CNN(input_shape={shape}): flattened, its feature map would have "
            f"{height * width * filters:,} values, more than {MOST:,}; use ResNet18, WideResNet or "
            "Application, which take the mean over the map, or smaller images, such as "
            "ImageFolder.image_size = 32."
        )


def _conv(filters: int, name: str) -> keras.layers.Layer:
    he_normal = keras.initializers.VarianceScaling(2.0, "fan_in", "untruncated_normal")
    return keras.layers.Conv2D(
        filters, 3, activation="relu", kernel_initializer=he_normal, name=name
    )


def _dense(units: int, name: str) -> keras.layers.Layer:
    """A ReLU layer with PyTorch's kernel initialiser, U(+-1/sqrt(fan_in))."""
    uniform = keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")
    return keras.layers.Dense(
        plain(units), activation="relu", kernel_initializer=uniform, name=name
    )
