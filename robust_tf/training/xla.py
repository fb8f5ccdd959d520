"""Whether a run's attack, forward and backward are compiled by XLA: timed when the run begins.

XLA is often faster on a GPU; on a CPU its convolutions are mostly several times slower. What it
compiles has fixed shapes, so that a batch of another size is compiled again; a step that cannot be
compiled, such as one with an attack whose active set shrinks, runs as the plain graph. From a seed
XLA draws other numbers: also for that a run that is continued keeps its choice.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from robust_tf import compat, files, precision
from robust_tf.device import device_in_words
from robust_tf.methods import RobustModel
from robust_tf.training.distribution import all_agree, is_lost

ASKED = ("off", "auto", "on")
# Rounds in which each of the two runs a step, and seconds after which no other begins.
ROUNDS, LIMIT = 5, 20.0


@dataclasses.dataclass(frozen=True)
class Choice:
    """Whether XLA compiles, and why.

    Attributes:
      asked: 'off', 'auto' or 'on'.
      chosen: 'off' or 'on'.
      reason: a clause for the record of a run.
      factor: seconds of a step by XLA / seconds of one by the plain graph; None if not measured.
    """

    asked: str
    chosen: str
    reason: str = "named"
    factor: float | None = None

    def to_json(self) -> dict[str, Any]:
        """For `run.json`: asked, chosen, factor, reason."""
        factor = None if self.factor is None else round(self.factor, 3)
        return {**dataclasses.asdict(self), "factor": factor}


def check_asked(asked: Any) -> None:
    """Raises ValueError for another word than `train.xla` may be."""
    if asked not in ASKED:
        raise ValueError(
            f"train.xla={asked!r}: must be 'off', 'auto' (the faster of XLA and the plain graph on "
            "this device) or 'on'."
        )


def keep(record: Mapping[str, Any]) -> Choice:
    """The choice of a run that is continued, whatever this device would choose.

    Args:
      record: what `Choice.to_json` gave when the run began.

    Raises:
      ValueError: it is none.
    """
    try:
        choice = Choice(*(record[key] for key in ("asked", "chosen", "reason", "factor")))
    except (KeyError, TypeError) as error:
        raise ValueError(f"xla={record!r}: is no record of a choice of XLA.") from error
    if choice.asked not in ASKED or choice.chosen not in ("off", "on"):
        raise ValueError(f"xla={record!r}: is no record of a choice of XLA.")
    return choice


def decide(
    asked: str,
    earlier: Mapping[str, Any] | None,
    model: RobustModel,
    strategy: tf.distribute.Strategy,
    batch: Any,
) -> Choice:
    """Chooses, and has the steps of the model that are traced from now on computed so.

    'auto' takes the faster of the two, 'on' XLA if the step can be compiled; weights, optimizer and
    counters are afterwards what they were. All workers choose the same.

    Args:
      asked: `train.xla`.
      earlier: the record of a run that is continued, which keeps its choice; None of a new one.
      model: compiled.
      strategy: under which it was built.
      batch: () -> a training batch, distributed.

    Raises:
      ValueError: see `check_asked`, `keep`.
    """
    check_asked(asked)
    if earlier is not None:
        choice = keep(earlier)
    elif asked == "off":
        choice = Choice(asked, "off")
    else:
        choice = _tried(asked, model, strategy, batch())
        if not all_agree(strategy, choice.chosen == "on") and choice.chosen == "on":
            choice = dataclasses.replace(
                choice, chosen="off", reason=f"another worker's is off; here {choice.reason}"
            )
    _set(model, choice.chosen == "on")
    return choice


def _tried(asked: str, model: RobustModel, strategy: tf.distribute.Strategy, batch: Any) -> Choice:
    """By steps on a batch, which are undone."""
    variables = _variables(model)
    values = [tf.identity(tf.convert_to_tensor(variable)) for variable in variables]
    try:
        compiled = _step(model, strategy, batch, xla=True)
        if asked == "on":
            return Choice(asked, "on")
        plain = _step(model, strategy, batch, xla=False)
        # Workers take each step together: as many of them on each, whatever its clock says.
        several = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
        limit = math.inf if several else LIMIT
        seconds = precision.fastest({"plain": plain, "xla": compiled}, ROUNDS, limit)
    except (tf.errors.OpError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, tf.errors.ResourceExhaustedError) or is_lost(error):
            raise
        reason = f"XLA cannot compile this step: {files.reason(error)}"
        warnings.warn(f"train.xla={asked!r}: {reason}; it runs as the plain graph.", stacklevel=4)
        return Choice(asked, "off", reason)
    finally:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        for metric in model.step_metrics.values():
            metric.reset_state()
    factor = seconds["xla"] / seconds["plain"]
    reason = (
        f"measured: a step by XLA takes {factor:.2g} times as long as one by the plain graph on "
        f"{device_in_words()}"
    )
    return Choice(asked, "on" if factor < 1 else "off", reason, factor)


def _step(model: RobustModel, strategy: tf.distribute.Strategy, batch: Any, xla: bool) -> Any:
    """A step as a function without arguments, traced and compiled."""
    _set(model, xla)

    @tf.function(autograph=False)
    def step(batch: Any) -> Any:
        return strategy.run(model.train_step, args=(batch,))

    def run() -> None:
        for value in tf.nest.flatten(step(batch)):
            for local in strategy.experimental_local_results(value):
                local.numpy()

    run()
    return run


def _set(model: RobustModel, xla: bool) -> None:
    execution = dataclasses.replace(model.settings.execution, xla=xla)
    model.settings = dataclasses.replace(model.settings, execution=execution)


def _variables(model: RobustModel) -> list[tf.Variable]:
    """All that a step changes, but for the metrics."""
    averaged = [] if model.averaged is None else [model.averaged]
    models = [model.network, *averaged, *model.auxiliary_models().values()]
    others = [optimizer for optimizer, _ in model.auxiliary_optimizers().values()]
    owned = [v for one in models for v in one.variables]
    owned += [v for one in (model.optimizer, *others) for v in compat.optimizer_variables(one)]
    counters = [v for v in vars(model.counters).values() if isinstance(v, tf.Variable)]
    return [*map(compat.raw, owned), *counters]
