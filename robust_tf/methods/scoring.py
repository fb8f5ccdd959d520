"""Loss and gradients of a batch for the weights of a method's network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from robust_tf import compat
from robust_tf.methods.batch import per_example
from robust_tf.methods.reduction import global_mean, mean_here, weighted
from robust_tf.methods.whole_batch import REDUCE, knowing, over_replicas, saying
from robust_tf.models import forward_mode


class Scored(NamedTuple):
    """A batch with its loss on this replica, the values of its terms, and the gradients.

    values: (B,) of each term, times the sample weights; gradients: of the trained weights; inputs:
    of what else was watched.
    """

    batch: Any
    loss: tf.Tensor
    values: dict[str, tf.Tensor]
    gradients: list[tf.Tensor | None]
    inputs: list[tf.Tensor]


def score(
    model: Any,
    examples: tuple[tf.Tensor, tf.Tensor, Any],
    seed: tf.Tensor,
    decay: bool = True,
    watched: Sequence[tf.Tensor] = (),
) -> Scored:
    """Loss and gradients of a replica's share, computed as `model.settings.execution` says.

    Args:
      model: `RobustModel`.
      examples: images, labels, and what `generate_adversarial` made.
      seed: int32 (2,).
      decay: with weight decay and the losses of layers.
      watched: tensors (B, ...) of the examples whose gradient is taken, too.
    """
    execution, rows = model.settings.execution, (*examples, list(watched))
    numbers = None
    if execution.accumulate > 1 and model.sees_batch:
        numbers = _numbers(model, rows, seed)

    def work(part: Any, share: Any) -> Any:
        *some, inputs = part
        with knowing(numbers):
            found = _score(model, some, seed, share if decay else None, inputs)
        return (found.batch, found.values, found.inputs), [found.loss, *found.gradients]

    (batch, values, inputs), (loss, *gradients) = execution.run(work, rows)
    return Scored(batch, loss, values, gradients, inputs)


def _score(
    model: Any, examples: Any, seed: tf.Tensor, share: Any, watched: Sequence[tf.Tensor]
) -> Scored:
    """Of some examples; with so much of what is added once to the loss of a step, None: none."""
    variables = [compat.raw(v) for v in model.network.trainable_variables]
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch([*variables, *watched])
        batch = model.forward(*examples, seed)
        # Before the terms, some of which forward again: Keras keeps those of the last forward.
        penalty = 0.0 if share is None else share * model.settings.penalty(model.network)
        terms = model.terms(batch)
        values = {name: per_example(name, terms[name]()) for name in model.term_weights}
        factor = model.settings.term_factor(model.batches)
        weights = {
            name: weight * factor if name in model.warmup_terms else weight
            for name, weight in model.term_weights.items()
        }
        part = sum(weights[name] * global_mean(values[name]) for name in values)
        loss = mean_here(part) + penalty
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        scaled = compat.scale_loss(model.optimizer, part + penalty / replicas)
    gradients = tape.gradient(scaled, [*variables, *watched])
    count = len(variables)
    values = {name: weighted(value) for name, value in values.items()}
    return Scored(batch, loss, values, gradients[:count], gradients[count:])


def _numbers(model: Any, examples: Any, seed: tf.Tensor) -> list[tf.Tensor]:
    """What `over_batch` is to give: a forward of each part, which moves no average."""
    ways: list[str] = []

    def work(part: Any, share: Any) -> Any:
        with saying() as said, forward_mode(filled=tf.constant(False)):
            terms = model.terms(model.forward(*part[:3], seed))
            for name in model.term_weights:
                terms[name]()
        ways[:] = [how for _, how in said]
        one = tf.minimum(tf.shape(part[0])[0], 1)  # a row for each part
        return [values[tf.newaxis][:one] for values, _ in said], []

    found, _ = model.settings.execution.run(work, examples)
    return [
        over_replicas(REDUCE[how](rows, axis=0), how) for rows, how in zip(found, ways, strict=True)
    ]
