"""A training attack that overfits less than the one before: shorter steps, or more noise."""

from __future__ import annotations

import dataclasses
from typing import Any

from robust_tf.attacks import Attack, GradientAttack

# What the step is multiplied by: a long one of FGSM-RS, 2.5 eps, becomes the 1.25 eps of its paper.
SHORTER = 0.5
# What noise is multiplied by: N-FGSM's 2 eps become 3, as the paper has for stronger attacks.
NOISIER = 1.5


def soften(attack: Attack) -> Attack:
    """The attack with more noise where it has a number for that, else with shorter steps.

    The ball stays the same.

    Raises:
      ValueError: it has neither.

    Source: remedies of de Jorge et al. (2022) and Wong et al. (2020).
    """
    noise = getattr(attack, "noise", None)
    if isinstance(noise, (int, float)) and noise > 0:
        return dataclasses.replace(attack, noise=NOISIER * noise)  # type: ignore[type-var]
    if attack.has_step_size and attack.eps:
        size, sized = _step_size(attack), attack
        if isinstance(attack, GradientAttack) and "step_size" not in vars(attack):
            sized = attack.composition()  # FGSM's step is eps, whatever is said
        shorter = sized.at(step_size=SHORTER * size)
        if shorter != sized:
            return shorter
    raise ValueError(
        f"train.on_collapse='rollback': the training attack {attack!r} has neither a step size nor "
        "noise to train on with; use 'stop' or 'warn'."
    )


def described(attack: Attack) -> dict[str, Any]:
    """What `soften` changes of it: 'noise', or 'step_size'."""
    noise = getattr(attack, "noise", None)
    if isinstance(noise, (int, float)) and noise > 0:
        return {"noise": float(noise)}
    return {"step_size": _step_size(attack)}


def _step_size(attack: Attack) -> float:
    """Of the attack itself, without a warm-up."""
    size = getattr(attack, "step_size", None)
    return getattr(attack, "step_per_eps", 1.0) * attack.eps if size is None else size
