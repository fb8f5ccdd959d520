"""Optimisers and learning-rate schedules by gin name: Keras', and those of tensorflow-addons.

Every optimiser class of Keras has its own name and arguments (`train.optimizer = @AdamW`,
`AdamW.weight_decay = 0.01`); `SGD` is the papers', with momentum 0.9. On the stack with
tensorflow-addons its optimisers are there too (`ADDONS`). A schedule is one of Keras', a function
of the step alone, so that a resumed run needs nothing but the step.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from robust_tf import compat, registration
from robust_tf.validation import check_number, check_whole, plain

# Bases, wrappers, and an optimiser whose weights must be changed before they are evaluated.
_NOT_BY_NAME = ("Optimizer", "LossScaleOptimizer", "MultiOptimizer", "ScheduleFreeAdamW", "SGD")
# tensorflow-addons' optimisers that Keras lacks. Its averages are `train.weight_average` here.
ADDONS = (
    "AdaBelief",
    "ConditionalGradient",
    "LAMB",
    "LazyAdam",
    "NovoGrad",
    "ProximalAdagrad",
    "RectifiedAdam",
    "SGDW",
    "Yogi",
)


@registration.configurable
def SGD(
    learning_rate: Any,
    momentum: float = 0.9,
    nesterov: bool = False,
    clipnorm: float | None = None,
    clipvalue: float | None = None,
    global_clipnorm: float | None = None,
) -> Any:
    """Stochastic gradient descent with momentum, Keras form: v <- momentum v - rate g, w <- w + v.

    PyTorch keeps the rate out of the velocity; the two differ for some steps after the rate drops.

    Args:
      learning_rate: a number, or a schedule.
      momentum: in [0, 1].
      nesterov: look ahead by the momentum.
      clipnorm: the largest L2 norm of the gradient of each variable, > 0; None: any.
      clipvalue: the largest absolute entry of a gradient, > 0; None: any.
      global_clipnorm: the largest L2 norm of the gradients of all variables together, as
        `torch.nn.utils.clip_grad_norm_` has it, > 0; None: any. One of the three at most.

    Raises:
      ValueError: an argument outside its range, two kinds of clipping.
    """
    clipping = dict(zip(compat.CLIPPING, (clipnorm, clipvalue, global_clipnorm), strict=True))
    given = {name: value for name, value in clipping.items() if value is not None}
    for name, value in given.items():
        hint = "leave it out for gradients as they are"
        check_number("SGD", name, value, 0.0, hint, strict=True)
    if len(given) > 1:
        raise ValueError(f"SGD({', '.join(given)}): a gradient is clipped in one way; give one.")
    return keras.optimizers.SGD(learning_rate, momentum=momentum, nesterov=nesterov, **given)


def _of_keras() -> dict[str, Any]:
    """Keras' optimisers by name, as gin makes them."""
    classes = [
        value
        for value in vars(keras.optimizers).values()
        if isinstance(value, type) and issubclass(value, keras.optimizers.Optimizer)
    ]
    return {
        value.__name__: registration.external(value, "keras.optimizers")
        for value in classes
        if value.__name__ not in _NOT_BY_NAME
    }


Adam = _of_keras()["Adam"]


# ---- tensorflow-addons -------------------------------------------------------------------------


def _of_addons(name: str) -> Callable[..., Any]:
    """A builder of an optimiser of tensorflow-addons, which is imported when it is called."""

    def build(learning_rate: Any, **arguments: Any) -> Any:
        made = getattr(_addons(name), name)
        try:
            return made(learning_rate=learning_rate, **arguments)
        except TypeError as error:
            raise ValueError(f"{name}: {error}; give it as {name}.ARGUMENT = VALUE.") from error

    build.__name__ = build.__qualname__ = name
    build.__doc__ = f"`tensorflow_addons.optimizers.{name}`, with its arguments."
    return registration.configurable_as(name)(build)


for _name in ADDONS:
    _of_addons(_name)


