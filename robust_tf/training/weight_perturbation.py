"""Adversarial weight perturbation, for any method."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from robust_tf import argument_types, compat, registration
from robust_tf.dataclass_config import DataclassConfig
from robust_tf.models import forward_mode
from robust_tf.validation import check_number, check_whole, plain_fields


@argument_types.checked
@registration.serializable
@dataclasses.dataclass(frozen=True)
class WeightPerturbation(DataclassConfig):
    """Takes each gradient where the loss is higher: at weights moved by gamma of their length.

    With g the gradient of the method's loss, without weight decay and regularizers, over the global
    batch, each kernel w (variables of more than one dimension) is moved by gamma |w| g / |g|, the
    gradient of the step is taken there, and w is put back before it is applied. One more forward
    and backward pass per step.

    Args:
      gamma: relative size of the move, > 0; 0.01 for adversarial training, 0.005 for TRADES and
        squeeze training.
      from_step: batches before which weights are not moved, >= 0.

    The released program makes one step of plain SGD on a copy of the network and normalises the
    difference; its learning rate cancels. That forward leaves the moving averages of batch
    normalisation alone.

    Source: Wu, Xia & Wang (2020), "Adversarial weight perturbation helps robust generalization",
    and its released program. (The abstract of squeeze training calls it RWP.)
    """

    gamma: float = 0.005
    from_step: int = 0

    def __post_init__(self) -> None:
        plain_fields(self)
        if not 0 < self.gamma < float("inf"):
            raise ValueError(
                f"WeightPerturbation(gamma={self.gamma!r}): must be finite and > 0; 0.005 to 0.01 "
                "is usual, and without a perturbation leave it out."
            )
        if self.from_step < 0:
            raise ValueError(f"WeightPerturbation(from_step={self.from_step!r}): must be >= 0.")

    def __call__(self, model: Any, score: Callable[..., Any]) -> Any:
        """`score()` at the moved weights; on return the weights are what they were."""
        variables = model.network.trainable_variables
        kernels = [index for index, v in enumerate(variables) if len(v.shape) > 1]
        kept = [tf.identity(compat.raw(variables[index])) for index in kernels]

        def directions() -> list[tf.Tensor]:
            with forward_mode(batch_norm="batch"):
                gradients = score(decay=False).gradients
            return [
                tf.zeros_like(w) if gradients[index] is None else gradients[index]
                for index, w in zip(kernels, kept, strict=True)
            ]

        active = model.batches >= self.from_step
        moves = tf.cond(active, directions, lambda: [tf.zeros_like(w) for w in kept])
        context = tf.distribute.get_replica_context()
        if context is not None and context.num_replicas_in_sync > 1:
            moves = context.all_reduce(tf.distribute.ReduceOp.SUM, moves)
        for index, w, move in zip(kernels, kept, moves, strict=True):
            norm = tf.norm(move)
            length = tf.norm(w) / (norm + 1e-20)
            # A scaled loss may overflow: that step is skipped, and statistics must not see it.
            moved = tf.where(tf.math.is_finite(norm), w + self.gamma * length * move, w)
            compat.raw(variables[index]).assign(moved)
        scored = score()
        for index, w in zip(kernels, kept, strict=True):
            compat.raw(variables[index]).assign(w)
        return scored


@registration.configurable
def AWP(steps_per_epoch: int, gamma: float = 0.005, from_epoch: float = 0) -> WeightPerturbation:
    """`WeightPerturbation` from an epoch on, counted from 0; 9 in the released TRADES recipe."""
    check_whole("AWP", "steps_per_epoch", steps_per_epoch, 1)
    check_number("AWP", "from_epoch", from_epoch, 0.0, "epochs are counted from 0")
    return WeightPerturbation(gamma, round(from_epoch * steps_per_epoch))
