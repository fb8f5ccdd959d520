"""Averages of the weights over training (EMA, SWA), for any method."""

from __future__ import annotations

import dataclasses
from typing import Any

import tensorflow as tf

from robust_tf import argument_types, compat, registration
from robust_tf.dataclass_config import DataclassConfig
from robust_tf.models import SplitClassifier, forward_mode
from robust_tf.validation import check_number, check_whole, plain_fields

# Batches that give batch normalisation new statistics: at our decay of 0.9 the old ones are gone;
# Keras' own layer, whose default is 0.99, keeps a third of them.
REFRESHING_BATCHES = 100


@argument_types.checked
@registration.serializable
@dataclasses.dataclass(frozen=True)
class WeightAverage(DataclassConfig):
    """Keeps a second network, of averaged weights, which is the one that is evaluated and saved.

    Until `from_step` it follows the network. The moving averages of its batch normalisation are
    those of the network, which do not fit averaged weights: call `refresh_statistics` before it is
    used, as the trainer does with clean training images; the statistics of a method that shows
    its network adversarial images alone, such as AT or ATLD, are then others than without average.
    A companion, such as ATLD's discriminator, is not averaged.

    Args:
      decay: of the exponential average, in (0, 1), average <- decay average + (1 - decay) weights;
        or None for the plain mean of all updates.
      from_step: of the first update, >= 0.
      every: steps between updates, >= 1.

    Source: Polyak & Juditsky (1992); Izmailov et al. (2018) for the plain mean (SWA) and the new
    statistics; for robust training Gowal et al. (2020) and Rebuffi et al. (2021).
    """

    decay: float | None = 0.999
    from_step: int = 0
    every: int = 1

    def __post_init__(self) -> None:
        plain_fields(self)
        if self.decay is not None and not 0 < self.decay < 1:
            raise ValueError(
                f"WeightAverage(decay={self.decay!r}): must be in (0, 1), or None for equal "
                "weights."
            )
        if self.from_step < 0 or self.every < 1:
            raise ValueError(
                f"WeightAverage(from_step={self.from_step!r}, every={self.every!r}): from_step "
                "must be >= 0, every >= 1."
            )

    def begin(self, averaged: SplitClassifier, network: SplitClassifier) -> None:
        """Makes `averaged` equal to `network`."""
        for mean, weight in zip(averaged.variables, network.variables, strict=True):
            compat.raw(mean).assign(tf.convert_to_tensor(compat.raw(weight)))

    def update(self, averaged: SplitClassifier, network: SplitClassifier, batches: Any) -> None:
        """After a step; `batches` counts it already."""
        done = tf.cast(batches, tf.int64) - self.from_step
        updates = tf.cast(done // self.every, tf.float32)
        rate = 1.0 / tf.maximum(updates, 1.0) if self.decay is None else 1.0 - self.decay
        due = tf.logical_and(done > 0, done % self.every == 0)
        rate = tf.where(done <= 0, 1.0, tf.where(due, rate, 0.0))
        for mean, weight in zip(
            averaged.trainable_variables, network.trainable_variables, strict=True
        ):
            old, new = compat.raw(mean), compat.raw(weight)
            old.assign(old + tf.cast(rate, old.dtype) * (new - old))
        for mean, statistic in zip(
            averaged.non_trainable_variables, network.non_trainable_variables, strict=True
        ):
            compat.raw(mean).assign(tf.convert_to_tensor(compat.raw(statistic)))


@registration.configurable
def EMA(steps_per_epoch: int, decay: float = 0.999, from_epoch: float = 0) -> WeightAverage:
    """Exponential average over the steps from an epoch (counted from 0) on."""
    return WeightAverage(decay, _steps("EMA", steps_per_epoch, from_epoch))


@registration.configurable
def SWA(steps_per_epoch: int, from_epoch: float, every_epochs: float = 1) -> WeightAverage:
    """Mean of the weights at the ends of epochs, from an epoch (counted from 0) on."""
    first = _steps("SWA", steps_per_epoch, from_epoch)
    check_number("SWA", "every_epochs", every_epochs, strict=True)
    return WeightAverage(None, first, max(round(every_epochs * steps_per_epoch), 1))


def _steps(owner: str, steps_per_epoch: int, from_epoch: float) -> int:
    """The step at which an epoch begins, after the checks of both."""
    check_whole(owner, "steps_per_epoch", steps_per_epoch, 1)
    check_number(owner, "from_epoch", from_epoch, 0.0, "epochs are counted from 0")
    return round(from_epoch * steps_per_epoch)


def refresh_statistics(network: SplitClassifier, x: tf.Tensor, seed: tf.Tensor) -> None:
    """Lets batch normalisation see these images under the present weights; graph code.

    Args:
      network: its moving averages forget slowly, so that 50 calls or more are needed.
      x: clean images (B, H, W, C).
      seed: int32 (2,), of dropout.
    """
    with forward_mode(batch_norm="training", seed=seed):
        network(x, training=True)