@registration.configurable
def Lookahead(
    learning_rate: Any,
    optimizer: Callable[..., Any] = SGD,
    sync_period: int = 6,
    slow_step_size: float = 0.5,
) -> Any:
    """Slow weights that follow the fast ones of another optimiser (Zhang et al., 2019).

    Args:
      learning_rate: of the other optimiser.
      optimizer: its builder, (learning_rate) -> optimiser: @SGD, @RectifiedAdam.
      sync_period: steps of the fast weights for one of the slow ones, >= 1.
      slow_step_size: of the way to the fast weights, in (0, 1].

    Raises:
      ValueError: an argument out of its range; tensorflow-addons is not there.
    """
    check_whole("Lookahead", "sync_period", sync_period, 1, "6 in the paper")
    hint = "0.5 in the paper"
    check_number("Lookahead", "slow_step_size", slow_step_size, 0.0, hint, high=1.0, strict=True)
    addons = _addons("Lookahead")
    fast = optimizer(learning_rate=learning_rate)
    # It takes the steps of the other one without what that does to gradients before.
    clipping = {name: getattr(fast, name, None) for name in compat.CLIPPING}
    clipping = {name: value for name, value in clipping.items() if value is not None}
    if isinstance(fast, keras.optimizers.Optimizer):
        fast = tf.keras.__internal__.optimizers.convert_to_legacy_optimizer(fast)
    made = addons.Lookahead(fast, sync_period=sync_period, slow_step_size=slow_step_size)
    for name, value in clipping.items():
        setattr(made, name, value)
    return made


def _addons(name: str) -> Any:
    """The optimisers of tensorflow-addons; ValueError where it is not installed."""
    try:
        with warnings.catch_warnings():  # that its development has ended
            warnings.simplefilter("ignore")
            import tensorflow_addons as addons
    except ImportError as error:
        raise ValueError(
            f"train.optimizer=@{name}: it is tensorflow-addons', which is not installed here "
            "(bin/train --stack=addons has it); use one of Keras', such as @AdamW or @Lion."
        ) from error
    return addons.optimizers


# ---- schedules ---------------------------------------------------------------------------------


