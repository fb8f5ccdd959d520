"""APGD-T at few classes; at all of them where it and APGD-CE do not come equally near."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from robust_tf import registration
from robust_tf.attacks.active_set import choose
from robust_tf.attacks.apgd import APGD, APGDTargeted
from robust_tf.attacks.base import Attack
from robust_tf.attacks.network import Network
from robust_tf.attacks.objectives import margin
from robust_tf.attacks.randomness import each
from robust_tf.attacks.threat import Budget
from robust_tf.models.forward import check_batch_norm_mode
from robust_tf.validation import check_eps, check_norm, check_number


@registration.configurable
@registration.serializable
@dataclasses.dataclass(frozen=True)
class CheckedTargets(Attack):
    """Short runs of APGD-T, and those of AutoAttack where two losses do not agree.

    Where gradients are sound, cross-entropy and targeted DLR lead to nearly the same margin
    z_y - max z_j, and longer runs at more classes change few verdicts. Where gradients are masked,
    each loss fails at other images, and they do. So `short_targets` classes are tried with
    `short_steps` steps, and APGD-CE with as many; an image is done if it is misclassified, or if
    APGD-T's margin over APGD-CE's is within [low, high]; the others get APGD-T with `steps` and
    `targets`. The ratio of margins does not depend on the scale of the logits.

    An image that is done costs (short_targets + 1) (short_steps + 1) gradients and 4 forwards more,
    the others targets (steps + 1) more of each. In the modes of batch normalization where examples
    see each other all get the long runs.

    Args:
      eps: radius of the ball.
      steps: of a long run, >= 1.
      targets: classes of the long runs, >= 1; all wrong ones if there are fewer.
      short_steps: of a short run, >= 1.
      short_targets: classes of the short runs, >= 1.
      low: least ratio of margins at which an image is done, >= 0.
      high: greatest, >= low.
      norm: 'Linf' or 'L2'.
      batch_norm: mode of `robust_tf.models.BatchNormalization` in the attack: 'running' (default),
        'batch' or 'training'.

    Raises:
      ValueError: an argument outside its range.

    Source: ours, on the attacks of Croce & Hein (2020). docs/quick.md has the ratios that were
    seen.
    """

    eps: float
    steps: int = 100
    targets: int = 9
    short_steps: int = 40
    short_targets: int = 4
    low: float = 1.0
    high: float = 1.15
    norm: str = "Linf"
    batch_norm: str = "running"

    def __post_init__(self) -> None:
        check_norm("CheckedTargets", self.norm, ("Linf", "L2"))
        self._put_whole("steps", "targets", "short_steps", "short_targets")
        low = check_number("CheckedTargets", "low", self.low, 0.0, "1 is usual")
        high = check_number("CheckedTargets", "high", self.high, low, "1.15 is usual")
        self._put(eps=check_eps("CheckedTargets", self.eps, self.norm), low=low, high=high)
        check_batch_norm_mode(self.batch_norm)

    def notes(self, num_classes: int) -> list[str]:
        return self._targeted(self.steps, self.targets).notes(num_classes)

    def _targeted(self, steps: int, targets: int) -> APGDTargeted:
        # Everything is said: what a recipe binds for APGD-T alone must not change it.
        own = (self.norm, 1, 0.75, 1, self.batch_norm)
        return APGDTargeted(self.eps, steps, targets, *own)

    def run(
        self, network: Network, x: tf.Tensor, y: tf.Tensor, seed: tf.Tensor, budget: Budget
    ) -> tf.Tensor:
        seed = each(seed, tf.shape(y)[0])
        long = self._targeted(self.steps, self.targets)
        if self.batch_norm != "running":  # those that stay would see others than before
            return long.run(network, x, y, seed, budget)
        short = self._targeted(self.short_steps, self.short_targets)
        own = (self.norm, 1, 0.75, 1, self.batch_norm)
        other = APGD(self.eps, self.short_steps, "ce", *own)
        found = short.run(network, x, y, seed, budget)
        reached = margin(network(found), y)
        # Only of those that are robust, as the run of APGD-CE costs as much as one at a class.
        left = tf.where(reached > 0)[:, 0]

        def go_on() -> tf.Tensor:
            clean, labels, seeds = (tf.gather(values, left) for values in (x, y, seed))
            by_other = margin(network(other.run(network, clean, labels, seeds, budget)), labels)
            here = tf.gather(reached, left)
            unsound = (here < self.low * by_other) | (here > self.high * by_other)
            again = tf.boolean_mask(left, unsound)
            return tf.cond(tf.size(again) > 0, lambda: take(again), lambda: found)

        def take(again: tf.Tensor) -> tf.Tensor:
            clean, labels, seeds = (tf.gather(values, again) for values in (x, y, seed))
            new = long.run(network, clean, labels, seeds, budget)
            better = margin(network(new), labels) < tf.gather(reached, again)
            new = choose(better, new, tf.gather(found, again))
            return tf.tensor_scatter_nd_update(found, again[:, tf.newaxis], new)

        return tf.cond(tf.size(left) > 0, go_on, lambda: found)
