"""Trains a recipe in a run folder: resumable, distributed, reported."""

from __future__ import annotations

import contextlib
import os
import time
import warnings
from typing import Any

import gin
import keras
import tensorflow as tf

from robust_tf import data, files, runs, stopping
from robust_tf.training import finalize, hparams, readback, run_folder, validation, xla
from robust_tf.training.batches import TrainingBatches
from robust_tf.training.checkpoints import Checkpoints
from robust_tf.training.distribution import (
    agreed_precision,
    barrier,
    is_chief,
    spans_replicas,
)
from robust_tf.training.freezing import Frozen
from robust_tf.training.local_models import LocalModels
from robust_tf.training.loop import Loop
from robust_tf.training.moments import Moments, stopped
from robust_tf.training.nonfinite import FiniteCheck
from robust_tf.training.recipe import Recipe, check_dataset
from robust_tf.training.reporting import Reporter
from robust_tf.training.run_guard import ROLLBACK, STOP, RunGuard, note_idle
from robust_tf.training.validation import Validation


class Trainer:
    """One run of a recipe.

    Under `MultiWorkerMirroredStrategy` every worker makes one, with the same arguments and a folder
    that all can read; the chief alone writes and evaluates.

    Args:
      recipe: what to train.
      dataset: on what.
      run_dir: folder of the run, may be a bucket; made if absent.
      strategy: under which.
      configuration: text that must be equal for a run to be continued (the recipe's gin bindings).
      restart: deletes what an earlier run wrote in the folder; other files stay.

    Attributes:
      model: compiled; as it was where the run stopped, if it is continued.
      resumed: whether it is.
      finished: whether nothing is left to do but to read the summary.
      batches: of the training.
      progress: epoch, step and best accuracy so far.
      collapsed: whether the network predicted one class alone at the end of an epoch.
      precision: what the network computes in, and why; a run that is continued keeps it.
      xla: whether XLA compiles its steps, and why; a run that is continued keeps it.
      record: what `run.json` says of the run.

    Raises:
      RunFolderError: the folder cannot be written, or holds a run of another configuration.
      CheckpointError: the run's checkpoint cannot be read.
      ValueError: data that the model cannot be trained on, a batch that cannot be shared equally.
      DataError: images of a new run that cannot be read, all of them.
      ReadBackError: a new run's model could be saved, but not read back.
    """

    def __init__(
        self,
        recipe: Recipe,
        dataset: data.Data,
        run_dir: str,
        strategy: tf.distribute.Strategy,
        configuration: str = "",
        restart: bool = False,
    ):
        self.recipe, self.dataset, self.run_dir, self.strategy = recipe, dataset, run_dir, strategy
        self.chief = is_chief(strategy)
        self.steps = data.steps_per_epoch(dataset.train, recipe.batch_size)
        check_dataset(dataset)
        validation.check(recipe, dataset)
        self.batches = TrainingBatches(recipe, dataset, strategy)
        self.batches.of(0, 0)  # what cannot be batched is refused before there is a folder
        fresh = restart or not files.exists(os.path.join(run_dir, "checkpoints"))
        if fresh:
            dataset.check()  # what cannot be read is listed now, not in the middle of an epoch
        identity = run_folder.identity(dataset, configuration)
        earlier = {} if restart else run_folder.record(run_dir, identity)
        self.precision = agreed_precision(strategy, recipe.dtype_policy, earlier)
        self.model = recipe.build(dataset, strategy, self.precision)
        note_idle(recipe, self.model)
        self._local = LocalModels(self.model, strategy)
        if fresh:
            spread = spans_replicas(strategy)
            readback.check(self.model, dataset.image_shape, recipe.attacks(), spread)
        # Only now, so that the optimizer has its slots for what is trained later, too.
        self.frozen = None if recipe.frozen is None else self._freeze(recipe.frozen)
        self.claim = run_folder.Claim(run_dir, self.chief)
        if self.chief:
            run_folder.prepare(run_dir, identity, restart, self.model.auxiliary_models())
        barrier(strategy)
        run_folder.check(run_dir, identity)
        self.xla = xla.decide(
            recipe.xla, earlier.get("xla"), self.model, strategy, lambda: self.batches.one
        )
        self.loop = Loop(self.model, strategy)
        self.checkpoints = Checkpoints(os.path.join(run_dir, "checkpoints"), self.model, self.chief)
        self.finite = FiniteCheck(self.checkpoints, self.loop.watched)
        self.progress = self.checkpoints.progress
        where = (self.checkpoints, run_dir, self.chief)
        self.guard = RunGuard(recipe, self.model, dataset, strategy, *where)
        self.moments = Moments(strategy, recipe.checkpoint_minutes)
        self.resumed = self.checkpoints.restore_last()
        self.guard.restored()
        self._freeze_in(int(self.progress.epoch.numpy()))
        self.configuration = gin.operative_config_str() or configuration
        about = (self.precision.to_json(), self.guard.settings, self.xla.to_json())
        self.record = runs.describe(recipe, self.model, dataset, *about)
        if self.chief:
            files.write_text(os.path.join(run_dir, "config.gin"), self.configuration)
            files.write_json(os.path.join(run_dir, runs.RECORD), self.record)
        self._summary = os.path.join(run_dir, "summary.json")
        self.finished = self.over and finalize.is_finished(run_dir)
        self._validation = Validation(dataset, self.batches, self.checkpoints, self.chief)
        barrier(strategy)  # all have looked before the chief writes

    def _freeze(self, until: str) -> Frozen:
        averaged = [] if self.model.averaged is None else [self.model.averaged]
        return Frozen([self.model.network, *averaged], until)

    def _freeze_in(self, epoch: int) -> None:
        """Has all layers trained from `train.unfreeze_epoch` on, and not before."""
        at = self.recipe.unfreeze_epoch
        frozen = at is None or epoch < at
        if self.frozen is not None and self.frozen.on != frozen:
            self.frozen.turn(frozen)
            self.loop = Loop(self.model, self.strategy)
            self._local = LocalModels(self.model, self.strategy)

    def train(self) -> dict[str, Any]:
        """Trains to the last epoch, evaluates, writes `model.keras` and `summary.json`.

        Returns:
          The summary; that of the run as it was, where it had been finished.

        Raises:
          NonFiniteLossError: names the term, the step and the last good checkpoint.
          Stopped: SIGINT or SIGTERM came, on any worker; where the run stood is saved. Outside of
            the epochs nothing is to be saved, and a signal ends what is done at once.
          CheckpointError, FileError: full disk, or whatever else the file system says.
        """
        with self.claim:
            return files.read_json(self._summary) if self.finished else self._train()

    def _train(self) -> dict[str, Any]:
        if not self.resumed:
            self.checkpoints.save_last()
        self.guard.begin()
        start = int(self.progress.epoch.numpy())
        reporter = Reporter(self.run_dir, self.recipe.epochs, start, self.chief)
        if self.chief:
            hparams.write_start(self.run_dir, hparams.hparams_of(self.record))
        with contextlib.closing(reporter), stopping.deferred():
            batches = None
            while not self.over:
                batches = batches or iter(self.batches.rest(self.progress))
                if not self._epoch(int(self.progress.epoch.numpy()), batches, reporter):
                    batches = None
        self.loop.refresh(self.batches.of(self.recipe.epochs, 0))
        models = self._local.as_they_are()
        if self.chief:
            self._finish(models)
        barrier(self.strategy)
        return files.read_json(self._summary)

    @property
    def collapsed(self) -> bool:
        """Whether the network predicted one class alone at the end of an epoch."""
        return self._validation.collapsed

    @property
    def over(self) -> bool:
        """Whether all epochs are done, the guard has ended the run, or patience has."""
        done, best = int(self.progress.epoch.numpy()), int(self.progress.best_epoch.numpy())
        validated = done - done % self.recipe.validate_every
        patience = self.recipe.patience
        lost = patience is not None and best > 0 and validated - best >= patience
        return done >= self.recipe.epochs or lost or self.guard.stopped

    def _epoch(self, epoch: int, batches: Any, reporter: Reporter) -> bool:
        """Trains the rest of an epoch; False where the guard has gone back to an earlier step."""
        recipe, progress = self.recipe, self.progress
        self._freeze_in(epoch)
        done = int(progress.step_in_epoch.numpy())
        if done == 0:
            self.loop.reset()
        reporter.open_epoch(epoch, self.steps, done, recipe.batch_size)
        began, first = time.monotonic(), done
        metrics = {} if done < self.steps else self.loop.train_metrics()
        self.moments.lap()
        while done < self.steps:
            step = epoch * self.steps + done
            count = min(recipe.steps_per_call, self.steps - done, self.guard.to_next(step))
            good, finite = self.loop.train(batches, tf.constant(count))
            if int(good) < count:
                self.finite.raise_for_loss(finite, epoch * self.steps + done + int(good) + 1)
            metrics = self.loop.train_metrics()
            done += count
            progress.step_in_epoch.assign(done)
            reporter.advance(count * recipe.batch_size, metrics)
            action = self.guard.look(step + count, epoch, reporter)
            if action == STOP:
                break
            if action == ROLLBACK:
                progress.seconds.assign_add(self.moments.lap())
                self._roll_back(reporter)
                return False
            due = self.moments.look()
            if due.stop or (due.save and done < self.steps):
                progress.seconds.assign_add(self.moments.lap())
                self._save_last(epoch * self.steps + done)
            self._stop_if(due.stop)
        seconds = max(time.monotonic() - began, 1e-9)
        progress.seconds.assign_add(self.moments.lap())
        step = epoch * self.steps + done
        row = {"epoch": epoch + 1, "step": step, **metrics, **self.guard.metrics(epoch)}
        if done > first:  # not where a run was stopped after the epoch's last step
            row["images_per_second"] = (done - first) * recipe.batch_size / seconds
        row["learning_rate"] = self.loop.learning_rate()
        self.finite.check_weights(step)
        last = epoch + 1 == recipe.epochs or self.guard.stopped
        if last or (epoch + 1) % recipe.validate_every == 0:
            row.update(self._validation.run(self.loop, epoch))
        if "collapsed" not in row:
            row["collapsed"] = self._validation.collapsed_in_training(self.loop)
        progress.epoch.assign(epoch + 1)
        progress.step_in_epoch.assign(0)
        reporter.close_epoch(row)
        for found in self.model.diagnose(metrics) if self.chief else ():
            warnings.warn(f"epoch {epoch + 1}: {found}", stacklevel=2)
        self._show_images(reporter, epoch, step)
        self._save_last(step)
        self._stop_if(self.moments.look(end=True).stop)
        return True

    def _stop_if(self, number: int | None) -> None:
        """Ends by a signal, where there was one; what is to be saved is."""
        if number is None:
            return
        barrier(self.strategy)  # no worker goes while the chief writes
        raise stopped(number, self.progress, self.steps, self.recipe.epochs, self.run_dir)

    def _roll_back(self, reporter: Reporter) -> None:
        """Trains on from the last good checkpoint, with another attack, in the same order."""
        barrier(self.strategy)  # all have looked before one reads
        self.guard.roll_back()
        self.loop = Loop(self.model, self.strategy)
        epoch = int(self.progress.epoch.numpy())
        reporter.go_back(epoch)
        self._freeze_in(epoch)
        self.checkpoints.save_last()

    def _save_last(self, step: int) -> None:
        self.finite.check_weights(step)
        self.claim.check()
        self.guard.flush()
        self.checkpoints.save_last()

    def _show_images(self, reporter: Reporter, epoch: int, step: int) -> None:
        if epoch == 0:
            reporter.text("configuration", self.configuration)
        split, attack = self.dataset.validation, self.recipe.validation_attack
        if len(split) and attack is not None:
            network = self._local.as_they_are()["model"]
            if self.chief:
                x, y = next(iter(data.batches(split.take(8), 8)))
                reporter.images("clean", x, step)
                reporter.images("adversarial", attack(network, x, y), step)

    def _finish(self, models: dict[str, keras.Model]) -> None:
        """Saves the models, evaluates on the test images, writes the summary."""
        select = finalize.selected(self.recipe, self.progress, self.guard.stopped)
        finalize.save_models(self.run_dir, models, self.checkpoints, select)
        about = {
            "method": type(self.model).__name__,
            "weights": self.model.term_weights,
            "configuration": self.configuration,
            "precision": self.precision.to_json(),
            "best_epoch": int(self.progress.best_epoch.numpy()),
            "best_validation_accuracy": float(self.progress.best_accuracy.numpy()),
            "training_seconds": float(self.progress.seconds.numpy()),
            "selected": select,
        }
        guard = self.guard.summary()
        about |= {} if guard is None else {"guard": guard}
        network = models["model"]
        summary = finalize.summary(self.recipe, self.dataset, network, about)
        hparams.write_end(self.run_dir, summary)
        files.write_json(self._summary, summary)  # last: a run with a summary is finished
