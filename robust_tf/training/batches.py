"""The training batches of a run, from any epoch and step on, shared among the replicas."""

from __future__ import annotations

import functools
from typing import Any

import tensorflow as tf

from robust_tf import data
from robust_tf.training.checkpoints import Progress
from robust_tf.training.distribution import distribute
from robust_tf.training.recipe import Recipe


class TrainingBatches:
    """The batches that a recipe takes of a dataset, the same ones however often it is stopped.

    Args:
      recipe: gives batch size, seed and epochs.
      dataset: whose training split it is.
      strategy: among whose replicas each batch is shared.
    """

    def __init__(self, recipe: Recipe, dataset: data.Data, strategy: tf.distribute.Strategy):
        self._recipe, self._dataset, self._strategy = recipe, dataset, strategy

    def of(self, first: int, skip: int, count: int = 1) -> Any:
        """Of so many epochs from `first` on, without the `skip` batches that are done."""

        def make(shard: tuple[int, int]) -> tf.data.Dataset:
            return data.epochs(
                self._dataset.train,
                self._recipe.batch_size,
                count,
                first=first,
                seed=self._recipe.seed,
                augmentation=self._dataset.augmentation,
                skip=skip,
                shard=shard,
                num_classes=self._dataset.num_classes,
            )

        return distribute(self._strategy, make, self._recipe.batch_size)

    def rest(self, progress: Progress) -> Any:
        """Those of the run that are not done."""
        epoch, done = int(progress.epoch.numpy()), int(progress.step_in_epoch.numpy())
        return self.of(epoch, done, self._recipe.epochs - epoch)

    @functools.cached_property
    def one(self) -> Any:
        """The first one, kept: a pipeline for each epoch's look would be traced each time."""
        return next(iter(self.of(0, 0)))
