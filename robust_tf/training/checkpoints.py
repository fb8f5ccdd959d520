"""Checkpoints from which a run continues as if it had never stopped."""

from __future__ import annotations

import os
from typing import Any

import tensorflow as tf

from robust_tf import compat
from robust_tf.methods import RobustModel


class Progress(tf.Module):
    """Where a run stands; float64 so that a metric survives the round trip."""

    def __init__(self) -> None:
        super().__init__()
        self.epoch = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.step_in_epoch = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.best_accuracy = tf.Variable(-1.0, dtype=tf.float64, trainable=False)
        self.best_epoch = tf.Variable(-1, dtype=tf.int64, trainable=False)
        self.seconds = tf.Variable(0.0, dtype=tf.float64, trainable=False)


class Checkpoints:
    """`last` (model, optimiser, running metrics, progress) and `best` (network) of a run.

    Random state needs no saving: data order, noise and dropout masks are functions of
    (seed, epoch, step).

    Args:
      folder: may be a bucket.
      model: built and compiled.
      chief: whether this process writes where others read; the others write beside it, as
        `MultiWorkerMirroredStrategy` wants every worker to take part in a save.
    """

    def __init__(self, folder: str, model: RobustModel, chief: bool = True):
        self.progress = Progress()
        optimizer = model.optimizer.variables
        optimizer = optimizer() if callable(optimizer) else optimizer
        metrics = [v for metric in model.metrics for v in metric.variables]
        # Lists of plain variables: the same layout under both Keras, whatever wraps them.
        self._last = tf.train.Checkpoint(
            network=_plain(model.network.variables),
            optimizer=_plain(optimizer),
            metrics=_plain(metrics),
            progress=self.progress,
        )
        self._best = tf.train.Checkpoint(network=_plain(model.network.variables))
        if not chief:
            folder = os.path.join(folder, "workers", str(os.getpid()))
        self._last_manager = tf.train.CheckpointManager(self._last, os.path.join(folder, "last"), 2)
        self._best_manager = tf.train.CheckpointManager(self._best, os.path.join(folder, "best"), 1)

    def save_last(self) -> None:
        """Saves everything; the one before is kept until this one is complete."""
        self._last_manager.save(self._step())

    def save_best(self) -> None:
        """Saves the network as the best so far."""
        self._best_manager.save(self._step())

    def restore_last(self) -> bool:
        """Restores the newest complete checkpoint; False where there is none."""
        path = self._last_manager.latest_checkpoint
        if path:
            self._last.restore(path).assert_consumed()
        return bool(path)

    def restore_best(self) -> bool:
        """Loads the best network into the model; False where there is none."""
        path = self._best_manager.latest_checkpoint
        if path:
            self._best.restore(path).assert_existing_objects_matched().expect_partial()
        return bool(path)

    @property
    def last_path(self) -> str:
        """Of the newest checkpoint, or 'none'."""
        return self._last_manager.latest_checkpoint or "none"

    def _step(self) -> int:
        progress = self.progress
        return int(progress.epoch.numpy()) * 10**6 + int(progress.step_in_epoch.numpy())


def _plain(variables: list[Any]) -> list[tf.Variable]:
    return [compat.raw(variable) for variable in variables]
