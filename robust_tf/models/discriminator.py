"""Discriminators: which outputs of a network belong to natural images, and to which class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from robust_tf import compat, registration
from robust_tf.models.layers import (
    BatchNormalization,
    Centering,
    logits_layer,
    torch_bias,
    torch_uniform,
)
from robust_tf.models.weights_source import WeightsSource
from robust_tf.models.wide_resnet import wide_trunk


class DiscriminatorOutput(NamedTuple):
    """Of a discriminator, float32.

    natural: logits (B,), whose sigmoid is the probability that an input is of a natural image, not
    of an adversarial one; classes: logits (B, C).
    """

    natural: tf.Tensor
    classes: tf.Tensor


@registration.serializable
class Discriminator(WeightsSource, keras.Model):
    """Judges logits or features of a network: natural or adversarial, and of which class.

    Two dense layers on one trunk, in float32 under every dtype policy; kernels
    U(+-1/sqrt(fan_in)), biases 0.

    Args:
      trunk: built Keras model, (B, d) -> (B, h).
      num_classes: C, >= 2.

    Raises:
      ValueError: a trunk that does not take and give vectors, C < 2.

    Source: ATLD paper and its released program, whose labels these are (natural = 1). The paper
    has one output vector of 1 + C, the first entry of which is the probability of adversarial.
    """

    def __init__(self, trunk: keras.Model, num_classes: int, name: str | None = None):
        super().__init__(name=name)
        if len(trunk.input_shape) != 2 or len(trunk.output_shape) != 2:
            raise ValueError(
                f"Discriminator: the trunk takes {trunk.input_shape} and gives "
                f"{trunk.output_shape}; both must be (batch, size). Begin it with a Reshape and "
                "end it with a Flatten where it works on maps."
            )
        self.trunk, self.num_classes = trunk, int(num_classes)
        hidden = keras.Input((int(trunk.output_shape[-1]),), name="hidden")
        natural = keras.layers.Dense(
            1, kernel_initializer=torch_uniform(), dtype="float32", name="natural"
        )
        classes = logits_layer(self.num_classes, torch_uniform())
        self.heads = keras.Model(hidden, [natural(hidden), classes(hidden)], name="heads")
        self.built = True

    def build(self, input_shape: Any = None) -> None:
        """Nothing to do: trunk and heads come built."""
        self.built = True

    @property
    def input_size(self) -> int:
        """Number of values d that it judges an image by."""
        return int(self.trunk.input_shape[-1])

    def call(self, inputs: tf.Tensor, training: bool = False) -> DiscriminatorOutput:
        """The judgement of (B, d); inputs (B, ...) of d values each are flattened."""
        flat = tf.reshape(inputs, [tf.shape(inputs)[0], math.prod(inputs.shape[1:])])
        natural, classes = self.heads(self.trunk(flat, training=training))
        return DiscriminatorOutput(natural[:, 0], classes)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "name": self.name,
            "trunk": compat.serialize(self.trunk),
            "num_classes": self.num_classes,
            **self.source_config(),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Discriminator:
        """Inverse of `get_config`."""
        config = {**config, "trunk": compat.deserialize(config["trunk"])}
        source = config.pop("weights_source", None)
        made = cls(**config)
        made.weights_source = source
        return made


@registration.configurable
def WideDiscriminator(
    inputs: int, num_classes: int, depth: int = 28, width: int = 5
) -> Discriminator:
    """A wide residual network on an image of one pixel, whose channels are the inputs.

    Of the program's 3x3 kernels the centre alone meets anything but padding, so the kernels here
    are 1x1, with the initial values of such centres: the same function and the same steps, at a
    ninth of the parameters.

    Args:
      inputs: d, number of channels, >= 1.
      num_classes: C, >= 2.
      depth: 6 * n + 4.
      width: factor of the channels 16, 32, 64, >= 1.

    Raises:
      ValueError: an argument outside its range.

    Source: released program of ATLD, WRN-28-5 for all its data.
    """
    _check_inputs("WideDiscriminator", inputs)
    z = keras.Input((int(inputs),), name="z")
    pixel = keras.layers.Reshape((1, 1, int(inputs)), name="pixel")(z)
    x = wide_trunk(pixel, depth, width, kernel=1)
    trunk = keras.Model(z, keras.layers.Flatten(name="flatten")(x), name="trunk")
    return Discriminator(trunk, num_classes, name="wide_discriminator")


@registration.configurable
def MLPDiscriminator(
    inputs: int,
    num_classes: int,
    hidden: Sequence[int] = (64, 64),
    batch_norm: bool = True,
    center: bool = False,
) -> Discriminator:
    """Dense layers, each with batch normalization and ReLU: for small networks, and toys.

    Without the normalization the units die on the growing logits of a network in training: on MNIST
    the output had no gradient at 22 % of the images in the third epoch, and at all in the fifth
    (RESULTS.md).

    Args:
      inputs: d, >= 1.
      num_classes: C, >= 2.
      hidden: units of the layers, one or more.
      batch_norm: whether there is a normalization (momentum 0.9, epsilon 1e-5).
      center: whether it sees logits less their mean, so that a shift which all classes share, and
        which softmax ignores, tells it nothing; not for features.

    Raises:
      ValueError: an argument outside its range.

    PyTorch's initialisers, U(+-1/sqrt(fan_in)), biases included. The papers have no such network.
    """
    _check_inputs("MLPDiscriminator", inputs)
    if len(hidden) < 1 or min(hidden) < 1:
        raise ValueError(
            f"MLPDiscriminator(hidden={tuple(hidden)}): one layer or more, each of 1 unit or more."
        )
    layers: list[keras.layers.Layer] = [Centering(name="centering")] if center else []
    for index, (fan_in, units) in enumerate(
        zip((int(inputs), *hidden), hidden, strict=False), start=1
    ):
        layers.append(
            keras.layers.Dense(
                units,
                kernel_initializer=torch_uniform(),
                bias_initializer=torch_bias(fan_in),
                name=f"fc{index}",
            )
        )
        if batch_norm:
            layers.append(BatchNormalization(0.9, 1e-5, name=f"fc{index}_bn"))
        layers.append(keras.layers.ReLU(name=f"fc{index}_relu"))
    trunk = keras.Sequential([keras.Input((int(inputs),)), *layers], name="trunk")
    return Discriminator(trunk, num_classes, name="mlp_discriminator")


def _check_inputs(builder: str, inputs: int) -> None:
    if inputs < 1:
        raise ValueError(
            f"{builder}(inputs={inputs!r}): must be 1 or more, the number of logits or features."
        )
