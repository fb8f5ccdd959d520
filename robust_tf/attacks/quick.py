"""An estimate of AutoAttack's verdict, at a fifth of its passes or less."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from robust_tf import registration
from robust_tf.attacks.apgd import APGD
from robust_tf.attacks.base import Attack
from robust_tf.attacks.raced_square import RacedSquare
from robust_tf.attacks.ranked_targets import RankedTargets
from robust_tf.attacks.staged import StagedAttack
from robust_tf.models.forward import check_batch_norm_mode
from robust_tf.validation import check_eps, check_norm

ESTIMATE = (
    "an estimate of AutoAttack's verdict by fewer passes, usually a little above it; the number to "
    "quote is AutoAttack's"
)


@registration.configurable
@registration.serializable
@dataclasses.dataclass(frozen=True)
class QuickEstimate(StagedAttack):
    """Three attacks, each on the images that are robust so far: an estimate of AutoAttack.

    APGD on the cross-entropy with 50 steps; PGD on z_t - z_y at the nearest classes
    (`RankedTargets`), which leaves images that are far from all; Square Attack with up to 5,000
    queries, most of them spent on images whose margin falls (`RacedSquare`), for models whose
    gradients are masked. A robust image far from the boundary costs about 270 forwards and 110
    gradients, where AutoAttack takes about 9,000 passes. docs/quick.md compares the two.

    Args:
      eps: radius of the ball.
      norm: 'Linf' or 'L2'.
      batch_norm: mode of `robust_tf.models.BatchNormalization` in the attack: 'running' (default),
        'batch' or 'training'; in the last two no image is given up early, which costs more.

    Raises:
      ValueError: an argument outside its range.

    Source: ours, in the spirit of CR of FastAT_Benchmark, MM (Gao et al., 2022) and A3 (Liu et al.,
    2022): margins in place of more losses, the nearest targets first, early leaving.
    """

    eps: float
    norm: str = "Linf"
    batch_norm: str = "running"

    def __post_init__(self) -> None:
        check_norm("QuickEstimate", self.norm)
        self._put(eps=check_eps("QuickEstimate", self.eps, self.norm))
        check_batch_norm_mode(self.batch_norm)

    def stages(self) -> Iterator[tuple[str, Attack]]:
        # Everything is said here: what a recipe binds for an attack alone must not change it.
        ball: dict[str, Any] = {"eps": self.eps, "norm": self.norm, "batch_norm": self.batch_norm}
        ascent: dict[str, Any] = {"steps": 100, "loss": "ce", "restarts": 1, "rho": 0.75, "eot": 1}
        ranked: dict[str, Any] = {"targets": 9, "steps": 20, "runs": 18, "least": 3, "near": 0.2}
        square: dict[str, Any] = {"queries": 5000, "p_init": 0.8, "restarts": 1}
        yield "APGD-CE", APGD(**ball, **ascent)
        yield "ranked targets", RankedTargets(**ball, **ranked)
        yield "raced Square", RacedSquare(**ball, **square, rescale_schedule=False)

    def notes(self, num_classes: int) -> list[str]:
        return [ESTIMATE, *super().notes(num_classes)]
