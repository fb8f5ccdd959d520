"""What a model with a step of its own owes to Keras: metrics, their names, files, export."""

from __future__ import annotations

import functools
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from robust_tf import compat, losses
from robust_tf.methods.arguments import unpack
from robust_tf.methods.batch import correct
from robust_tf.methods.reduction import Share, record, weighted
from robust_tf.methods.settings import CompileSettings, layer_losses


class KerasModel(keras.Model):
    """Reports exact means under one order of names, counts its batches, saves and exports.

    Args:
      train_names: what a training step reports; a subclass may add to it.
      image_shape: (H, W, C).
      name: of the model.
    """

    settings = CompileSettings()

    def __init__(self, train_names: list[str], image_shape: tuple[int, ...], name: str | None):
        super().__init__(name=name)
        self.train_names = train_names
        # Built here: Keras 3 cannot create variables once a replica context is entered.
        names = dict.fromkeys([*train_names, "natural_accuracy", "robust_accuracy"])
        self.step_metrics = {name: keras.metrics.Mean(name) for name in names}
        self.reported = "train"
        # Of TensorFlow's checkpoints, but no weight: restoring the best weights must not turn back
        # what random numbers are drawn from. -1: the optimizer's iterations.
        aggregation = tf.VariableAggregation.ONLY_FIRST_REPLICA
        seen = tf.Variable(-1, dtype=tf.int64, trainable=False, aggregation=aggregation)
        self.counters = tf.train.Checkpoint(batches=seen)
        self.built = True
        compat.record_input_shape(self, (None, *image_shape))

    def build(self, input_shape: Any = None) -> None:
        self.built = True  # the network comes built

    @property
    def batches(self) -> tf.Tensor:
        """Number of training batches so far, int64, from which all that is random is drawn.

        An optimizer's `iterations` are fewer where it accumulates gradients, or skips those that
        overflowed.
        """
        seen = tf.convert_to_tensor(self.counters.batches)
        updates = getattr(getattr(self, "optimizer", None), "iterations", 0)
        return tf.where(seen < 0, tf.cast(updates, tf.int64), seen)

    @property
    def final_network(self) -> Any:
        """The `Classifier` that is evaluated and saved."""
        raise NotImplementedError

    # ---- metrics -------------------------------------------------------------------------------

    @property
    def test_names(self) -> list[str]:
        """What a test step reports."""
        attacked = ["robust_accuracy"] if self.settings.evaluation_attack is not None else []
        return ["loss", "natural_accuracy", *attacked]

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """Reset by Keras at the start of each epoch and of each evaluation."""
        first = ("loss", "natural_accuracy", "robust_accuracy")
        rest = [name for name in self.step_metrics if name not in first]
        return [self.step_metrics[name] for name in (*first, *rest)]

    @property
    def metrics_names(self) -> list[str]:
        """Of what `evaluate` returns, in its order."""
        return self.test_names

    def get_metrics_result(self) -> dict[str, Any]:
        """Means over all replicas; Keras takes them for those that one replica's step returned."""
        names = self.train_names if self.reported == "train" else self.test_names
        return {name: self.step_metrics[name].result() for name in names}

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Natural cross-entropy and accuracy; robust accuracy where an evaluation attack is set."""
        self.measure(data)
        return {name: self.step_metrics[name].result() for name in self.test_names}

    def measure(self, data: Any) -> tf.Tensor:
        """Adds a batch to the metrics of `test_step`; the clean images' logits (B, C)."""
        network = self.final_network
        share = Share.of(*unpack(data, network))
        with share.reduced():
            logits = network(share.x, training=False)
            loss = weighted(losses.cross_entropy(logits, share.y)) + layer_losses(network)
            record(self.step_metrics["loss"], loss)
            natural = correct(logits, share.y)
            record(self.step_metrics["natural_accuracy"], natural)
            attack = self.settings.evaluation_attack
            if attack is not None:
                x_adv = attack(network, share.x, share.y, seed=self.settings.seed)
                robust = natural * correct(network(x_adv, training=False), share.y)
                record(self.step_metrics["robust_accuracy"], robust)
        return logits[: share.number]

    @functools.wraps(keras.Model.evaluate)
    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        self.reported = "test"
        try:
            return super().evaluate(*args, **kwargs)
        finally:
            self.reported = "train"

    def _maybe_symbolic_build(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: all is built. Keras 3 would average the shares of a batch, equal or not."""

    # ---- files ---------------------------------------------------------------------------------

    def get_compile_config(self) -> dict[str, Any]:
        """The arguments of `compile`, for `.keras` files."""
        if getattr(self, "optimizer", None) is None:
            return {}
        return {"optimizer": compat.serialize(self.optimizer), **self.settings.get_config()}

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Inverse of `get_compile_config`."""
        if config:
            self.compile(**{name: compat.deserialize(value) for name, value in config.items()})

    def save_own_variables(self, store: Any) -> None:
        """The number of batches; and what an optimiser of tensorflow-addons keeps."""
        compat.save_legacy(getattr(self, "optimizer", None), store)
        store["batches"] = self.batches.numpy()

    def load_own_variables(self, store: Any) -> None:
        """Inverse of `save_own_variables`; files of earlier versions count updates alone.

        A model is also read without being compiled, `load_model(path, compile=False)`.
        """
        compat.load_legacy(getattr(self, "optimizer", None), store)
        if "batches" in store.keys():
            self.counters.batches.assign(np.asarray(store["batches"]))
