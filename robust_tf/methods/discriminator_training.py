"""How ATLD's discriminator is trained."""

from __future__ import annotations

import dataclasses

from robust_tf import registration
from robust_tf.dataclass_config import DataclassConfig
from robust_tf.validation import check_number, check_whole, plain_fields


@registration.configurable
@registration.serializable
@dataclasses.dataclass(frozen=True)
class DiscriminatorTraining(DataclassConfig):
    """How the discriminator learns: SGD of its own, at a constant rate.

    Args:
      updates: per batch, >= 1, all on the same outputs of the network.
      learning_rate: > 0.
      momentum: in [0, 1).
      weight_decay: w of w/2 ||W||^2 over all its parameters, >= 0.
      hard_labels: its class head learns plain labels, as in the paper; the program smooths them.
    """

    updates: int = 2
    learning_rate: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 2e-4
    hard_labels: bool = False

    def __post_init__(self) -> None:
        owner = type(self).__name__
        plain_fields(self)
        check_whole(owner, "updates", self.updates, 1)
        hint = "ATLD uses 0.001"
        check_number(owner, "learning_rate", self.learning_rate, 0.0, hint, strict=True)
        check_number(owner, "weight_decay", self.weight_decay, 0.0, "ATLD uses 0.0002")
        check_number(owner, "momentum", self.momentum, high=1.0, strict_high=True)
