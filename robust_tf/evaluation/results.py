"""What an evaluation found: verdicts per example, and all that is needed to repeat it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from robust_tf.evaluation import distances, result_json, result_text
from robust_tf.evaluation.checks.flags import Flag
from robust_tf.evaluation.checks.review import Kind, review_balls
from robust_tf.evaluation.outcome import Outcome


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """Verdicts over N examples.

    Attributes:
      natural: bool (N,), whether the clean image is classified correctly.
      outcomes: what each attack did, by name.
      settings: JSON-ready: 'attacks' (each as Keras serialises it), their 'balls' (norm and
        eps), the 'kinds' of their stages (see `checks.review.Kind`), the protocol, the 'model' and
        the 'sources' of transfer attacks by their fingerprints, 'num_classes', 'data_hash' and
        'versions'.
      flags: signs that the evaluation may be too weak, each with name, title, explanation and
        advice.
    """

    natural: np.ndarray
    outcomes: dict[str, Outcome]
    settings: dict[str, Any]
    flags: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def __len__(self) -> int:
        return len(self.natural)

    @property
    def robust(self) -> dict[str, np.ndarray]:
        """For each attack, bool (N,): whether each example is robust under it."""
        return {name: outcome.robust for name, outcome in self.outcomes.items()}

    @property
    def distances(self) -> dict[str, np.ndarray]:
        """How far the nearest adversarial images are, of each attack that looks for them."""
        found = {name: outcome.distance for name, outcome in self.outcomes.items()}
        return {name: distance for name, distance in found.items() if distance is not None}

    @property
    def stages(self) -> dict[str, np.ndarray]:
        """As `robust`, but after each stage of an attack that has several: 'NAME: STAGE'."""
        verdicts: dict[str, np.ndarray] = {}
        for name, outcome in self.outcomes.items():
            stages = {f"{name}: {stage}": verdict for stage, verdict in outcome.stages.items()}
            verdicts |= stages or {name: outcome.robust}
        return verdicts

    @property
    def natural_accuracy(self) -> float:
        """Fraction of clean images classified correctly, in [0, 1]."""
        return float(self.natural.mean())

    def accuracy(self, name: str) -> float:
        """Fraction of images still classified correctly under the attack of this name.

        Of one that measures distances, those without an adversarial image at any distance.
        """
        if name not in self.outcomes:
            raise KeyError(f"no attack {name!r} in this evaluation; it has {list(self.outcomes)}.")
        return float(self.outcomes[name].robust.mean())

    @property
    def worst_case(self) -> np.ndarray:
        """Whether each example is robust under every attack that was run, bool (N,).

        Where the attacks have radii, one without, which measures distances, counts as far as the
        largest radius in its norm, and not where there is none in it. Where no attack has a radius,
        every adversarial image counts, at whatever distance.
        """
        balls = self.settings.get("balls", {})
        radii = [tuple(ball) for ball in balls.values() if ball[1]]
        largest = {norm: eps for norm, eps in sorted(radii)}
        verdicts = [self.natural]
        for name, outcome in self.outcomes.items():
            if outcome.distance is None or not largest:
                verdicts.append(outcome.robust)
            elif balls[name][0] in largest:
                verdicts.append(outcome.robust_within(largest[balls[name][0]]))
        return np.logical_and.reduce(verdicts)

    @property
    def worst_case_accuracy(self) -> float:
        """The number to report: an adversary takes, for each image, whatever attack works."""
        return float(self.worst_case.mean())

    def review(self) -> list[Flag]:
        """Signs of masked gradients in the verdicts; what works in one ball is compared.

        A stage that follows others in another ball (of a union) saw what they left, and is compared
        with its like on those images alone.
        """
        kinds = {name: Kind(**kind) for name, kind in self.settings.get("kinds", {}).items()}
        whole: dict[str, np.ndarray] = {}
        found: dict[str, Flag] = {}
        for name, outcome in self.outcomes.items():
            stages = outcome.stages or {"": outcome.robust}
            before, balls = self.natural, []
            parts: list[tuple[np.ndarray, dict[str, np.ndarray]]] = []
            for stage, verdict in stages.items():
                full = f"{name}: {stage}" if stage else name
                if full in kinds:
                    balls.append((kinds[full].norm, kinds[full].eps))
                    if len(balls) == 1 or balls[-1] != balls[-2]:
                        parts.append((before, {}))
                    parts[-1][1][full] = verdict
                before = verdict
            if parts:
                whole |= parts[0][1]
            for reached, verdicts in parts[1:]:
                found |= {one.name: one for one in review_balls(reached, verdicts, kinds)}
        found |= {one.name: one for one in review_balls(self.natural, whole, kinds)}
        return list(found.values())

    def curves(self) -> dict[str, list[tuple[float, float]]]:
        """Robustness curves: for each norm (eps, worst-case accuracy over attacks up to that eps).

        Each begins with eps 0, the natural accuracy. An attack that measures distances counts at
        every eps, and adds those at which its own accuracy falls, of many images 40 of them; other
        attacks without an eps are left out.
        """
        balls, measured = self.settings.get("balls", {}), self.distances
        radii: dict[str, set[float]] = {}
        for name, (norm, eps) in balls.items():
            own = distances.radii_of(measured[name]) if name in measured else [eps] if eps else []
            if own or name in measured:
                radii.setdefault(norm, set()).update(own)
        result: dict[str, list[tuple[float, float]]] = {}
        for norm in sorted(radii):
            result[norm] = [(0.0, self.natural_accuracy)]
            for eps in sorted(radii[norm]):
                inside = [
                    outcome.robust_within(eps)
                    for name, outcome in self.outcomes.items()
                    if balls[name][0] == norm
                    and (name in measured or 0 < (balls[name][1] or 0) <= eps)
                ]
                worst = np.logical_and.reduce([self.natural, *inside])
                result[norm].append((eps, float(worst.mean())))
        return result

    def __repr__(self) -> str:
        return result_text.brief(self)

    def _repr_html_(self) -> str:
        """As HTML, for a notebook."""
        return result_text.brief_html(self)

    def table(self) -> str:
        """Natural accuracy, each attack's with its cost, the worst case and the flags, as text."""
        return result_text.table(self)

    def to_json(self) -> dict[str, Any]:
        """All of it, JSON-ready; `from_json` is the inverse.

        Verdicts are kept as the positions of what failed, in ranges: "3 17-20"; distances one for
        each example, divided by spaces.
        """
        return result_json.to_json(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Evaluation:
        """Inverse of `to_json`.

        Raises:
          ValueError: `value` is not what `to_json` gives.
        """
        return cls(**result_json.from_json(value))
