"""The compiled loop: several steps per call, under any strategy."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from robust_tf import autograph, compat
from robust_tf.attacks.objectives import predicted_class
from robust_tf.evaluation.checks import collapsed_class
from robust_tf.losses import class_ids
from robust_tf.methods import RobustModel
from robust_tf.training.weight_average import REFRESHING_BATCHES, refresh_statistics


class Loop:
    """Runs `model.train_step` and `model.test_step` under a strategy.

    One graph serves every call: the number of steps is a tensor. Losses are averaged over the
    global batch, which replicas may share unequally; pairs of global compactness are formed within
    each replica's share.

    Attributes:
      watched: the loss and its terms, by name.
    """

    def __init__(self, model: RobustModel, strategy: tf.distribute.Strategy):
        self.model, self.strategy = model, strategy
        self.watched = ["loss", *model.term_weights]
        own = autograph.is_own(type(model)) and autograph.is_own(type(model.network))
        parts = [part for part in vars(model).values() if dataclasses.is_dataclass(part)]
        self._converted = not own or autograph.is_needed(model.network, model.attack, *parts)

    @tf.function(reduce_retracing=True)
    def train(self, iterator: Any, steps: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Takes `steps` steps.

        Returns:
          The number of steps before the first non-finite loss or term, and for each of `watched`
          whether it was finite in that step.
        """
        good = tf.constant(0)
        finite = tf.ones([len(self.watched)], tf.bool)
        for _ in tf.range(steps):
            values = self._run(self._step, next(iterator))
            total = self.strategy.reduce(tf.distribute.ReduceOp.SUM, values, axis=None)
            # Only the first bad step tells the culprit: after it, everything is bad.
            finite = tf.where(tf.reduce_all(finite), tf.math.is_finite(total), finite)
            good += tf.cast(tf.reduce_all(finite), tf.int32)
        return good, finite

    def _run(self, function: Callable[..., Any], *args: Any) -> Any:
        """The function on each replica."""
        if not self._converted:
            function = tf.autograph.experimental.do_not_convert(function)
        return self.strategy.run(function, args=args)

    def _step(self, batch: Any) -> tf.Tensor:
        """One replica's step; the running means of what is watched."""
        logs = self.model.train_step(batch)
        return tf.stack([tf.cast(logs[name], tf.float32) for name in self.watched])

    @tf.function(reduce_retracing=True)
    def _test(self, batch: Any) -> Any:
        """Predictions (B,) of each replica."""

        def run(batch: Any) -> tf.Tensor:
            return predicted_class(self.model.measure(batch))

        return self._run(run, batch)

    @tf.function(reduce_retracing=True)
    def _predict(self, images: Any) -> Any:
        def run(x: tf.Tensor) -> tf.Tensor:
            return predicted_class(self.model.final_network(x, training=False))

        return self._run(run, images)

    @tf.function(reduce_retracing=True)
    def _refresh(self, batch: Any, number: tf.Tensor) -> None:
        def run(batch: Any) -> None:
            seed = tf.stack([tf.constant(self.model.settings.seed % 2**31), number])
            refresh_statistics(self.model.final_network, batch[0], seed)

        self._run(run, batch)

    def refresh(self, batches: Any) -> None:
        """Gives the averaged network batch statistics of its own, where it has any."""
        if self.model.averaged is None or not self.model.averaged.has_batch_norm:
            return
        for number, batch in zip(range(REFRESHING_BATCHES), batches, strict=False):
            self._refresh(batch, tf.constant(number))

    def train_metrics(self) -> dict[str, float]:
        """Means since the last reset."""
        return {name: _value(self.model.step_metrics[name]) for name in self.model.train_names}

    def test(self, batches: Any) -> tuple[dict[str, float], int | None]:
        """Natural and robust accuracy over batches, and the class if all of them are given one."""
        self.reset()
        seen = [(self._test(batch), batch[1]) for batch in batches]
        names = [name for name in self.model.test_names if name != "loss"]
        values = {name: _value(self.model.step_metrics[name]) for name in names}
        self.reset()
        return values, self._collapsed(seen)

    def collapsed(self, batch: Any) -> int | None:
        """The class, if all images of a batch are given one; see `checks.collapsed_class`."""
        return self._collapsed([(self._predict(batch[0]), batch[1])])

    def _collapsed(self, seen: list[tuple[Any, Any]]) -> int | None:
        """Of predictions and labels by batch and replica, those of this worker."""
        local = self.strategy.experimental_local_results
        parts = [
            np.concatenate([class_ids(part).numpy() for one in seen for part in local(one[which])])
            for which in (0, 1)
        ]
        return collapsed_class(*parts)

    def reset(self) -> None:
        """Starts the means anew."""
        for metric in self.model.metrics:
            metric.reset_state()

    def steps_done(self) -> int:
        """Steps taken since the beginning of the run."""
        return int(compat.raw(self.model.optimizer.iterations).numpy())

    def learning_rate(self) -> float:
        """Of the next step."""
        rate = self.model.optimizer.learning_rate
        rate = rate(self.steps_done()) if callable(rate) else rate
        return float(tf.convert_to_tensor(rate))


def _value(metric: Any) -> float:
    return float(metric.result())
