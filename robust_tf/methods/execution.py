"""How a step is computed, which is no part of what it computes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from robust_tf import argument_types, registration
from robust_tf.dataclass_config import DataclassConfig
from robust_tf.methods.parts import Parts
from robust_tf.validation import check_whole, plain_fields


@argument_types.checked
@registration.serializable
@dataclasses.dataclass(frozen=True)
class Execution(DataclassConfig):
    """How attack, forward and backward of a step are run.

    Args:
      accumulate: number of parts that a replica's share of the batch is cut into, >= 1; the
        gradients of all are added before the one update. See `methods.parts`.
      xla: compile them by XLA, which draws other random numbers from the same seeds.
      remat: forget what a forward pass computed and compute it again for the gradient, see
        `models.remat`.

    Raises:
      ValueError: accumulate < 1; an argument of another type.
    """

    accumulate: int = 1
    xla: bool = False
    remat: bool = False

    def __post_init__(self) -> None:
        plain_fields(self)
        check_whole("Execution", "accumulate", self.accumulate, 1)

    def run(
        self, work: Callable[..., tuple[Any, list[tf.Tensor | None]]], examples: Any
    ) -> tuple[Any, list[tf.Tensor | None]]:
        """Does the work on the examples (x, ...), in parts or at once; see `Parts.run`."""
        if self.accumulate > 1 or self.xla:
            return Parts.of(examples[0], self.accumulate).run(work, examples, self.xla)
        return work(examples, 1.0)
