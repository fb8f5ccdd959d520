"""Trains a recipe in a run folder: resumable, distributed, reported."""

from __future__ import annotations

import json
import os
import platform
import time
from typing import Any

import keras
import tensorflow as tf

from robust_tf import compat, data, evaluation, files
from robust_tf.attacks.base import check_values
from robust_tf.training.checkpoints import Checkpoints
from robust_tf.training.distribution import distribute, is_chief
from robust_tf.training.loop import Loop
from robust_tf.training.recipe import Recipe
from robust_tf.training.reporting import Reporter
from robust_tf.version import __version__


class NonFiniteLossError(ArithmeticError):
    """Training met a loss that is not a number."""


class RunFolderError(OSError):
    """A run folder that cannot be used."""


class Trainer:
    """One run of a recipe.

    Args:
      recipe: what to train.
      dataset: on what.
      run_dir: folder of the run, may be a bucket; made if absent.
      strategy: under which.
      configuration: text that must be equal for a run to be continued (the recipe's gin bindings).
      restart: deletes what an earlier run left in the folder.

    Raises:
      RunFolderError: the folder cannot be written, or holds a run of another configuration.
      ValueError: data that the model cannot be trained on.
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
        identity = f"# data {dataset.name} {dataset.fingerprint()}\n{configuration}"
        prepare_folder(run_dir, identity, restart)
        self.model = recipe.build(dataset, strategy)
        self.loop = Loop(self.model, strategy)
        self.checkpoints = Checkpoints(os.path.join(run_dir, "checkpoints"), self.model, self.chief)
        self.progress = self.checkpoints.progress
        self.resumed = self.checkpoints.restore_last()

    def train(self) -> dict[str, Any]:
        """Trains to the last epoch, evaluates, writes `model.keras` and `summary.json`.

        Returns:
          The summary.

        Raises:
          NonFiniteLossError: names the term, the step and the last good checkpoint.
        """
        if not self.resumed:
            self.checkpoints.save_last()
        start = int(self.progress.epoch.numpy())
        reporter = Reporter(self.run_dir, self.recipe.epochs, start, self.chief)
        try:
            for epoch in range(start, self.recipe.epochs):
                self._epoch(epoch, reporter)
        finally:
            reporter.close()
        return self._finish()

    def _epoch(self, epoch: int, reporter: Reporter) -> None:
        recipe, progress = self.recipe, self.progress
        done = int(progress.step_in_epoch.numpy())
        if done == 0:
            self.loop.reset()
        iterator = iter(self._training_batches(epoch, done))
        reporter.open_epoch(epoch, self.steps, done, recipe.batch_size)
        began = saved = time.monotonic()
        first = done
        while done < self.steps:
            count = min(recipe.steps_per_call, self.steps - done)
            good = int(self.loop.train(iterator, tf.constant(count)))
            metrics = self.loop.train_metrics()
            if good < count:
                self._stop_non_finite(metrics, epoch * self.steps + done + good)
            done += count
            progress.step_in_epoch.assign(done)
            reporter.advance(count * recipe.batch_size, metrics)
            now = time.monotonic()
            if done < self.steps and now - saved > 60 * recipe.checkpoint_minutes:
                progress.seconds.assign_add(now - saved)
                saved = now
                self.checkpoints.save_last()
        seconds = time.monotonic() - began
        progress.seconds.assign_add(time.monotonic() - saved)
        row = {"epoch": epoch + 1, "step": (epoch + 1) * self.steps, **metrics}
        row["images_per_second"] = (done - first) * recipe.batch_size / seconds
        row["learning_rate"] = self._learning_rate()
        if (epoch + 1) % recipe.validate_every == 0 or epoch + 1 == recipe.epochs:
            row.update(self._validate(epoch))
        progress.epoch.assign(epoch + 1)
        progress.step_in_epoch.assign(0)
        reporter.close_epoch(row)
        self._show_images(reporter, epoch, row["step"])
        self.checkpoints.save_last()

    def _training_batches(self, epoch: int, skip: int) -> Any:
        def make(shard: tuple[int, int]) -> tf.data.Dataset:
            return data.batches(
                self.dataset.train,
                self.recipe.batch_size,
                epoch=epoch,
                seed=self.recipe.seed,
                training=True,
                augmentation=self.dataset.augmentation,
                skip=skip,
                shard=shard,
            )

        return distribute(self.strategy, make, self.recipe.batch_size)

    def _validate(self, epoch: int) -> dict[str, float]:
        """Accuracies on the held-out split; keeps the best network."""
        split = self.dataset.validation
        if not len(split):
            return {}
        batches = data.batches(split, min(500, len(split)))
        values = self.loop.test(self.strategy.experimental_distribute_dataset(batches))
        score = values.get("robust_accuracy", values["natural_accuracy"])
        if score > self.progress.best_accuracy.numpy():
            self.progress.best_accuracy.assign(score)
            self.progress.best_epoch.assign(epoch + 1)
            self.checkpoints.save_best()
        return {f"val_{name}": value for name, value in values.items()}

    def _show_images(self, reporter: Reporter, epoch: int, step: int) -> None:
        if len(self.dataset.validation) and self.recipe.validation_attack is not None:
            for x, y in data.batches(self.dataset.validation.take(8), 8):
                reporter.images("clean", x, step)
                attacked = self.recipe.validation_attack(self.model.network, x, y)
                reporter.images("adversarial", attacked, step)
        if epoch == 0:
            reporter.text(
                "configuration", files.read_text(os.path.join(self.run_dir, "config.gin"))
            )

    def _learning_rate(self) -> float:
        rate = self.model.optimizer.learning_rate
        rate = rate(self.loop.steps_done()) if callable(rate) else rate
        return float(tf.convert_to_tensor(rate))

    def _stop_non_finite(self, metrics: dict[str, float], step: int) -> None:
        bad = [name for name, value in metrics.items() if not tf.math.is_finite(value)]
        terms = [name for name in bad if name != "loss"] or bad
        raise NonFiniteLossError(
            f"non-finite loss at step {step}, term {', '.join(terms)}. The last good checkpoint is "
            f"{self.checkpoints.last_path}. Lower train.learning_rate or the term's weight, or "
            "lengthen train.eps_warmup_epochs; then start with --restart or in another folder."
        )

    def _finish(self) -> dict[str, Any]:
        """Evaluates on the test images and writes what outlives the run."""
        recipe, network = self.recipe, self.model.network
        result = evaluation.evaluate(
            network,
            self.dataset.test,
            recipe.evaluation_attacks,
            max_examples=recipe.evaluation_examples,
            seed=recipe.seed,
        )
        summary = {
            "method": type(self.model).__name__,
            "weights": self.model.term_weights,
            "natural_accuracy": result.natural_accuracy,
            "robust_accuracy": {name: result.accuracy(name) for name in recipe.evaluation_attacks},
            "worst_case": result.worst_case_accuracy,
            "data": {
                "name": self.dataset.name,
                "fingerprint": self.dataset.fingerprint(),
                "train": len(self.dataset.train),
                "validation": len(self.dataset.validation),
                "test": len(self.dataset.test),
            },
            "parameters": network.count_params(),
            "best_epoch": int(self.progress.best_epoch.numpy()),
            "best_validation_accuracy": float(self.progress.best_accuracy.numpy()),
            "training_seconds": float(self.progress.seconds.numpy()),
            "versions": versions(),
            "evaluation": result.to_json(),
        }
        if self.chief:
            save_model(network, os.path.join(self.run_dir, "model.keras"))
            files.write_json(os.path.join(self.run_dir, "summary.json"), summary)
        return summary


def check_dataset(dataset: data.Data) -> None:
    """Raises ValueError for data on which training would make no sense."""
    for name in ("train", "validation", "test"):
        split = getattr(dataset, name)
        if len(split):
            images = split.images[:1] if split.images.dtype == "uint8" else split.images
            unit = images / 255.0 if images.dtype == "uint8" else images
            check_values(unit, split.labels, dataset.num_classes)
    if len(set(dataset.train.labels.tolist())) < 2:
        raise ValueError(
            f"the training images of {dataset.name} are all of class {dataset.train.labels[0]}; "
            "a classifier needs two classes or more."
        )


def prepare_folder(run_dir: str, identity: str, restart: bool) -> None:
    """Makes the folder, tries to write in it, and refuses another run's.

    Raises:
      RunFolderError: see `Trainer`.
    """
    path = os.path.join(run_dir, "identity.json")
    try:
        tf.io.gfile.makedirs(run_dir)
        if restart:
            for name in tf.io.gfile.listdir(run_dir):
                if name.rstrip("/") in OUTPUTS:
                    entry = os.path.join(run_dir, name.rstrip("/"))
                    remove = tf.io.gfile.rmtree if tf.io.gfile.isdir(entry) else tf.io.gfile.remove
                    remove(entry)
        if tf.io.gfile.exists(path):
            before = json.loads(files.read_text(path))["identity"]
            if before != identity:
                changed = sorted(set(before.splitlines()) ^ set(identity.splitlines()))
                raise RunFolderError(
                    f"run folder {run_dir} holds a run of another configuration; it differs in: "
                    f"{'; '.join(changed[:6]) or 'order'}. Give --restart to delete that run, or "
                    "another --run_dir."
                )
        files.write_json(path, {"identity": identity})
    except tf.errors.OpError as error:
        raise RunFolderError(
            f"run folder {run_dir} cannot be written: {error.message}. Free space or choose another "
            "--run_dir."
        ) from error


OUTPUTS = (
    "identity.json",
    "config.gin",
    "metrics.jsonl",
    "checkpoints",
    "tensorboard",
    "model.keras",
    "summary.json",
)


def save_model(network: keras.Model, path: str) -> None:
    """Writes a `.keras` file whole or not at all."""
    temporary = os.path.join(os.path.dirname(path), ".writing.keras")
    network.save(temporary)
    tf.io.gfile.rename(temporary, path, overwrite=True)


def versions() -> dict[str, str]:
    """Of what a result depends on."""
    return {
        "robust_tf": __version__,
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "python": platform.python_version(),
        "stack": "keras3" if compat.KERAS_3 else "addons",
    }
