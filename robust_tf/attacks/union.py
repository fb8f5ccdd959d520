"""A threat model that is a union of balls: the worst case of attacks in several norms."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf

from robust_tf import compat, losses, registration
from robust_tf.attacks.active_set import choose
from robust_tf.attacks.autoattack import AutoAttack
from robust_tf.attacks.base import Attack, Number
from robust_tf.attacks.network import Network
from robust_tf.attacks.randomness import each
from robust_tf.attacks.threat import Budget, Threat, scalar
from robust_tf.attacks.worst_case import worst_case
from robust_tf.validation import NORMS, plain

KEEP = ("adversarial", "loss")


class AttackUnion(Attack):
    """Base of attacks on a union of balls, each of which is that of one of its `attacks`.

    Attributes:
      attacks: the members, each with a radius and a step size of its own.
    """

    attacks: Sequence[Attack | Threat]

    def __post_init__(self) -> None:
        self._put(attacks=_checked(type(self).__name__, self.attacks))

    @property
    def members(self) -> tuple[Attack, ...]:
        """The attacks, in the order in which they run."""
        return tuple(self.attacks)  # type: ignore[arg-type]

    @property
    def balls(self) -> tuple[tuple[str, float | None], ...]:
        return tuple(dict.fromkeys(ball for one in self.members for ball in one.balls))

    @property
    def norm(self) -> str:  # type: ignore[override]
        """The norms of its balls: 'Linf+L2'."""
        return "+".join(dict.fromkeys(norm for norm, _ in self.balls))

    @property
    def batch_norm(self) -> str:  # type: ignore[override]
        """That of its members."""
        return self.members[0].batch_norm

    def budget(
        self, eps: Number | None = None, step_size: Number | None = None, scale: Number = 1.0
    ) -> Budget:
        """The factor of the members' radii, and that of their step sizes: both are `scale`.

        Raises:
          ValueError: eps or a step size is given.
        """
        given = {"eps": eps, "step_size": step_size}
        for name, value in given.items():
            if value is not None:
                raise ValueError(
                    f"{type(self).__name__}({name}={value!r}): each member has its own {name}, in "
                    "the units of its norm; give it there: Union([PGD(eps=0.3, ...), "
                    "PGD(eps=2, ..., norm='L2')])."
                )
        scale = plain(scale)
        return Budget(scalar(scale, tf.float64), scalar(scale, tf.float32))

    def at(self, eps: float | None = None, step_size: float | None = None) -> Any:
        self.budget(eps, step_size)
        return self

    def notes(self, num_classes: int) -> list[str]:
        return [
            f"{name}: {note}"
            for name, one in named(self.members).items()
            for note in one.notes(num_classes)
        ]

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        return {**config, "attacks": [compat.serialize(one) for one in self.members]}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        attacks = [compat.deserialize(one) for one in config["attacks"]]
        return super().from_config({**config, "attacks": attacks})


@registration.configurable
@registration.serializable
@dataclasses.dataclass(frozen=True)
class Union(AttackUnion):
    """An image is robust only if no member changes its class: the worst case over a union of balls.

        Union([PGD(0.3, 0.01, 40), PGD(2.0, 0.1, 40, norm="L2")])
        Union([Linf(0.3), L2(2.0)])   # AutoAttack in each ball

    Each member has a radius of its own, in the units of its norm. It is given the seed of the
    whole, so it draws what it draws alone, and the verdict is the AND of the members' own. It costs
    what the members cost on the images that are robust so far.

    Args:
      attacks: the members, two or more: attacks; or balls such as `Linf(0.3)`, each of which stands
        for `AutoAttack` in it, standard version.
      keep: what is returned of the members' images. 'adversarial': the first that is adversarial,
        so that an image leaves with it; else that of the lowest margin. 'loss': that of the highest
        cross-entropy, which is what training by the maximum takes; then all members run on all
        images, and labels may be distributions over the classes where the members take them.

    Raises:
      ValueError: fewer than two members; one that is no attack, is targeted, or has another
        `batch_norm` than the first; another `keep`.

    Source: Tramer & Boneh (2019), "Adversarial Training and Robustness for Multiple Perturbations";
    Maini et al. (2020) count images the same way.
    """

    attacks: Sequence[Attack | Threat]
    keep: str = "adversarial"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.keep not in KEEP:
            raise ValueError(f"Union(keep={self.keep!r}): must be one of {KEEP}.")

    @property
    def black_box(self) -> bool:  # type: ignore[override]
        """Whether all members do without gradients."""
        return all(one.black_box for one in self.members)

    @property
    def takes_soft_labels(self) -> bool:  # type: ignore[override]
        return self.keep == "loss" and all(one.takes_soft_labels for one in self.members)

    def stages(self) -> Iterator[tuple[str, Attack]]:
        """The members, and of one that has stages (AutoAttack) each of them."""
        for name, one in named(self.members).items():
            for part, stage in one.stages():
                yield (f"{name}: {part}" if part else name), stage

    def seeded_stages(self, seed: tf.Tensor) -> Iterator[tuple[str, Attack, tf.Tensor]]:
        for name, one in named(self.members).items():
            for part, stage, own in one.seeded_stages(seed):
                yield (f"{name}: {part}" if part else name), stage, own

    def candidates(
        self, network: Network, x: tf.Tensor, y: tf.Tensor, seed: tf.Tensor, budget: Budget
    ) -> list[tf.Tensor]:
        """What each member makes of all images, in graph code: (B, H, W, C) each."""
        scale = budget.eps
        return [one.run(network, x, y, seed, one.budget(scale=scale)) for one in self.members]

    def run(
        self, network: Network, x: tf.Tensor, y: tf.Tensor, seed: tf.Tensor, budget: Budget
    ) -> tf.Tensor:
        if self.keep == "loss":
            return highest_loss(network, self.candidates(network, x, y, seed, budget), y)
        seeds = each(seed, tf.shape(y)[0])
        budgets = [one.budget(scale=budget.eps) for one in self.members]
        stages = [(one, seeds, own) for one, own in zip(self.members, budgets, strict=True)]
        return worst_case(stages, network, x, y)


def highest_loss(network: Network, candidates: Sequence[tf.Tensor], y: tf.Tensor) -> tf.Tensor:
    """For each example, of several attacks' images that of the highest cross-entropy, (B, H, W, C).

    Args:
      network: images to logits (B, C); one forward for each attack.
      candidates: the attacks' images, (B, H, W, C) each; of equal values the first counts.
      y: int32 (B,), or distributions over the classes, float32 (B, C).
    """
    worst = candidates[0]
    if len(candidates) == 1:
        return worst
    highest = losses.label_cross_entropy(network(worst), y)
    for one in candidates[1:]:
        value = losses.label_cross_entropy(network(one), y)
        take = value > highest
        worst, highest = choose(take, one, worst), tf.where(take, value, highest)
    return worst


def _checked(owner: str, attacks: Any) -> tuple[Attack, ...]:
    """The members of a union, checked; of a ball AutoAttack in it.

    Raises:
      ValueError: see `Union`.
    """
    example = "such as [PGD(eps=0.3, ...), PGD(eps=2, ..., norm='L2')]"
    if isinstance(attacks, (str, Attack, Threat)) or not isinstance(attacks, Sequence):
        raise ValueError(f"{owner}(attacks={attacks!r}): must be a list of attacks, {example}.")
    found = tuple(_member(owner, one) for one in attacks)
    if len(found) < 2:
        raise ValueError(
            f"{owner}(attacks={list(attacks)!r}): must be two attacks or more, {example}."
        )
    for one in found:
        if any(_targeted(stage) for _, stage in one.stages()):
            raise ValueError(
                f"{owner}(attacks=[..., {one!r}]): it is targeted, and a union has no targets; "
                "wrap it, MultiTargeted(attack), or give it with targeted=False."
            )
        if one.batch_norm != found[0].batch_norm:
            raise ValueError(
                f"{owner}: its members have batch_norm {found[0].batch_norm!r} and "
                f"{one.batch_norm!r}; give all of them the same."
            )
    return found


def _member(owner: str, one: Any) -> Attack:
    if isinstance(one, Attack):
        return one
    if isinstance(one, Threat) and type(one).__name__ in NORMS:
        # All is said: a default that a recipe has bound would no longer be AutoAttack.
        return AutoAttack(one.eps, type(one).__name__, "standard", "running")
    if isinstance(one, Threat):
        raise ValueError(
            f"{owner}(attacks=[..., {one!r}]): AutoAttack is for {', '.join(NORMS)}; give an "
            "attack in this ball, such as ProjectedGradient(threat, ...)."
        )
    raise ValueError(
        f"{owner}(attacks=[..., {one!r}]): must be attacks, such as PGD(eps=0.3, ...), or balls, "
        "such as Linf(0.3)."
    )


def _targeted(attack: Attack) -> bool:
    return bool(getattr(getattr(attack, "objective", None), "targeted", False))


def named(attacks: Sequence[Attack]) -> dict[str, Attack]:
    """Members by class and ball, 'PGD L2 eps=0.5'; a number behind those that are there already."""
    found: dict[str, Attack] = {}
    count: collections.Counter[str] = collections.Counter()
    for one in attacks:
        balls = " ".join(
            norm if eps is None else f"{norm} eps={eps:.4g}" for norm, eps in one.balls
        )
        name = f"{type(one).__name__} {balls}"
        count[name] += 1
        found[name if count[name] == 1 else f"{name} ({count[name]})"] = one
    return found
