"""Validation at the end of an epoch: accuracies, the best network, whether it has collapsed."""

from __future__ import annotations

import warnings

from robust_tf import data
from robust_tf.training.batches import TrainingBatches
from robust_tf.training.checkpoints import Checkpoints
from robust_tf.training.loop import Loop
from robust_tf.training.recipe import Recipe


def check(recipe: Recipe, dataset: data.Data) -> None:
    """Raises ValueError for a recipe that chooses by validation images where there are none."""
    if (recipe.select == "best" or recipe.patience) and not len(dataset.validation):
        raise ValueError(
            f"train.select={recipe.select!r} with train.patience={recipe.patience!r}: there "
            "are no validation images to choose by; set data.validation_size."
        )


class Validation:
    """Looks at the network on the held-out split, or for a collapse on a training batch.

    Args:
      dataset: whose validation split it is; it may be empty.
      batches: of the training, on which an averaged network has its batch statistics refreshed.
      checkpoints: keep the best network, and which epoch's it is.
      chief: whether this worker warns.

    Attributes:
      collapsed: whether the network predicted one class alone at any look.
    """

    def __init__(
        self, dataset: data.Data, batches: TrainingBatches, checkpoints: Checkpoints, chief: bool
    ):
        self._split, self._batches = dataset.validation, batches
        self._checkpoints, self._chief = checkpoints, chief
        self.collapsed = False

    def run(self, loop: Loop, epoch: int) -> dict[str, float | bool]:
        """Accuracies as `val_NAME`, and `collapsed`; {} without validation images.

        Args:
          loop: of the network.
          epoch: that has ended, from 0 on.
        """
        split = self._split
        if not len(split):
            return {}
        loop.refresh(self._batches.of(epoch, 0))
        batches = data.batches(split, min(500, len(split)))
        values, one_class = loop.test(loop.strategy.experimental_distribute_dataset(batches))
        score = values.get("robust_accuracy", values["natural_accuracy"])
        progress = self._checkpoints.progress
        if score > progress.best_accuracy.numpy():
            progress.best_accuracy.assign(score)
            progress.best_epoch.assign(epoch + 1)
            self._checkpoints.save_best()
        collapsed = self._note(one_class, f"all {len(split)} validation images")
        return {**{f"val_{name}": value for name, value in values.items()}, "collapsed": collapsed}

    def collapsed_in_training(self, loop: Loop) -> bool:
        """Whether the network gives the images of a training batch one class."""
        return self._note(loop.collapsed(self._batches.one), "all images of a training batch")

    def _note(self, one_class: int | None, images: str) -> bool:
        """Whether the network gives these images one class; warns of it once."""
        if one_class is not None and not self.collapsed and self._chief:
            warnings.warn(
                f"the network has collapsed: it predicts class {one_class} for {images}; if it "
                "does not recover, lengthen train.eps_warmup_epochs or train.term_warmup_epochs, "
                "or lower train.learning_rate, and start with --restart.",
                stacklevel=2,
            )
        self.collapsed = self.collapsed or one_class is not None
        return one_class is not None
