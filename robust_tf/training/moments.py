"""When a run saves in the middle of an epoch and when it stops, alike on all workers."""

from __future__ import annotations

import signal
import time
from typing import NamedTuple

import tensorflow as tf

from robust_tf import stopping
from robust_tf.training.checkpoints import Progress
from robust_tf.training.distribution import is_chief

SECONDS = 1.0  # between two votes of several workers, about
_MOST_CALLS = 100  # between them, at most


class Moment(NamedTuple):
    """What is due: a checkpoint, an end by a signal (its number)."""

    save: bool
    stop: int | None


class Moments:
    """Tells what is due after each call of the compiled loop.

    One process goes by its clock and its signals. Several workers must save and stop at the same
    step, and have a clock and signals each: they add up what they have to say, about once a second,
    and the chief's clock decides when to save and after how many calls they vote again. A signal to
    any worker stops all.

    Args:
      strategy: of the run.
      minutes: between checkpoints inside an epoch, >= 0.
    """

    def __init__(self, strategy: tf.distribute.Strategy, minutes: float):
        self._minutes = minutes
        several = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
        self._votes = _Votes(strategy) if several else None
        self._left = 1  # calls to the next vote
        self._saved = time.monotonic()

    def lap(self) -> float:
        """Seconds since the last lap, or the beginning: of an epoch, or after a checkpoint."""
        now = time.monotonic()
        seconds, self._saved = now - self._saved, now
        return seconds

    def look(self, end: bool = False) -> Moment:
        """What is due.

        Args:
          end: an epoch has ended, where workers vote whatever they agreed on.
        """
        save = time.monotonic() - self._saved > 60 * self._minutes
        if self._votes is None:
            return Moment(save, stopping.asked())
        self._left -= 1
        if self._left > 0 and not end:
            return Moment(False, None)
        moment, self._left = self._votes.ask(Moment(save, stopping.asked()))
        if self._minutes == 0:
            self._left = 1
        return moment


def stopped(
    number: int, progress: Progress, steps: int, epochs: int, run_dir: str
) -> stopping.Stopped:
    """The end of a run by a signal: says where the run stands.

    Args:
      number: of the signal.
      progress: as it was saved.
      steps: of an epoch.
      epochs: of the run.
      run_dir: its folder.
    """
    epoch, step = int(progress.epoch.numpy()), int(progress.step_in_epoch.numpy())
    inside = f"in epoch {epoch + 1} after {step} of its {steps} steps"
    where = inside if step else f"after epoch {epoch} of {epochs}"
    return stopping.Stopped(
        number,
        f"{signal.Signals(number).name}: saved {where} in {run_dir}; the same command continues.",
    )


class _Votes:
    """The workers' way to say something to each other: the sum of what all say."""

    def __init__(self, strategy: tf.distribute.Strategy):
        self._chief = is_chief(strategy)
        self._replicas = len(strategy.extended.worker_devices)  # of this worker, which all speak

        @tf.function(autograph=False)
        def total(mine: tf.Tensor) -> tf.Tensor:
            said = strategy.run(lambda: tf.identity(mine))
            return strategy.reduce(tf.distribute.ReduceOp.SUM, said, axis=None)

        self._total = total
        self._last, self._calls = time.monotonic(), 1

    def ask(self, mine: Moment) -> tuple[Moment, int]:
        """What is due for all, and the calls to the next vote."""
        now = time.monotonic()
        calls = SECONDS * self._calls / max(now - self._last, 1e-3)
        own = [mine.stop == signal.SIGINT, mine.stop == signal.SIGTERM]
        chiefs = [mine.save, min(max(int(calls), 1), _MOST_CALLS)] if self._chief else [0, 0]
        mean = self._total(tf.constant([*own, *chiefs], tf.float32)).numpy() / self._replicas
        self._last, self._calls = now, max(round(float(mean[3])), 1)
        stop = signal.SIGTERM if mean[1] > 0 else signal.SIGINT if mean[0] > 0 else None
        return Moment(bool(mean[2] > 0), stop), self._calls
