"""Checkpoints from which a run continues as if it had never stopped."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from robust_tf import compat, files
from robust_tf.methods import RobustModel
from robust_tf.training.guard import GuardState


class CheckpointError(OSError):
    """A checkpoint that cannot be written or read; the message says what to do."""


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
    """`last` (networks, optimisers, running metrics, progress) and `best` (what is saved) of a run.

    `good` holds what `last` does, of the last step at which a guard has seen the run in order.

    Random state needs no saving: data order, noise and dropout masks are functions of
    (seed, epoch, step).

    Args:
      folder: may be a bucket.
      model: built and compiled.
      chief: whether this process writes to `folder`. The others read there, but write to a place of
        their own that goes with them: every worker takes part in a save, because it reads variables
        that are spread over the workers.
    """

    def __init__(self, folder: str, model: RobustModel, chief: bool = True):
        self.progress, self.guard = Progress(), GuardState()
        averaged = [] if model.averaged is None else [model.averaged]
        auxiliary_models = list(model.auxiliary_models().values())
        auxiliary_optimizers = [optimizer for optimizer, _ in model.auxiliary_optimizers().values()]
        # Lists of plain variables: the same layout under both Keras, whatever wraps them.
        self._parts: dict[str, Any] = {
            "network": _plain([model.network, *averaged, *auxiliary_models]),
            "optimizer": [
                compat.raw(variable)
                for optimizer in (model.optimizer, *auxiliary_optimizers)
                for variable in compat.optimizer_variables(optimizer)
            ],
            "metrics": _plain(list(model.step_metrics.values())),
            "progress": self.progress,
        }
        # Parts that checkpoints of earlier versions lack, with the beginning of their names.
        self._later = {"counters": model.counters, "guard": self.guard}
        self._last = tf.train.Checkpoint(**self._parts, **self._later)
        self._best = tf.train.Checkpoint(network=_plain([model.final_network, *auxiliary_models]))
        self._folder = folder
        if not chief:
            folder = tempfile.mkdtemp(prefix="robust_tf_worker_")
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
        self._last_manager = tf.train.CheckpointManager(self._last, os.path.join(folder, "last"), 2)
        self._best_manager = tf.train.CheckpointManager(self._best, os.path.join(folder, "best"), 1)
        self._good_manager = tf.train.CheckpointManager(self._last, os.path.join(folder, "good"), 1)

    def save_last(self) -> None:
        """Saves everything; the one before is kept until this one is complete.

        Raises:
          CheckpointError: full disk, or whatever else the file system says.
        """
        self._save(self._last_manager)

    def save_best(self) -> None:
        """Saves the network as the best so far.

        Raises:
          CheckpointError: see `save_last`.
        """
        self._save(self._best_manager)

    def save_good(self) -> None:
        """Saves everything as what `restore_good` goes back to.

        Raises:
          CheckpointError: see `save_last`.
        """
        self._save(self._good_manager)

    def restore_last(self) -> bool:
        """Restores the newest complete checkpoint; False where there is none.

        Raises:
          CheckpointError: it is damaged, or another version of this library wrote it.
        """
        return self._restore_all("last")

    def restore_good(self) -> bool:
        """Restores what `save_good` saved; False where there is nothing.

        Raises:
          CheckpointError: see `restore_last`.
        """
        return self._restore_all("good")

    @property
    def has_good(self) -> bool:
        """Whether there is what `restore_good` restores."""
        return self._latest("good") is not None

    def _restore_all(self, which: str) -> bool:
        path = self._latest(which)
        if path:
            self._restore(path, lambda: self._restore_parts(path))
        return bool(path)

    def _restore_parts(self, path: str) -> None:
        """All of a checkpoint, but for the parts that one of an earlier version lacks."""
        # `tf.train.list_variables` takes a prefix in a file system without folders for a folder.
        names = tf.compat.v1.train.NewCheckpointReader(path).get_variable_to_shape_map()
        there = {
            part: value
            for part, value in self._later.items()
            if any(name.startswith(f"{part}/") for name in names)
        }
        whole = len(there) == len(self._later)
        last = self._last if whole else tf.train.Checkpoint(**self._parts, **there)
        last.restore(path).assert_consumed()

    def load_best(self, models: Sequence[keras.Model]) -> bool:
        """Loads the best checkpoint into the network and auxiliary models; False if there is none.

        Raises:
          CheckpointError: see `restore_last`.
        """
        path = self._latest("best")
        if path:
            best = tf.train.Checkpoint(network=_plain(models))
            self._restore(path, lambda: best.restore(path).assert_existing_objects_matched())
        return bool(path)

    @property
    def last_path(self) -> str:
        """Of the newest checkpoint, or 'none'."""
        return self._latest("last") or "none"

    def finite(self) -> bool:
        """Whether all that a checkpoint would hold is made of numbers."""
        saved = [*self._parts["network"], *self._parts["optimizer"]]
        values = [tf.convert_to_tensor(v) for v in saved if v.dtype.is_floating]
        return all(bool(tf.reduce_all(tf.math.is_finite(value))) for value in values)

    def _latest(self, name: str) -> str | None:
        return tf.train.latest_checkpoint(os.path.join(self._folder, name))

    def _save(self, manager: tf.train.CheckpointManager) -> None:
        try:
            manager.save(self._step())
        except (tf.errors.OpError, OSError) as error:
            if isinstance(error, (tf.errors.UnavailableError, tf.errors.AbortedError)):
                raise  # another worker is gone
            raise CheckpointError(
                f"cannot write a checkpoint to {manager.directory}: {files.reason(error)}. Mend "
                "that, then give the same command again: the run continues from "
                f"{self.last_path}."
            ) from error

    @staticmethod
    def _restore(path: str, restore: Any) -> None:
        try:
            restore()
        except (tf.errors.OpError, OSError, AssertionError, ValueError, IndexError) as error:
            raise CheckpointError(
                f"the checkpoint {path} cannot be read: {files.reason(error)}. It is damaged, or "
                "was written by another version; start the run anew with --restart."
            ) from error

    def _step(self) -> int:
        progress = self.progress
        return int(progress.epoch.numpy()) * 10**6 + int(progress.step_in_epoch.numpy())


def _plain(owners: Sequence[Any]) -> list[tf.Variable]:
    """The variables of models and metrics, one after the other."""
    return [compat.raw(variable) for owner in owners for variable in owner.variables]
