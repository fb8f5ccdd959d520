"""Checkpoints from which a run continues as if it had never stopped."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import tempfile
import warnings
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from robust_tf import compat, files
from robust_tf.methods import RobustModel
from robust_tf.training import checkpoint_files
from robust_tf.training.distribution import is_lost
from robust_tf.training.guard import GuardState

# How many checkpoints of each kind are kept: of the newest one more, should it be damaged.
KEPT = {"last": 2, "best": 1, "good": 1}


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
        self._folder, self._chief = folder, chief
        self._several = _of_workers(self._parts["network"])
        if not chief:
            folder = tempfile.mkdtemp(prefix="robust_tf_worker_")
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
        self._own_folder = folder
        self._managers: dict[str, tf.train.CheckpointManager] = {}

    def _manager(self, which: str) -> tf.train.CheckpointManager:
        """That of 'last', 'best' or 'good', made when it first saves: it reads what is there."""
        if which not in self._managers:
            folder, kept = os.path.join(self._own_folder, which), KEPT[which]
            checkpoint_files.tidy(folder, kept)
            saved = self._best if which == "best" else self._last
            self._managers[which] = tf.train.CheckpointManager(saved, folder, kept)
        return self._managers[which]

    def save_last(self) -> None:
        """Saves everything; the one before is kept until this one is complete.

        Raises:
          CheckpointError: full disk, or whatever else the file system says.
        """
        self._save("last")

    def save_best(self) -> None:
        """Saves the network as the best so far.

        Raises:
          CheckpointError: see `save_last`.
        """
        self._save("best")

    def save_good(self) -> None:
        """Saves everything as what `restore_good` goes back to.

        Raises:
          CheckpointError: see `save_last`.
        """
        self._save("good")

    def restore_last(self) -> bool:
        """Restores the newest checkpoint that can be read; False where there is none.

        One that is damaged is deleted, with a warning, if the one before it is not, or if it is
        the only one and of the beginning, where nothing had been learned yet.

        Raises:
          CheckpointError: none can be read: they are damaged, or another version wrote them.
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
        return bool(self._paths("good"))

    def _restore_all(self, which: str) -> bool:
        paths = self._paths(which)
        damaged: list[str] = []
        for path in paths:
            try:
                self._restore(path, functools.partial(self._restore_parts, path))
            except CheckpointError as error:
                passing = isinstance(error.__cause__, checkpoint_files.PASSING)
                beginning = len(paths) == 1 and _of_beginning(which, path, error)
                if passing or (path == paths[-1] and not beginning):
                    raise
                damaged.append(str(error.__cause__ and files.reason(error.__cause__)))
                continue
            self._delete(paths[: len(damaged)], damaged, f"goes on from the one before it, {path}")
            return True
        self._delete(paths, damaged, "begins, as nothing had been learned before it")
        return False

    def _delete(self, paths: Sequence[str], reasons: Sequence[str], what: str) -> None:
        if not paths or not self._chief:
            return
        warnings.warn(
            f"the checkpoint {paths[0]} is damaged ({reasons[0]}) and was deleted; the run {what}.",
            stacklevel=5,
        )
        for path in paths:
            checkpoint_files.delete(path)

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
        path = next(iter(self._paths("best")), None)
        if path:
            best = tf.train.Checkpoint(network=_plain(models))
            self._restore(path, lambda: best.restore(path).assert_existing_objects_matched())
        return bool(path)

    @property
    def last_path(self) -> str:
        """Of the newest checkpoint, or 'none'."""
        return next(iter(self._paths("last")), "none")

    def finite(self) -> bool:
        """Whether all that a checkpoint would hold is made of numbers."""
        saved = [*self._parts["network"], *self._parts["optimizer"]]
        values = [tf.convert_to_tensor(v) for v in saved if v.dtype.is_floating]
        return all(bool(tf.reduce_all(tf.math.is_finite(value))) for value in values)

    def _paths(self, which: str) -> list[str]:
        """The checkpoints of 'last', 'best' or 'good', the newest first."""
        return checkpoint_files.newest_first(os.path.join(self._folder, which))

    def _save(self, which: str) -> None:
        try:
            self._manager(which).save(self._step())
        except (tf.errors.OpError, OSError) as error:
            if self._several and is_lost(error):
                raise  # another worker is gone
            folder = os.path.join(self._own_folder, which)
            checkpoint_files.delete_unlisted(folder, self._step())
            raise CheckpointError(
                f"cannot write a checkpoint to {folder}: {files.reason(error)}. Mend that, then "
                "give the same command again: the run continues from "
                f"{self.last_path}."
            ) from error

    @staticmethod
    def _restore(path: str, restore: Any) -> None:
        try:
            restore()
        except (tf.errors.OpError, OSError, AssertionError, ValueError, IndexError) as error:
            what = "It is damaged, or was written by another version; put it back as it was, or "
            way = f"{what}start the run anew with --restart."
            if isinstance(error, checkpoint_files.PASSING):
                way = "Mend that, then give the same command again."
            raise CheckpointError(
                f"the checkpoint {path} cannot be read: {files.reason(error)}. {way}"
            ) from error

    def _step(self) -> int:
        progress = self.progress
        return int(progress.epoch.numpy()) * 10**6 + int(progress.step_in_epoch.numpy())


def _of_beginning(which: str, path: str, error: CheckpointError) -> bool:
    """Whether what is damaged, not of another version, was saved before the first step."""
    other = isinstance(error.__cause__, checkpoint_files.OTHER_VERSION)
    return not other and which == "last" and checkpoint_files.number(path) == 0


def _plain(owners: Sequence[Any]) -> list[tf.Variable]:
    """The variables of models and metrics, one after the other."""
    return [compat.raw(variable) for owner in owners for variable in owner.variables]


def _of_workers(variables: Sequence[tf.Variable]) -> bool:
    """Whether variables are spread over several workers, which all take part in a save."""
    several = tf.distribute.MultiWorkerMirroredStrategy
    return any(isinstance(getattr(v, "distribute_strategy", None), several) for v in variables)