@registration.configurable
def piecewise(
    learning_rate: float,
    steps_per_epoch: int,
    epochs: int,
    boundaries: Sequence[float] = (),
    factor: float = 0.1,
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Multiplies the rate by `factor` at the beginning of each epoch of `boundaries`.

    Args:
      learning_rate: at the start, > 0.
      steps_per_epoch: >= 1.
      epochs: of the run; any number does.
      boundaries: epochs, counted from 0, fractions allowed, > 0 and ascending; with none the rate
        is constant.
      factor: > 0.

    Raises:
      ValueError: an argument out of its range.
    """
    check_number("piecewise", "learning_rate", learning_rate, 0.0, "0.1 is usual", strict=True)
    check_whole("piecewise", "steps_per_epoch", steps_per_epoch, 1)
    check_number("piecewise", "factor", factor, 0.0, "0.1 is usual", strict=True)
    if isinstance(boundaries, (tuple, list, np.ndarray)):
        boundaries = tuple(plain(boundary) for boundary in boundaries)
    numbers = isinstance(boundaries, (tuple, list)) and all(
        isinstance(b, (int, float)) for b in boundaries
    )
    if not numbers or list(boundaries) != sorted(boundaries) or min(boundaries, default=1) <= 0:
        raise ValueError(
            f"piecewise(boundaries={boundaries!r}): must be ascending epochs > 0, e.g. (55, 75, "
            "90)."
        )
    # Keras changes the rate after its boundary, a step. Products in float32, as on the device.
    firsts = [math.ceil(boundary * steps_per_epoch - 1e-6) for boundary in boundaries]
    steps, values = [max(first - 1, 0) for first in firsts], [np.float32(learning_rate)]
    for _ in boundaries:
        values.append(values[-1] * np.float32(factor))
    if not boundaries:  # Keras needs one
        steps, values = [0], values * 2
    return keras.optimizers.schedules.PiecewiseConstantDecay(steps, [float(v) for v in values])


@registration.configurable
def cosine(
    learning_rate: float, steps_per_epoch: int, epochs: int
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Half a cosine from the rate to 0 over all epochs."""
    check_number("cosine", "learning_rate", learning_rate, 0.0, "0.1 is usual", strict=True)
    check_whole("cosine", "steps_per_epoch", steps_per_epoch, 1)
    check_whole("cosine", "epochs", epochs, 1)
    return keras.optimizers.schedules.CosineDecay(learning_rate, steps_per_epoch * epochs)


@registration.serializable
class Polyline(keras.optimizers.schedules.LearningRateSchedule):
    """A rate along straight lines between points; see `polyline`.

    Args:
      steps: of the points, ascending; of two that are equal the rate jumps from one to the other.
      rates: at these steps.
    """

    def __init__(self, steps: Sequence[float], rates: Sequence[float]):
        self.steps, self.rates = [float(step) for step in steps], [float(rate) for rate in rates]

    def __call__(self, step: Any) -> tf.Tensor:
        at = tf.cast(step, tf.float32)
        steps, rates = tf.constant(self.steps), tf.constant(self.rates)
        # The last point at or before the step begins its line.
        reached = tf.reduce_sum(tf.cast(at >= steps, tf.int32))
        begin, end = tf.maximum(reached - 1, 0), tf.minimum(reached, len(self.steps) - 1)
        first, length = tf.gather(steps, begin), tf.gather(steps, end) - tf.gather(steps, begin)
        part = tf.clip_by_value((at - first) / tf.maximum(length, 1e-6), 0.0, 1.0)
        below, above = tf.gather(rates, begin), tf.gather(rates, end)
        return below + (above - below) * part

    def get_config(self) -> dict[str, Any]:
        return {"steps": self.steps, "rates": self.rates}


@registration.configurable
def polyline(
    learning_rate: float,
    steps_per_epoch: int,
    epochs: int,
    points: Sequence[Sequence[float]] = ((0, 0), (0.5, 1), (1, 0)),
) -> keras.optimizers.schedules.LearningRateSchedule:
    """A rate that goes along straight lines, update by update: 0, up, and down again by default.

    Args:
      learning_rate: what the rates of `points` are parts of, > 0.
      steps_per_epoch: >= 1.
      epochs: of the run, >= 1.
      points: two or more of (part of the run in [0, 1], ascending from 0 to 1; part of
        `learning_rate`, >= 0). Of two at the same place the rate jumps from one to the other. As
        parts they fit a run of any length: `(20 / 50, 1)` is the peak after 20 of 50 epochs.

    Raises:
      ValueError: an argument out of its range.

    Source: the cyclic rates of Smith (2017), as single-step programs have them (Wong et al., 2020).
    """
    check_number("polyline", "learning_rate", learning_rate, 0.0, "0.2 is Wong's", strict=True)
    check_whole("polyline", "steps_per_epoch", steps_per_epoch, 1)
    check_whole("polyline", "epochs", epochs, 1)
    pairs = isinstance(points, (tuple, list)) and len(points) > 1
    pairs = pairs and all(isinstance(p, (tuple, list)) and len(p) == 2 for p in points)
    numbers = [tuple(map(plain, point)) for point in points] if pairs else []
    known = bool(numbers) and all(
        isinstance(n, (int, float)) and n >= 0 for p in numbers for n in p
    )
    places = [point[0] for point in numbers]
    if not known or places != sorted(places) or (places[0], places[-1]) != (0, 1):
        raise ValueError(
            f"polyline(points={points!r}): must be pairs of parts of the run, ascending from 0 to "
            "1, and parts of the rate >= 0, e.g. ((0, 0), (1 / 2, 1), (1, 0))."
        )
    total = steps_per_epoch * epochs
    return Polyline([total * p for p in places], [learning_rate * part for _, part in numbers])


@registration.serializable
class EpochSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """What `.keras` files of version 0.1 name as schedule; it is read as one of Keras'."""

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> keras.optimizers.schedules.LearningRateSchedule:
        """The schedule of these arguments, of `piecewise` or `cosine`."""
        rate, steps = config["learning_rate"], config["steps_per_epoch"]
        if config["cosine_epochs"]:
            return cosine(rate, steps, int(config["cosine_epochs"]))
        return piecewise(rate, steps, 0, config["boundaries"], config["factor"])
