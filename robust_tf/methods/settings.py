"""What `compile` sets beside the optimiser: warm-ups, weight decay, what is composed, the seed."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import tensorflow as tf

from robust_tf import compat
from robust_tf.attacks import Attack
from robust_tf.methods.execution import Execution
from robust_tf.models import Classifier


@dataclasses.dataclass(frozen=True)
class CompileSettings:
    """How a method is trained and evaluated; its fields are the arguments of `compile`.

    Raises:
      ValueError: a negative number.
    """

    evaluation_attack: Attack | None = None
    weight_decay: float = 0.0
    decay_all: bool = False
    eps_warmup_steps: int = 0
    term_warmup_steps: int = 0
    weight_perturbation: Any = None
    weight_average: Any = None
    seed: int = 0
    execution: Execution = Execution()

    def __post_init__(self) -> None:
        for name in ("weight_decay", "eps_warmup_steps", "term_warmup_steps"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"compile({name}={getattr(self, name)!r}): must be >= 0.")

    def get_config(self) -> dict[str, Any]:
        """Each field, ready for JSON."""
        return {name: compat.serialize(value) for name, value in vars(self).items()}

    def eps_factor(self, batches: Any) -> tf.Tensor | float:
        """What eps and step size are multiplied by in the step after `batches`, in (0, 1]."""
        return _risen(batches, self.eps_warmup_steps)

    def term_factor(self, batches: Any) -> tf.Tensor | float:
        """What the weights of the terms that warm up are multiplied by, in (0, 1]."""
        return _risen(batches, self.term_warmup_steps)

    def penalty(self, network: Classifier) -> tf.Tensor | float:
        """w/2 ||W||^2 over kernels, or all parameters, and the losses of the network's layers.

        Those are its regularizers', and what its last forward added.
        """
        own = layer_losses(network)
        if not self.weight_decay:
            return own
        variables = network.trainable_variables
        if not self.decay_all:
            variables = [v for v in variables if v.name.split(":")[0].endswith("kernel")]
        squares = [tf.nn.l2_loss(compat.raw(v)) for v in variables]
        return own + self.weight_decay * tf.add_n(squares) if squares else own


def layer_losses(model: keras.Model) -> tf.Tensor | float:
    """Sum of `model.losses`, float32; once a forward pass has been made that may add to them."""
    values = [tf.cast(value, tf.float32) for value in model.losses]
    return tf.add_n([tf.reduce_sum(value) for value in values]) if values else 0.0


def _risen(batches: Any, steps: int) -> tf.Tensor | float:
    """How far a linear rise over so many steps has come, in (0, 1]."""
    if not steps:
        return 1.0
    return tf.minimum((tf.cast(batches, tf.float32) + 1) / steps, 1.0)
