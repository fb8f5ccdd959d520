"""AutoPGD on the objectives of AutoAttack."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from robust_tf import losses, registration
from robust_tf.attacks.adaptive_steps import AutoPGD
from robust_tf.attacks.dlr import difference_of_logits_ratio, targeted_difference_of_logits_ratio
from robust_tf.attacks.network import num_classes_of


@registration.configurable
@registration.serializable
@dataclasses.dataclass(frozen=True)
class APGD(AutoPGD):
    """AutoPGD on the cross-entropy or on the difference of logits ratio.

    From a random point of the ball's surface, with steps of 2 eps and momentum. At checkpoints, an
    example whose objective rose too seldom, or whose best value has not changed, goes on from its
    best point with half the step. It leaves at the first image that is misclassified, otherwise
    the image of the lowest margin is returned.

    In L1 without momentum: the steps move a share of the pixels, two thirds as many as the best
    image has moved, and are as long as the radius where that has become fewer, else shorter, down
    to a tenth. 30 % of them are in a ball of 3 eps, 30 % in one of 2 eps, and the rest, which alone
    counts, in that of eps; so a run of 3 steps or more costs two gradients more.

    Args:
      eps: radius of the ball.
      steps: iterations of a run, >= 1; a run costs steps + 1 gradients.
      loss: 'ce' or 'dlr'; with two classes DLR is the margin.
      norm: 'Linf', 'L2' or 'L1'.
      restarts: number of runs from fresh starts, >= 1, each on the images robust so far.
      rho: in [0, 1]; share of the steps between two checkpoints that must raise the objective;
        without effect in L1.
      eot: forwards and gradients of which each iteration takes the mean, >= 1; for networks with
        randomness inside, where the verdict is that of the mean logits.
      batch_norm: mode of `robust_tf.models.BatchNormalization` in the attack: 'running' (default),
        'batch' or 'training'.

    Raises:
      ValueError: an argument outside its range.

    Source: Croce & Hein (2020) and their program AutoAttack, L2 after the program; L1: Croce & Hein
    (2021), 'Mind the box', as the program runs it for AutoAttack (`use_largereps`). Where the two
    differ, at the first step, its rise is counted against the start as in the paper; the program
    compares with 0. With eot > 1 the program takes objective and verdict from the last pass alone.
    """

    eps: float
    steps: int = 100
    loss: str = "ce"
    norm: str = "Linf"
    restarts: int = 1
    rho: float = 0.75
    eot: int = 1
    batch_norm: str = "running"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.loss not in ("ce", "dlr"):
            raise ValueError(f"loss={self.loss!r}: must be 'ce' or 'dlr'.")

    def notes(self, num_classes: int) -> list[str]:
        if self.loss == "dlr" and num_classes < 3:
            return [f"the margin in place of DLR, which needs 3 classes; there are {num_classes}"]
        return []

    def _values(self, logits: tf.Tensor, y: tf.Tensor, aim: tf.Tensor) -> tf.Tensor:
        if self.loss == "dlr":
            return difference_of_logits_ratio(logits, y)
        return losses.cross_entropy(logits, y)

    def _aims(self, logits: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        return y[:, tf.newaxis]  # one, away from y


@registration.configurable
@registration.serializable
@dataclasses.dataclass(frozen=True)
class APGDTargeted(AutoPGD):
    """AutoPGD on the targeted difference of logits ratio, at one likely class after the other.

    The targets are the classes that rank second, third, ... on the clean image. The loop is that of
    `APGD`, run `restarts` times at each target.

    Args:
      eps: radius of the ball.
      steps: iterations of a run, >= 1; a run costs steps + 1 gradients.
      targets: how many classes, >= 1; all wrong ones if there are fewer.
      norm: 'Linf', 'L2' or 'L1'.
      restarts: runs at each target, >= 1.
      rho: see `APGD`.
      eot: see `APGD`.
      batch_norm: see `APGD`.

    Raises:
      ValueError: an argument outside its range.

    Source: Croce & Hein (2020) and their program AutoAttack (APGD-T). With fewer than four classes
    the objective is z_t - z_y.
    """

    eps: float
    steps: int = 100
    targets: int = 9
    norm: str = "Linf"
    restarts: int = 1
    rho: float = 0.75
    eot: int = 1
    batch_norm: str = "running"

    def notes(self, num_classes: int) -> list[str]:
        notes = []
        if num_classes < 4:
            notes.append(
                f"z_t - z_y in place of DLR-T, which needs 4 classes; there are {num_classes}"
            )
        if num_classes - 1 < self.targets:
            notes.append(f"{num_classes - 1} targets, not {self.targets}; there are no more")
        return notes

    def _values(self, logits: tf.Tensor, y: tf.Tensor, aim: tf.Tensor) -> tf.Tensor:
        return targeted_difference_of_logits_ratio(logits, y, aim)

    def _aims(self, logits: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        targets = min(self.targets, num_classes_of(logits) - 1)
        return tf.math.top_k(logits, targets + 1).indices[:, 1:]
