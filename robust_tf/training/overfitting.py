"""When a training has overfitted to its own attack: catastrophic overfitting, and divergence."""

from __future__ import annotations

import math
from typing import NamedTuple

# An accuracy has fallen where it is below this part of another one. In the logs of
# FastAT_Benchmark PGD-10 holds 83 % or more of FGSM's accuracy until the epoch of catastrophic
# overfitting, and 17 % or less after it.
FALL = 0.5
# Standard deviations of the difference, for the choice of so few images.
NOISE = 3.0
# Checks one after the other that tell a training which never was robust to PGD.
CONFIRMED = 3

OVERFITTING, DIVERGENCE = "catastrophic overfitting", "divergence"


class Gap(NamedTuple):
    """Accuracies in [0, 1] under the training attack and under PGD, on so many images."""

    training: float
    pgd: float
    images: int


class History(NamedTuple):
    """What earlier checks leave for the next one.

    training, pgd: the best accuracies so far; open_checks: how many checks, the last ones, found
    PGD's accuracy below half of the training attack's.
    """

    training: float = 0.0
    pgd: float = 0.0
    open_checks: int = 0


def judge(history: History, gap: Gap, rising: bool = False) -> tuple[str, History]:
    """What a check says of a training, and what it leaves for the next one.

    Catastrophic overfitting: accuracy under PGD is below half of that under the training attack,
    and below half of its own best; or, where it never was high, the first holds for `CONFIRMED`
    checks while the training attack leaves more than half of the images right. Divergence: both
    accuracies are below half of their best, and PGD's is not below half of the other. Each "below"
    is by `NOISE` standard deviations of the binomial of the images or more. They are the same
    images at every check, so that chance plays a smaller part than that.

    Args:
      history: of the checks so far; `History()` before the first.
      gap: what was measured.
      rising: whether eps still grows, so that accuracies fall without harm: the best are then
        those of the last check.

    Returns:
      `OVERFITTING`, `DIVERGENCE` or '', and the new history. What is found is no best.

    Source: the failure is described by Wong et al. (2020); half of the best is our reading of the
    logs of FastAT_Benchmark. The program of Wong et al. stops where accuracy under PGD-5 of a
    training batch fell by more than 0.2 in an epoch, as it does where a training diverges, too.
    """
    opened = _below(gap.pgd, gap.training, gap.images)
    fell = _below(gap.pgd, history.pgd, gap.images)
    open_checks = history.open_checks + 1 if opened else 0
    never_rose = open_checks >= CONFIRMED and gap.training > FALL
    verdict = ""
    if opened and (fell or never_rose):
        verdict = OVERFITTING
    elif fell and not opened and _below(gap.training, history.training, gap.images):
        verdict = DIVERGENCE
    if verdict or opened:
        return verdict, history._replace(open_checks=open_checks)
    if rising:
        return verdict, History(gap.training, gap.pgd)
    return verdict, History(max(history.training, gap.training), max(history.pgd, gap.pgd))


def _below(low: float, high: float, images: int) -> bool:
    """Whether one accuracy is below `FALL` of another by more than chance."""
    variance = low * (1 - low) + FALL**2 * high * (1 - high)
    return FALL * high - low > NOISE * math.sqrt(variance / max(images, 1))
