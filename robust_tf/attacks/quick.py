"""An estimate of AutoAttack's verdict, by far fewer passes where images withstand."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from robust_tf import registration
from robust_tf.attacks.apgd import APGD
from robust_tf.attacks.base import Attack
from robust_tf.attacks.checked_targets import CheckedTargets
from robust_tf.attacks.fab import FAB
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
    """Four attacks, each on the images that are robust so far: an estimate of AutoAttack.

    APGD-CE as in AutoAttack, 100 steps; in L-inf APGD-T at 4 classes with 40 steps, and as in
    AutoAttack (9 classes, 100 steps) at the images where two losses disagree (`CheckedTargets`), in
    L2 FAB-T at 3 classes; PGD on z_t - z_y, run after run at the nearest classes, of which an image
    that is far from all gets one (`RankedTargets`); and, for models whose gradients are masked,
    AutoAttack's Square, which gives images up whose margin falls too slowly (`RacedSquare`). With
    the same seed each stage draws what AutoAttack's draws, so that the luck of their starts is the
    same. In L-inf a robust image far from the boundary, at which the losses agree, costs about 490
    forwards and 330 gradients, in AutoAttack about 7,800 and 1,900. docs/quick.md compares the two:
    in L2 it was 2.7 points above AutoAttack on a network trained in L-inf.

    Args:
      eps: radius of the ball.
      norm: 'Linf' or 'L2'.
      batch_norm: mode of `robust_tf.models.BatchNormalization` in the attack: 'running' (default),
        'batch' or 'training'; in the last two no image is given up early, which costs more.

    Raises:
      ValueError: an argument outside its range.

    Source: ours, in the spirit of CR of FastAT_Benchmark, MM (Gao et al., 2022) and A3 (Liu et al.,
    2022): fewer steps, the nearest targets first, early leaving.
    """

    eps: float
    norm: str = "Linf"
    batch_norm: str = "running"

    def __post_init__(self) -> None:
        check_norm("QuickEstimate", self.norm, ("Linf", "L2"))
        self._put(eps=check_eps("QuickEstimate", self.eps, self.norm))
        check_batch_norm_mode(self.batch_norm)

    def stages(self) -> Iterator[tuple[str, Attack]]:
        # Everything is said here: what a recipe binds for an attack alone must not change it.
        ball: dict[str, Any] = {"eps": self.eps, "norm": self.norm, "batch_norm": self.batch_norm}
        ascent: dict[str, Any] = {**ball, "restarts": 1, "rho": 0.75, "eot": 1}
        checked: dict[str, Any] = {"steps": 100, "targets": 9, "low": 1.0, "high": 1.15}
        ranked: dict[str, Any] = {"targets": 9, "steps": 20, "runs": 9, "least": 1, "near": 0.2}
        square: dict[str, Any] = {"queries": 5000, "p_init": 0.8, "restarts": 1}
        yield "APGD-CE", APGD(**ascent, steps=100, loss="ce")
        if self.norm == "L2":  # where a network trained in L-inf gave way to FAB alone
            fab: dict[str, Any] = {"alpha_max": 0.1, "eta": 1.05, "beta": 0.9, "restarts": 1}
            yield "FAB-T", FAB(**ball, **fab, steps=100, targeted=True, targets=3)
        else:
            short: dict[str, Any] = {"short_steps": 40, "short_targets": 4}
            yield "APGD-T", CheckedTargets(**ball, **short, **checked)
        yield "ranked targets", RankedTargets(**ball, **ranked)
        yield "raced Square", RacedSquare(**ball, **square, rescale_schedule=False)

    def notes(self, num_classes: int) -> list[str]:
        return [ESTIMATE, *super().notes(num_classes)]
