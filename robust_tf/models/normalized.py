"""A network of a recipe behind the pixels that it was published with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from robust_tf import registration
from robust_tf.models.input_range import with_input_range


@registration.configurable
def Normalized(
    input_shape: Sequence[int],
    num_classes: int,
    network: Callable[..., keras.Model] | None = None,
    input_range: Any = None,
) -> keras.Model:
    """A network of images in [0, 1] whose first layer makes the pixels that `network` takes.

    So eps stays in units of [0, 1]. In a recipe:

        train.network = @Normalized
        Normalized.network = @WideResNet
        Normalized.input_range = {'mean': (0.4914, 0.4822, 0.4465), 'std': (0.2471, 0.2435, 0.2616)}

    Args:
      input_shape: (height, width, channels).
      num_classes: number of logits, >= 2.
      network: a builder, such as `WideResNet`, called with the two above.
      input_range: what `with_input_range` takes: the lowest and the highest value, such as (-1, 1),
        mean and std of images in [0, 1], or a mode of `keras.applications`.

    Returns:
      What the builder returns, with the layer in front.

    Raises:
      ValueError: network or input_range is missing; input_range is none of these, or of another
        number of channels.
    """
    if network is None or input_range is None:
        raise ValueError(
            "Normalized: needs network, a builder such as WideResNet, and input_range, the pixels "
            "that it takes, such as (-1, 1) or {'mean': (0.5,), 'std': (0.5,)}."
        )
    return with_input_range(network(input_shape=input_shape, num_classes=num_classes), input_range)
