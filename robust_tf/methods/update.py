"""The update of a method's network on a batch, and what the step reports of it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from robust_tf import compat
from robust_tf.methods.batch import correct
from robust_tf.methods.reduction import record
from robust_tf.methods.scoring import Scored, score


def update(
    model: Any,
    examples: tuple[tf.Tensor, tf.Tensor, Any],
    seed: tf.Tensor,
    watched: Sequence[tf.Tensor] = (),
) -> Scored:
    """Applies the gradient of the loss.

    Args:
      model: `RobustModel`, compiled.
      examples: images, labels, and what `generate_adversarial` made.
      seed: int32 (2,).
      watched: what else the gradient is taken of, tensors (B, ...).
    """

    def scoring(decay: bool = True) -> Scored:
        return score(model, examples, seed, decay, watched)

    trained = model.network.trainable_variables
    perturbation = model.settings.weight_perturbation
    scored = scoring() if perturbation is None or not trained else perturbation(model, scoring)
    if trained:
        compat.apply_gradients(model.optimizer, scored.gradients, trained)
    else:
        warnings.warn(f"{model.name}: no weight is trainable.", stacklevel=3)
    return scored


def report(model: Any, scored: Scored) -> dict[str, tf.Tensor]:
    """Adds a step to the running means; what they are."""
    batch = scored.batch
    record(model.step_metrics["loss"], scored.loss)
    for name, value in scored.values.items():
        record(model.step_metrics[name], value)
    for name, outputs in (("natural_accuracy", batch.clean), ("robust_accuracy", batch.adv)):
        if outputs is not None:
            record(model.step_metrics[name], correct(outputs.logits, batch.y))
    return {name: model.step_metrics[name].result() for name in model.train_names}
