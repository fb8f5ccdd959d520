"""What an attack is: its name, the ball that it works in, whether it has an aim."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from robust_tf.attacks import Attack, GradientAttack, MultiTargeted, Transfer
from robust_tf.attacks.objectives import CrossEntropy, KLDivergence, Margin
from robust_tf.attacks.steps import CleanStart, Momentum
from robust_tf.attacks.threat import Linf
from robust_tf.evaluation.sources import SourceModel


def named(attacks: Iterable[Attack]) -> dict[str, Attack]:
    """Attacks by `name_of`, made unique by their step size or, failing that, a number."""
    plain = {attack: name_of(attack) for attack in attacks}  # the same attack twice is one attack
    names = list(plain.values())
    result: dict[str, Attack] = {}
    for attack, name in plain.items():
        inner = attack.attack if isinstance(attack, MultiTargeted) else attack
        if names.count(name) > 1 and isinstance(inner, GradientAttack):
            name += f" step={inner.step.step_size:.4g}"
        unique, number = name, 2
        while unique in result:
            unique, number = f"{name} ({number})", number + 1
        result[unique] = attack
    return result


def modules_of(attacks: Iterable[Any]) -> set[str]:
    """The modules of the classes in attacks, the library's among them."""
    found: set[str] = set()
    for value in attacks:
        found.add(type(value).__module__)
        if dataclasses.is_dataclass(value):
            parts = [getattr(value, field.name) for field in dataclasses.fields(value)]
            found |= modules_of(part for part in parts if dataclasses.is_dataclass(part))
    return found


def eps_of(attack: Attack) -> float | None:
    """The radius of the ball that an attack works in, where it has one."""
    eps = getattr(attack, "eps", None)
    return None if eps is None else float(eps)


def norm_of(attack: Attack) -> str:
    """The norm of that ball, 'Linf' where nothing is said."""
    return attack.norm


def at_eps(attack: Attack, eps: float) -> Attack:
    """The attack at another radius, > 0; its step size changes in proportion.

    Raises:
      ValueError: the attack has no eps, or cannot have this one.
    """
    own = eps_of(attack)
    if not own:
        raise ValueError(f"{name_of(attack)} has no eps > 0 that could be changed; leave eps out.")
    size = getattr(attack, "step_size", None) if attack.has_step_size else None
    return attack.at(eps, None if size is None else size * (eps / own))


def stages_of(name: str, attack: Attack) -> dict[str, Attack]:
    """The stages of the attack of this name: 'NAME: STAGE', or 'NAME' where there is but one."""
    stages = list(attack.stages())
    if len(stages) == 1:
        return {name: stages[0][1]}
    return {f"{name}: {stage_name}": stage for stage_name, stage in stages}


def check_aim(name: str, attack: Attack) -> None:
    """Raises ValueError for an attack that is targeted, and at nothing."""
    for _, stage in attack.stages():
        inner = stage.attack if isinstance(stage, Transfer) else stage
        if getattr(getattr(inner, "objective", None), "targeted", False):
            raise ValueError(
                f"{name}: a targeted attack has no target here; wrap it, MultiTargeted(attack), to "
                "run it at every wrong class."
            )


def name_of(attack: Attack) -> str:
    """A readable name: 'PGD-40 eps=0.3', 'MIM-20 multi-targeted L2 eps=0.5 restarts=5'."""
    if isinstance(attack, MultiTargeted):
        inner = name_of(attack.attack).replace(" targeted", "")
        kind, _, rest = inner.partition(" ")
        return f"{kind} multi-targeted{' logits' * attack.logits} {rest}".strip()
    if not isinstance(attack, GradientAttack):
        return _plain_name(attack)
    objective, threat = attack.objective, attack.threat
    parts = [_kind(attack)]
    if objective.targeted:
        parts.append("targeted")
    if not isinstance(threat, Linf):
        parts.append(type(threat).__name__)
    parts.append(f"eps={fraction(threat.eps)}")
    if attack.restarts > 1:
        parts.append(f"restarts={attack.restarts}")
    if attack.keep != "last":
        parts.append(f"keep={attack.keep}")
    if attack.batch_norm != "running":
        parts.append(f"batch_norm={attack.batch_norm}")
    return " ".join(parts)


def _plain_name(attack: Attack) -> str:
    """Class, eps, and whatever is not as usual: 'APGD eps=8/255 loss=dlr'."""
    parts = [type(attack).__name__]
    for field in dataclasses.fields(attack):  # type: ignore[arg-type]
        value = getattr(attack, field.name)
        if field.name == "eps":
            parts.append(f"eps={fraction(value)}")
        elif isinstance(value, Attack):
            parts.append(name_of(value))
        elif isinstance(value, SourceModel):
            parts.append(f"from {value.path}")
        elif isinstance(value, (int, float, str)) and value != field.default:
            parts.append(f"{field.name}={value}")
    return " ".join(parts)


def _kind(attack: GradientAttack) -> str:
    """FGSM, BIM-20, PGD-20, MIM-20, CW-20, TRADES-10."""
    clean = isinstance(attack.start, CleanStart)
    if isinstance(attack.step, Momentum):
        kind = "MIM"
    elif isinstance(attack.objective, Margin):
        kind = "CW"
    elif isinstance(attack.objective, KLDivergence):
        kind = "TRADES"
    elif not isinstance(attack.objective, CrossEntropy):
        kind = type(attack.objective).__name__
    elif attack.steps == 1 and attack.step.step_size >= attack.threat.eps:
        return "FGSM" if clean else "R-FGSM"
    else:
        kind = "BIM" if clean else "PGD"
    return f"{kind}-{attack.steps}"


def fraction(eps: float) -> str:
    """`eps` as n/255 where it is such a number, else as a decimal."""
    pixels = eps * 255
    if pixels >= 1 and abs(pixels - round(pixels)) < 1e-9 and float(f"{eps:.4g}") != eps:
        return f"{round(pixels)}/255"
    return f"{eps:.4g}"
