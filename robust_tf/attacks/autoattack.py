"""AutoAttack: a fixed sequence of attacks without parameters to choose."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from robust_tf import registration
from robust_tf.attacks.active_set import choose
from robust_tf.attacks.apgd import APGD, APGDTargeted
from robust_tf.attacks.base import Attack
from robust_tf.attacks.fab import FAB
from robust_tf.attacks.network import Network
from robust_tf.attacks.objectives import is_misclassified, margin
from robust_tf.attacks.randomness import each
from robust_tf.attacks.square import Square
from robust_tf.attacks.threat import Budget
from robust_tf.models.forward import check_batch_norm_mode
from robust_tf.validation import check_eps, check_norm

VERSIONS = ("standard", "plus", "rand")


@registration.configurable
@registration.serializable
@dataclasses.dataclass(frozen=True)
class AutoAttack(Attack):
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

    def _budget_of(self, stage: Attack, budget: Budget) -> Budget:
        """What a stage may do: its share of the whole's radius."""
        eps = budget.eps * (stage.eps / self.eps)
        own = getattr(stage, "step_size", None)
        step_size = eps if own is None else budget.eps * (own / self.eps)
        return Budget(eps, tf.cast(step_size, tf.float32))

    def notes(self, num_classes: int) -> list[str]:
        return [
            f"{name}: {note}"
            for name, attack in self.stages()
            for note in attack.notes(num_classes)
        ]

    def run(
        self, network: Network, x: tf.Tensor, y: tf.Tensor, seed: tf.Tensor, budget: Budget
    ) -> tf.Tensor:
        def stage(
            attack: Attack, seed: tf.Tensor, active: tf.Tensor, x_adv: tf.Tensor, margins: tf.Tensor
        ) -> tuple:
            """Which examples are robust, the images and their margins after one more attack."""
            clean, labels, seeds = (tf.gather(rows, active) for rows in (x, y, seed))
            found = attack.run(network, clean, labels, seeds, self._budget_of(attack, budget))
            logits = network(found)
            is_adversarial = is_misclassified(logits, labels)
            reached, before = margin(logits, labels), tf.gather(margins, active)
            take = tf.logical_or(is_adversarial, reached < before)
            found = choose(take, found, tf.gather(x_adv, active))
            where = active[:, tf.newaxis]
            return (
                tf.boolean_mask(active, tf.logical_not(is_adversarial)),
                tf.tensor_scatter_nd_update(x_adv, where, found),
                tf.tensor_scatter_nd_update(margins, where, tf.minimum(reached, before)),
            )

        state = tf.range(tf.shape(y)[0]), x, tf.fill(tf.shape(y), float("inf"))
        for _, attack, own in self.seeded_stages(each(seed, tf.shape(y)[0])):
            # No stage is run on an empty batch, of which batch normalization may know no mean.
            state = tf.cond(
                tf.size(state[0]) > 0,
                lambda attack=attack, own=own, state=state: stage(attack, own, *state),
                lambda state=state: state,
            )
        return state[1]
