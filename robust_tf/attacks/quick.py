"""An estimate of AutoAttack's verdict at a fifth of its passes or less."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from robust_tf import registration
from robust_tf.attacks.active_set import Rows
from robust_tf.attacks.base import Attack
from robust_tf.attacks.ranked_targets import RankedTargets
from robust_tf.attacks.square import Square
from robust_tf.attacks.staged import StagedAttack
from robust_tf.models.forward import check_batch_norm_mode
from robust_tf.validation import check_eps, check_norm

ESTIMATE = "an estimate of AutoAttack's verdict, never below it on purpose; quote AutoAttack's"
_FIRST, _SLOPE = 100, 0.7


@registration.configurable
@registration.serializable
@dataclasses.dataclass(frozen=True)
class RacedSquare(Square):
    """Square Attack."""

    def _gives_up(self, query: tf.Tensor, rows: Rows) -> tf.Tensor:
        if self.batch_norm != "running":
            return super()._gives_up(query, rows)
        left = 1 - tf.math.log(tf.cast(query + 1, tf.float32) / _FIRST) / math.log(
            max(self.queries / _FIRST, 1.01)
        )
        return (query >= _FIRST) & (rows["margin"] > _SLOPE * left * rows["clean_margin"])


@registration.configurable
@registration.serializable
@dataclasses.dataclass(frozen=True)
class QuickEstimate(StagedAttack):
    """RankedTargets, then RacedSquare."""

    eps: float
    norm: str = "Linf"
    batch_norm: str = "running"

    def __post_init__(self) -> None:
        check_norm("QuickEstimate", self.norm)
        self._put(eps=check_eps("QuickEstimate", self.eps, self.norm))
        check_batch_norm_mode(self.batch_norm)

    def stages(self) -> Iterator[tuple[str, Attack]]:
        ball: dict[str, Any] = {"eps": self.eps, "norm": self.norm, "batch_norm": self.batch_norm}
        yield "ranked targets", RankedTargets(**ball)
        yield "Square", RacedSquare(**ball)

    def notes(self, num_classes: int) -> list[str]:
        return [ESTIMATE, *super().notes(num_classes)]
