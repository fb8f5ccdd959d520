"""The worst case over all evaluations of a run inside its threat model, image by image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from robust_tf.evaluation.attack_names import balls_text
from robust_tf.runs.results import Ball, Result

# Of equal radius each of these balls lies in those before it.
_NESTED = ("Linf", "L2", "L1")


def inside(attacked: Sequence[Ball], threat: Sequence[Ball] | float | None) -> bool:
    """Whether each ball of an attack lies in one of those of a threat model, as far as is known.

    Args:
      attacked: of the attack; one without a radius lies in any.
      threat: norms and radii; a number is the radius of an L-inf ball, () or None allows all.
    """
    allowed = [("Linf", threat)] if isinstance(threat, float | int) else list(threat or ())
    if not allowed:
        return True
    for norm, eps in attacked:
        if eps is None and "+" in norm:  # a union that cannot be built again
            return False
        if eps is not None and not any(_contains(ball, (norm, eps)) for ball in allowed):
            return False
    return True


def _contains(outer: Ball, inner: tuple[str, float]) -> bool:
    if outer[1] is not None and inner[1] > outer[1] * (1 + 1e-6):
        return False
    if outer[0] in _NESTED and inner[0] in _NESTED:
        return _NESTED.index(outer[0]) <= _NESTED.index(inner[0])
    return outer[0] == inner[0]


def worst_cases(
    results: Sequence[Result], threat: Sequence[Ball] | float | None
) -> list[dict[str, Any]]:
    """The worst case, image by image, over all evaluations that share their images.

    Evaluations of the first N test images of the same data share the first of them, and so do those
    of one draw, so each size gives a row: all attacks that saw at least so many images and stay
    inside the threat model. An L2 ball lies in the L-inf ball of its radius, not the other way.

    Args:
      results: of one run; defences at inference, shards and other splits are left out.
      threat: balls, norm and radius of each, as `Run.balls`; a number is the radius of an L-inf
        ball, () or None allows all attacks. A union of balls counts if all of them are inside.
        An attack that measures distances counts as far as the largest of the others in its norm.

    Returns:
      'examples', 'natural' and 'robust' bool (examples,), 'attacks' (their kinds), 'num_classes'
      (None where no file tells) and 'numbers' of the images; fewest images last, and only where
      that many images saw an attack that more of them did not. [] where there is none, see
      `why_none`.
    """
    plain = [one for one in results if one.plain]
    rows: list[dict[str, Any]] = []
    for draw in sorted({one.draw for one in plain}, reverse=True):  # those of the first images last
        rows += _worst_cases([one for one in plain if one.draw == draw], threat)
    return rows


def _worst_cases(
    plain: Sequence[Result], threat: Sequence[Ball] | float | None
) -> list[dict[str, Any]]:
    """As `worst_cases`, of results whose images are the first of one order."""
    if _differ(plain):
        return []
    rows: list[dict[str, Any]] = []
    known: set[str] = set()
    for size in sorted({len(one.evaluation) for one in plain}, reverse=True):
        those = [one for one in plain if len(one.evaluation) >= size]
        natural = np.logical_and.reduce([one.evaluation.natural[:size] for one in those])
        robust = natural.copy()
        kinds: dict[str, str] = {}
        every = [attack for one in those for attack in one.attacks]
        radii: dict[str, float] = {}
        for attack in every:
            if attack.distance is None and inside(attack.balls, threat):
                robust &= attack.robust[:size]
                kinds[repr(attack.attack or attack.name)] = attack.kind
                for norm, eps in attack.balls:
                    radii[norm] = max(eps or 0.0, radii.get(norm, 0.0))
        for attack in every:
            if attack.distance is not None and radii.get(attack.norm):
                robust &= attack.distance[:size] > radii[attack.norm]
                kinds[repr(attack.attack or attack.name)] = attack.kind
        if set(kinds) - known:
            known |= set(kinds)
            names = list(dict.fromkeys(kinds.values()))
            told = [one.evaluation.settings.get("num_classes") for one in those]
            rows.append(
                {
                    "examples": size,
                    "natural": natural,
                    "robust": robust,
                    "attacks": names,
                    "num_classes": next(filter(None, told), None),
                    "numbers": _numbers(those[0], size),
                }
            )
    return rows


def _numbers(one: Result, size: int) -> np.ndarray:
    """Which of the test images the first `size` of a result are."""
    draw = one.evaluation.settings.get("draw")
    return np.asarray(draw["numbers"][:size]) if draw else np.arange(size)


def why_none(results: Sequence[Result], threat: Sequence[Ball] | float | None) -> str:
    """Why `worst_cases` has none."""
    plain = [one for one in results if one.plain]
    if not results:
        return "not evaluated"
    if not plain:
        return "no evaluation of the network alone on the first test images"
    found = _differ(plain)
    if found:
        return f"the evaluations are of different {found}, by their fingerprints"
    if not threat:
        return "no attack"
    if isinstance(threat, float | int):
        threat = (("Linf", threat),)
    if len(threat) > 1:
        return f"no attack inside the balls of the training, {balls_text(threat)}"
    [(norm, eps)] = threat
    where = "" if norm == "Linf" else f" in {norm}"
    return f"no attack{where} with an eps up to the training's, {eps:.4g}"


def _differ(plain: Sequence[Result]) -> str:
    """'data' or 'weights', where their fingerprints say that evaluations differ in it, else ''."""
    # A run's own is of what it was trained on, too: a part of the training images is another whole.
    tests = {(one.data.get("splits") or {}).get("test") for one in plain}
    wholes = {one.data.get("fingerprint") for one in plain if not one.data.get("splits")}
    if max(len(tests - {None}), len(wholes - {None})) > 1:
        return "data"
    models = {one.evaluation.settings.get("model") for one in plain} - {None}
    return "weights" if len(models) > 1 else ""


def headline(
    results: Sequence[Result], threat: Sequence[Ball] | float | None
) -> dict[str, Any] | None:
    """The worst case to quote: of most attacks, on 500 images or more where there are so many."""
    rows = worst_cases(results, threat)
    if not rows:
        return None
    enough = min(500, rows[0]["examples"])
    return [row for row in rows if row["examples"] >= enough][-1]
