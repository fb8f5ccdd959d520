"""Optimisers and learning-rate schedules of the papers, as gin-bound constructors.

A schedule is a function of the step alone, so that a resumed run needs nothing but the step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from robust_tf import registration


@registration.configurable
def SGD(learning_rate: Any, momentum: float = 0.9, nesterov: bool = False) -> Any:
    """Stochastic gradient descent with momentum, Keras form: v <- momentum v - rate g, w <- w + v.

    PyTorch keeps the rate out of the velocity; the two differ for some steps after the rate drops.
    """
    return keras.optimizers.SGD(learning_rate, momentum=momentum, nesterov=nesterov)


@registration.configurable
def Adam(
    learning_rate: Any, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-7
) -> Any:
    """Adam (Kingma & Ba, 2015)."""
    return keras.optimizers.Adam(learning_rate, beta_1=beta_1, beta_2=beta_2, epsilon=epsilon)


@registration.serializable
class EpochSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """`learning_rate` times a factor that depends on the epoch.

    Args:
      learning_rate: at the start, > 0.
      steps_per_epoch: >= 1.
      boundaries: epochs (counted from 0, fractions allowed) at which the rate is multiplied by
        `factor`, ascending.
      factor: > 0.
      cosine_epochs: if > 0, the rate follows half a cosine to 0 over this many epochs instead.
    """

    def __init__(
        self,
        learning_rate: float,
        steps_per_epoch: int,
        boundaries: Sequence[float] = (),
        factor: float = 0.1,
        cosine_epochs: float = 0,
    ):
        if not 0 < learning_rate < math.inf:
            raise ValueError(f"learning_rate={learning_rate!r}: must be finite and > 0.")
        numbers = isinstance(boundaries, (tuple, list)) and all(
            isinstance(b, (int, float)) for b in boundaries
        )
        if not numbers or list(boundaries) != sorted(boundaries) or min(boundaries, default=1) <= 0:
            raise ValueError(
                f"boundaries={boundaries!r}: must be ascending epochs > 0, e.g. (55, 75, 90)."
            )
        if not 0 < factor < math.inf:
            raise ValueError(f"factor={factor!r}: must be finite and > 0.")
        self.learning_rate, self.steps_per_epoch = float(learning_rate), int(steps_per_epoch)
        self.boundaries, self.factor = tuple(boundaries), float(factor)
        self.cosine_epochs = float(cosine_epochs)

    def __call__(self, step: Any) -> tf.Tensor:
        epoch = tf.cast(step, tf.float32) / self.steps_per_epoch
        if self.cosine_epochs:
            done = tf.minimum(epoch / self.cosine_epochs, 1.0)
            return self.learning_rate * 0.5 * (1 + tf.cos(math.pi * done))
        rate = tf.constant(self.learning_rate)
        for boundary in self.boundaries:
            rate = tf.where(epoch >= boundary, rate * self.factor, rate)
        return rate

    def get_config(self) -> dict[str, Any]:
        return {
            "learning_rate": self.learning_rate,
            "steps_per_epoch": self.steps_per_epoch,
            "boundaries": list(self.boundaries),
            "factor": self.factor,
            "cosine_epochs": self.cosine_epochs,
        }


@registration.configurable
def piecewise(
    learning_rate: float,
    steps_per_epoch: int,
    epochs: int,
    boundaries: Sequence[float] = (),
    factor: float = 0.1,
) -> EpochSchedule:
    """Multiplies the rate by `factor` at each epoch of `boundaries`; with none it is constant."""
    return EpochSchedule(learning_rate, steps_per_epoch, boundaries, factor)


@registration.configurable
def cosine(learning_rate: float, steps_per_epoch: int, epochs: int) -> EpochSchedule:
    """Half a cosine from the rate to 0 over all epochs."""
    return EpochSchedule(learning_rate, steps_per_epoch, cosine_epochs=epochs)
