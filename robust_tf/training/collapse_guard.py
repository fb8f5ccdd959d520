"""The guard against catastrophic overfitting as a Keras callback."""

from __future__ import annotations

import warnings
from typing import Any

import keras
import numpy as np

from robust_tf.data.splits import Split
from robust_tf.methods import RobustModel
from robust_tf.training.guard import Guard, told
from robust_tf.training.overfitting import OVERFITTING, Gap
from robust_tf.validation import check_whole


class CollapseGuard(keras.callbacks.Callback):
    """Watches `fit` of a training method for catastrophic overfitting; see `training.guard`.

        guard = CollapseGuard(x_val, y_val, every=100, on_collapse="stop")
        model.fit(x, y, callbacks=[guard])

    What was measured is in `gaps`. `bin/train` can also go back to an earlier checkpoint.

    Args:
      x: held-out images, uint8, or float32 in [0, 1], (N, H, W, C).
      y: their class ids (N,).
      every: batches between checks, >= 1. A check of m images costs as much as 3.5 m / B training
        steps of a method of one step, B the batch size: with 128 images and batches of 128 4 % at
        88.
      images: how many images are attacked, at most, >= 1.
      on_collapse: 'warn', or 'stop', which ends `fit` after this batch.

    Attributes:
      gaps: by number of batches, `Gap` of each check.
      found: number of batches at which catastrophic overfitting was first found; None if never.

    Raises:
      ValueError: an argument outside its range; images or labels that do not fit; in `fit`, a model
        that is not a training method with an attack.
    """

    def __init__(
        self, x: Any, y: Any, every: int = 100, images: int = 128, on_collapse: str = "warn"
    ):
        super().__init__()
        self.every = check_whole("CollapseGuard", "every", every, 1)
        self.images = check_whole("CollapseGuard", "images", images, 1)
        if on_collapse not in ("warn", "stop"):
            raise ValueError(
                f"CollapseGuard(on_collapse={on_collapse!r}): must be 'warn' or 'stop'; going back "
                "to a checkpoint is train.on_collapse = 'rollback' of bin/train."
            )
        self.on_collapse = on_collapse
        self._split = Split(np.asarray(x), np.asarray(y))
        self.gaps: dict[int, Gap] = {}
        self.found: int | None = None
        self._guard: Guard | None = None
        self._done = self._before = 0

    def on_train_begin(self, logs: Any = None) -> None:
        if not isinstance(self.model, RobustModel) or self.model.attack is None:
            raise ValueError(
                f"CollapseGuard: {type(self.model).__name__} has no training attack; it is for "
                "fit of a method such as methods.AdversarialTraining."
            )
        if self._guard is None or self._guard.model is not self.model:
            strategy = self.model.distribute_strategy
            self._guard = Guard(self.model, self._split, self.images, self.every, strategy)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._before = -1

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        assert self._guard is not None
        done = self._done + batch - self._before  # one call may be for several batches
        due = done // self.every > self._done // self.every
        self._done, self._before = done, batch
        if not due:
            return
        best = self._guard.state["pgd"]
        verdict, gap = self._guard.check()
        self.gaps[done] = gap
        if not verdict or self._guard.state["found"]:
            self._guard.state.put(found=int(bool(verdict)))
            return
        self._guard.state.put(found=1)
        if verdict == OVERFITTING:
            self.found = done if self.found is None else self.found
        warnings.warn(told(verdict, f"batch {done}", gap, best, "held-out"), stacklevel=2)
        if verdict == OVERFITTING and self.on_collapse == "stop":
            self.model.stop_training = True
