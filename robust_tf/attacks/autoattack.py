"""AutoAttack: a fixed sequence of attacks without parameters to choose."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from robust_tf import registration
from robust_tf.attacks.apgd import APGD, APGDTargeted
from robust_tf.attacks.base import Attack
from robust_tf.attacks.fab import FAB
from robust_tf.attacks.square import Square
from robust_tf.attacks.staged import StagedAttack
from robust_tf.models.forward import check_batch_norm_mode
from robust_tf.validation import check_eps, check_norm

VERSIONS = ("standard", "plus", "rand")


@registration.configurable
@registration.serializable
@dataclasses.dataclass(frozen=True)
class AutoAttack(StagedAttack):
    """Several strong attacks one after the other, each on the images that are robust so far.

    An example that is robust after all of them has the image of the lowest margin. Beside the
    attacks' own cost, each verdict is one forward.

    Args:
      eps: radius of the ball.
      norm: 'Linf', 'L2' or 'L1'.
      version: 'standard' is APGD-CE, APGD-T, FAB-T and Square (in L1 with 5 restarts of APGD-CE and
        5 targets of APGD-T); 'plus' adds untargeted APGD-DLR and FAB, and restarts; 'rand', for
        networks with randomness inside, is APGD-CE and APGD-DLR with 20 passes for each gradient.
      batch_norm: mode of `robust_tf.models.BatchNormalization` in the attack: 'running' (default),
        'batch' or 'training'.

    Raises:
      ValueError: an argument outside its range.

    Source: Croce & Hein (2020) and their program AutoAttack, whose settings are followed in all
    three versions. As there, all attacks are given the same seed. L1 is after Croce & Hein (2021),
    'Mind the box'. There the program has the standard version alone; the other two are those of
    L-inf here, with APGD in its form for L1 and with 5 targets of APGD-T.
    """

    eps: float
    norm: str = "Linf"
    version: str = "standard"
    batch_norm: str = "running"

    def __post_init__(self) -> None:
        check_norm("AutoAttack", self.norm)
        self._put(eps=check_eps("AutoAttack", self.eps, self.norm))
        if self.version not in VERSIONS:
            raise ValueError(f"version={self.version!r}: must be one of {VERSIONS}.")
        check_batch_norm_mode(self.batch_norm)

    def stages(self) -> Iterator[tuple[str, Attack]]:
        """The attacks of this version.

        A subclass that has others gives them eps, and step sizes, in proportion to its own eps: one
        graph serves every eps.
        """
        ball: dict[str, Any] = {"eps": self.eps, "norm": self.norm, "batch_norm": self.batch_norm}
        # Everything is said here: a default that a recipe has bound would no longer be AutoAttack.
        ascent: dict[str, Any] = {**ball, "steps": 100, "rho": 0.75}
        restarts, targets = (5, 5) if self.norm == "L1" else (1, 9)
        fab: dict[str, Any] = {**ball, "steps": 100, "alpha_max": 0.1, "eta": 1.05, "beta": 0.9}
        apgd_t = APGDTargeted(**ascent, targets=targets, restarts=1, eot=1)
        fab_t = FAB(**fab, targeted=True, targets=9, restarts=1)
        square = Square(**ball, queries=5000, p_init=0.8, restarts=1, rescale_schedule=False)
        if self.version == "rand":
            yield "APGD-CE", APGD(**ascent, loss="ce", restarts=1, eot=20)
            yield "APGD-DLR", APGD(**ascent, loss="dlr", restarts=1, eot=20)
        elif self.version == "plus":
            yield "APGD-CE", APGD(**ascent, loss="ce", restarts=5, eot=1)
            yield "APGD-DLR", APGD(**ascent, loss="dlr", restarts=5, eot=1)
            yield "FAB", FAB(**fab, targeted=False, targets=9, restarts=5)
            yield "Square", square
            yield "APGD-T", apgd_t
            yield "FAB-T", fab_t
        else:
            yield "APGD-CE", APGD(**ascent, loss="ce", restarts=restarts, eot=1)
            yield "APGD-T", apgd_t
            yield "FAB-T", fab_t
            yield "Square", square
