"""ATLD's discriminator: how it is trained, that it fits the network, what may go wrong."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import keras

from robust_tf import registration
from robust_tf.dataclass_config import DataclassConfig
from robust_tf.models import Classifier, Discriminator
from robust_tf.validation import check_number, check_whole, plain_fields

UNABLE = 2 * math.log(2)  # the manifold loss of a discriminator that tells nothing apart


@registration.configurable
@registration.serializable
@dataclasses.dataclass(frozen=True)
class DiscriminatorTraining(DataclassConfig):
    """How the discriminator learns: SGD of its own, at a constant rate.

    Args:
      updates: per batch, >= 1, all on the same outputs of the network.
      learning_rate: > 0.
      momentum: in [0, 1).
      weight_decay: w of w/2 ||W||^2 over all its parameters, >= 0.
      hard_labels: its class head learns plain labels, as in the paper; the program smooths them.
    """

    updates: int = 2
    learning_rate: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 2e-4
    hard_labels: bool = False

    def __post_init__(self) -> None:
        owner = type(self).__name__
        plain_fields(self)
        check_whole(owner, "updates", self.updates, 1)
        hint = "ATLD uses 0.001"
        check_number(owner, "learning_rate", self.learning_rate, 0.0, hint, strict=True)
        check_number(owner, "weight_decay", self.weight_decay, 0.0, "ATLD uses 0.0002")
        check_number(owner, "momentum", self.momentum, high=1.0, strict_high=True)


def fitting(discriminator: Any, network: Classifier, disc_input: str) -> Discriminator:
    """The discriminator, built if need be.

    Args:
      discriminator: builder, (inputs, num_classes) -> Discriminator, or one that is built.
      network: whose outputs it sees.
      disc_input: which of them, 'logits' or 'features'.

    Raises:
      TypeError: neither a builder nor a discriminator.
      ValueError: one that does not fit the network.
    """
    classes = network.num_classes
    inputs = classes
    if disc_input == "features":
        inputs = math.prod(network.generator.output_shape[1:])
    built = discriminator
    if not isinstance(built, keras.Model) and callable(built):
        built = discriminator(inputs=inputs, num_classes=classes)
    if not isinstance(built, Discriminator):
        raise TypeError(
            f"ATLD: discriminator is {built!r}; expected a builder such as "
            "models.MLPDiscriminator, or a models.Discriminator."
        )
    if (built.input_size, built.num_classes) != (inputs, classes):
        raise ValueError(
            f"ATLD: the discriminator takes {built.input_size} values and has "
            f"{built.num_classes} classes, but the network has {inputs} {disc_input} and "
            f"{classes} classes; give a builder, which gets both numbers, or change disc_input."
        )
    return built


def faults(logs: Mapping[str, float]) -> list[str]:
    """What an epoch's means say is amiss with the discriminator, a sentence each."""
    found = []
    if logs["manifold"] > UNABLE - 0.01:
        found.append(
            f"ATLD's discriminator cannot tell natural from adversarial images: manifold is "
            f"{logs['manifold']:.3f}, and 2 log 2 = 1.386 is that of guessing; raise "
            "DiscriminatorTraining.learning_rate if it stays there."
        )
    if logs["zero_gradient"] > 0.05:
        found.append(
            f"ATLD's discriminator has no gradient at {logs['zero_gradient']:.0%} of the "
            "images, whose perturbations are noise; give it batch normalization and "
            "DiscriminatorTraining.weight_decay, or lower its learning rate."
        )
    return found
