"""Checks of the verdicts: is a black-box attack stronger, do restarts help, what is missing."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from robust_tf.attacks import Attack, AutoAttack, GradientAttack, QuickEstimate
from robust_tf.attacks.objectives import Margin
from robust_tf.evaluation.attack_names import eps_of, norm_of
from robust_tf.evaluation.checks.flags import Flag, flag

# Attacks on margins, whatever their settings.
_MARGINS = (
    "APGD",
    "APGDTargeted",
    "CheckedTargets",
    "FAB",
    "FMN",
    "MultiTargeted",
    "RankedTargets",
)
# Names of the flags that `review` may find.
REVIEWED = ("black_box_stronger", "restarts_help")


@dataclasses.dataclass(frozen=True)
class Kind:
    """What a review has to know of an attack, in words and numbers that JSON can hold.

    Attributes:
      access: 'white_box', 'black_box', or 'both': whether it uses gradients.
      norm, eps: of the ball that it works in; None: it has none.
      family: the same for attacks that differ in steps and restarts alone; '' where it has no
        number of steps.
      steps, restarts: of them.
    """

    access: str
    norm: str = "Linf"
    eps: float | None = None
    family: str = ""
    steps: int = 0
    restarts: int = 0


def kind_of(attack: Attack | Kind | str) -> Kind:
    """What a review has to know of an attack, or of an access alone."""
    if isinstance(attack, Kind):
        return attack
    if isinstance(attack, str):
        return Kind(attack)
    family, steps, restarts = _effort(attack)
    return Kind(_access(attack), norm_of(attack), eps_of(attack), family, steps, restarts)


def review(
    natural: np.ndarray,
    robust: Mapping[str, np.ndarray],
    attacks: Mapping[str, Attack | Kind | str],
) -> list[Flag]:
    """Looks at the verdicts, after the attacks.

    Args:
      natural: bool (N,), whether the clean image is classified correctly.
      robust: for each attack, bool (N,), whether that held under it.
      attacks: by the same names: the attack or its kind, or 'white_box' or
        'black_box'. One that has stages of both kinds (AutoAttack) counts as neither: give its
        stages under names of their own.
    """
    kinds = {name: kind_of(attacks[name]) for name in robust}
    found = [_black_box_stronger(natural, robust, kinds), _restarts_help(robust, kinds)]
    return [one for one in found if one]


def review_balls(
    natural: np.ndarray, robust: Mapping[str, np.ndarray], kinds: Mapping[str, Kind]
) -> list[Flag]:
    """`review` of the attacks in each ball apart; of each flag, what was found last."""
    found: dict[str, Flag] = {}
    balls = {name: (kinds[name].norm, kinds[name].eps) for name in robust}
    for ball in dict.fromkeys(balls.values()):
        group = {name: robust[name] for name in balls if balls[name] == ball}
        found |= {flag.name: flag for flag in review(natural, group, kinds)}
    return list(found.values())


def weak_battery(
    attacks: Mapping[str, Attack] | Iterable[Attack], black_box: bool = False
) -> Flag | None:
    """Says what these attacks lack for a claim of robustness; None if nothing.

    A claim takes APGD on the cross-entropy, a targeted or margin attack, and a black-box one. An
    estimate of AutoAttack is none beside which AutoAttack itself was not run in the same ball.

    Args:
      attacks: all of them.
      black_box: whether the model has no gradients to follow.
    """
    given = list(attacks.values()) if isinstance(attacks, Mapping) else list(attacks)
    have = {strength for attack in given for stage in _stages(attack) for strength in _has(stage)}
    wanted = ("APGD on the cross-entropy", "a targeted or margin attack", "a black-box attack")
    missing = [strength for strength in wanted if strength not in have]
    kind = "weak_battery/black_box" if black_box else "weak_battery"
    if missing:
        return flag(kind, missing=missing)
    quoted = {(norm_of(one), eps_of(one)) for one in given if isinstance(one, AutoAttack)}
    estimates = [one for one in given if isinstance(one, QuickEstimate)]
    open_ = [one for one in estimates if (norm_of(one), eps_of(one)) not in quoted]
    return flag("weak_battery/estimate", missing=["AutoAttack"]) if open_ else None


def _black_box_stronger(
    natural: np.ndarray, robust: Mapping[str, np.ndarray], kinds: Mapping[str, Kind]
) -> Flag | None:
    """More than 0.2 points, as in AutoAttack, and two images at least."""
    white = [robust[name] for name in robust if kinds[name].access == "white_box"]
    black = {name: robust[name] for name in robust if kinds[name].access == "black_box"}
    if not white or not black:
        return None
    is_robust = np.logical_and.reduce([natural, *white])
    alone = {name: int((is_robust & ~verdict).sum()) for name, verdict in black.items()}
    images = int((is_robust & ~np.logical_and.reduce(list(black.values()))).sum())
    if images < 2 or images <= 0.002 * len(natural):
        return None
    return flag("black_box_stronger", images=images, points=100 * images / len(natural), **alone)


def _restarts_help(robust: Mapping[str, np.ndarray], kinds: Mapping[str, Kind]) -> Flag | None:
    """Five points, more than they make on a sound model, and two images at least."""
    worst, figures = 0.05, None
    for less, more in itertools.permutations([name for name in robust if kinds[name].family], 2):
        one, other = kinds[less], kinds[more]
        fewer = int(robust[less].sum()) - int(robust[more].sum())
        gain = fewer / len(robust[less])
        harder = one.steps <= other.steps and one.restarts <= other.restarts
        if one.family == other.family and harder and fewer >= 2 and gain > worst:
            worst, figures = gain, {"less": less, "more": more, "points": 100 * gain}
    return flag("restarts_help", **figures) if figures else None


def _effort(attack: Attack) -> tuple[str, int, int]:
    """A hash of what an attack is beside its number of steps and of restarts, and these."""
    parts = _parts(attack)
    config = parts.get_config()
    if config.pop("attack", None):  # what a wrapper repeats
        config.update(_parts(attack.attack).get_config())  # type: ignore[attr-defined]
    steps, restarts = config.pop("steps", None), config.pop("restarts", 1)
    if not isinstance(steps, int):
        return "", 0, 0
    for detail in ("step", "keep"):  # steps are smaller where they are more
        config.pop(detail, None)
    family = json.dumps({"kind": type(parts).__name__, **config}, sort_keys=True, default=str)
    return hashlib.sha256(family.encode()).hexdigest()[:8], steps, restarts


def _parts(attack: Attack) -> Attack:
    """The attack, a preset as its parts: PGD and CW differ in their objective alone."""
    return attack.composition() if isinstance(attack, GradientAttack) else attack


def _stages(attack: Attack) -> list[Attack]:
    """All attacks of which this one is the worst case."""
    stages = [stage for _, stage in attack.stages()]
    if stages == [attack]:
        return stages
    return [inner for stage in stages for inner in _stages(stage)]


def _access(attack: Attack) -> str:
    """'white_box', 'black_box', or 'both'."""
    kinds = {bool(getattr(stage, "black_box", False)) for stage in _stages(attack)}
    return "both" if len(kinds) > 1 else "black_box" if kinds == {True} else "white_box"


def _has(attack: Attack) -> Iterator[str]:
    """What an attack adds to a battery."""
    kind = type(attack).__name__
    if getattr(attack, "black_box", False):
        yield "a black-box attack"
    elif kind == "APGD" and getattr(attack, "loss", None) == "ce":
        yield "APGD on the cross-entropy"
    elif kind in _MARGINS or isinstance(getattr(attack, "objective", None), Margin):
        yield "a targeted or margin attack"
