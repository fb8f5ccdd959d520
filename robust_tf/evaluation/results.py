"""What an evaluation found: verdicts per example, and all that is needed to repeat it."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Sequence
from typing import Any

import numpy as np

from robust_tf.evaluation import distances
from robust_tf.evaluation.checks.flags import Flag
from robust_tf.evaluation.checks.review import Kind, review_balls
from robust_tf.ranges import from_ranges, to_ranges


@dataclasses.dataclass(frozen=True, eq=False)
class Outcome:
    """What one attack did.

    Attributes:
      robust: bool (N,), whether the clean image and the attack's are classified correctly.
      seconds: wall time.
      forwards, gradients: images that went through the model, forwards and backwards.
      details: JSON-ready: 'notes' (what the attack did otherwise than its source), 'stages' (name
        and number of images that are robust after it, of an attack made of several),
        'float32_sample' (images robust under a bfloat16 search that were attacked again in
        float32, and how many of them that changed into adversarial ones).
      eight_bits: as `robust`, the images rounded to multiples of 1/255; None if not asked for.
      stages: as `robust`, after each stage, of an attack made of several.
      alone: bool (N,), whether what the attack returns is classified correctly, whatever was
        predicted of the clean image; of attacks from another model (`Attack.judged_alone`), where
        the papers count so. Else None.
      distance: float32 (N,), of an attack that looks for the nearest adversarial image without a
        radius (`Attack.measures_distance`): how far it is, in the attack's norm; 0 where the clean
        image is misclassified, inf where none was found. `robust` is then whether none was found
        at any distance. Else None.
    """

    robust: np.ndarray
    seconds: float = 0.0
    forwards: int = 0
    gradients: int = 0
    details: dict[str, Any] = dataclasses.field(default_factory=dict)
    eight_bits: np.ndarray | None = None
    stages: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    alone: np.ndarray | None = None
    distance: np.ndarray | None = None

    def robust_within(self, eps: float) -> np.ndarray:
        """As `robust`, of an attack that measures distances if it may go no farther than eps."""
        return self.robust if self.distance is None else self.distance > eps


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

    def __repr__(self) -> str:
        rows = self._rows()
        width = max(len(name) for name, _ in rows)
        lines = [f"  {name.ljust(width)}  {value:>8}".rstrip() for name, value in rows]
        return "\n".join([f"Evaluation on {len(self):,} images", *lines, *self._flag_lines()])

    def _repr_html_(self) -> str:
        """The same for a notebook."""
        lines = [f"<b>Evaluation on {len(self):,} images</b>", "<table>"]
        for name, value in self._rows():
            lines.append(f"<tr><td>{html.escape(name)}</td><td>{value}</td></tr>")
        notes = [f"<br>{html.escape(line)}" for line in self._flag_lines()]
        return "\n".join([*lines, "</table>", *notes])

    def _rows(self, most: int = 12) -> list[tuple[str, str]]:
        """Accuracies in percent: natural, under the first attacks, and under all of them."""
        names = list(self.outcomes)
        shown = names if len(names) <= most else names[: most - 1]
        rows = [("natural", self.natural_accuracy)]
        rows += [(name, self.accuracy(name)) for name in shown]
        cells = [(name, self._found(name, accuracy)) for name, accuracy in rows]
        if len(shown) < len(names):
            cells.append((f"{len(names) - len(shown)} more attacks", ""))
        return [*cells, *self._worst_row()]

    def _found(self, name: str, accuracy: float) -> str:
        """An accuracy in percent; of an attack that measures distances, their median."""
        if name in self.distances:
            return f"median {distances.summary(self.distances[name]).median:.4g}"
        return f"{100 * accuracy:.2f} %"

    def _worst_row(self) -> list[tuple[str, str]]:
        """Nothing where all attacks measure distances: then there is a curve, and no verdict."""
        if self.outcomes and len(self.distances) == len(self.outcomes):
            return []
        return [("worst case over all", f"{100 * self.worst_case_accuracy:.2f} %")]

    def _flag_lines(self) -> list[str]:
        """The titles of the flags."""
        return [f"! {flag['title']}" for flag in self.flags]

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

    def _curve_rows(self, most: int = 8) -> list[tuple[str, str]]:
        """Points of the curves; of one from distances, so many, and those at other attacks' eps."""
        radii = {tuple(ball) for ball in self.settings.get("balls", {}).values()}
        points = []
        for norm, curve in self.curves().items():
            own = curve[1:]
            shown = {round(k) for k in np.linspace(0, len(own) - 1, min(most, len(own)))}
            for k, (eps, value) in enumerate(own):
                if k in shown or (norm, eps) in radii or len(radii) >= len(own):
                    points.append((f"worst case, {norm} eps {eps:.4g}", f"{100 * value:.2f} %"))
        return points if len(points) > 1 else []

    def table(self) -> str:
        """Natural accuracy, each attack's with its cost, the worst case and the flags, as text."""
        size = max(len(self), 1)
        rows = [("natural", f"{100 * self.natural_accuracy:.2f} %", "", "", "")]
        for name, outcome in self.outcomes.items():
            passes = outcome.forwards / size, outcome.gradients / size
            forwards, gradients = (f"{count:,.0f}" if count else "" for count in passes)
            accuracy = self._found(name, self.accuracy(name))
            rows.append((name, accuracy, _duration(outcome.seconds), forwards, gradients))
            if self.settings.get("balls", {}).get(name, ["", 0])[1] is None:  # of a union
                for stage, verdict in outcome.stages.items():
                    rows.append((f"  after {stage}", f"{100 * verdict.mean():.2f} %", "", "", ""))
            if outcome.eight_bits is not None:
                rounded = f"{100 * outcome.eight_bits.mean():.2f} %"
                rows.append((f"{name}, rounded to 8 bits", rounded, "", "", ""))
            if outcome.alone is not None:
                alone = f"{100 * outcome.alone.mean():.2f} %"
                rows.append((f"{name}, attacked image alone", alone, "", "", ""))
            if name in self.distances and outcome.robust.any():
                rows.append(
                    (f"{name}, none found", f"{100 * outcome.robust.mean():.2f} %", "", "", "")
                )
        rows += [(*row, "", "", "") for row in [*self._curve_rows(), *self._worst_row()]]
        head = ("", "accuracy", "time", "forwards", "gradients")
        widths = [max(len(row[k]) for row in [head, *rows]) for k in range(5)]

        def line(row: Sequence[str]) -> str:
            cells = [row[0].ljust(widths[0])]
            cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
            return "  ".join(cells).rstrip()

        lines = [f"{line(head)}    per image; {len(self):,} images", *map(line, rows)]
        for name, outcome in self.outcomes.items():
            lines += [f"note: {name}: {note}" for note in outcome.details.get("notes", [])]
        for flag in self.flags:
            figures = ", ".join(f"{name} {_listed(v)}" for name, v in flag["figures"].items())
            lines += [f"! {flag['title']} ({figures})" if figures else f"! {flag['title']}"]
            lines += [f"  {flag['explanation']}", f"  {flag['advice']}"]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """All of it, JSON-ready; `from_json` is the inverse.

        Verdicts are kept as the positions of what failed, in ranges: "3 17-20"; distances one for
        each example, divided by spaces.
        """
        settings = {name: value for name, value in self.settings.items() if name != "attacks"}
        attacks = {}
        for name, outcome in self.outcomes.items():
            attacks[name] = {
                "robust_accuracy": self.accuracy(name),
                "seconds": round(outcome.seconds, 3),
                "forwards": outcome.forwards,
                "gradients": outcome.gradients,
                "broken": to_ranges(self.natural & ~outcome.robust),
                **outcome.details,
                "attack": self.settings["attacks"][name],
            }
            if outcome.eight_bits is not None:
                attacks[name]["broken_after_rounding"] = to_ranges(
                    self.natural & ~outcome.eight_bits
                )
            if outcome.alone is not None:
                attacks[name]["accuracy_alone"] = float(outcome.alone.mean())
                attacks[name]["misclassified_alone"] = to_ranges(~outcome.alone)
            if outcome.distance is not None:
                attacks[name]["distance"] = {
                    "norm": self.settings["balls"][name][0],
                    **distances.summary(outcome.distance).to_json(),
                    "values": distances.to_text(outcome.distance),
                }
            before = [self.natural, *outcome.stages.values()]
            pairs = zip(before, outcome.stages.items(), strict=False)
            own = {stage: to_ranges(earlier & ~verdict) for earlier, (stage, verdict) in pairs}
            if own:
                attacks[name]["broken_by_stage"] = own
        return {
            "examples": len(self),
            "natural_accuracy": self.natural_accuracy,
            "worst_case_accuracy": self.worst_case_accuracy,
            "curves": {n: [list(point) for point in curve] for n, curve in self.curves().items()},
            **settings,
            "misclassified": to_ranges(~self.natural),
            "attacks": attacks,
            "flags": self.flags,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Evaluation:
        """Inverse of `to_json`.

        Raises:
          ValueError: `value` is not what `to_json` gives.
        """
        own = {"robust_accuracy", "seconds", "forwards", "gradients", "broken", "attack"}
        own |= {"broken_after_rounding", "broken_by_stage", "accuracy_alone", "misclassified_alone"}
        own |= {"distance"}
        try:
            size, attacks = value["examples"], value["attacks"]
            natural = ~from_ranges(value["misclassified"], size)
            derived = {"examples", "natural_accuracy", "worst_case_accuracy", "misclassified"}
            derived |= {"curves", "flags"}
            settings = {name: part for name, part in value.items() if name not in derived}
            settings["attacks"] = {name: part["attack"] for name, part in attacks.items()}
            if "kinds" in settings:
                settings["kinds"] = {n: _kind(kind) for n, kind in settings["kinds"].items()}
            outcomes = {}
            for name, part in attacks.items():
                rounded, alone = part.get("broken_after_rounding"), part.get("misclassified_alone")
                stages, is_robust = {}, natural
                measured = part.get("distance")
                for stage, ranges in part.get("broken_by_stage", {}).items():
                    is_robust = stages[stage] = is_robust & ~from_ranges(ranges, size)
                outcomes[name] = Outcome(
                    natural & ~from_ranges(part["broken"], size),
                    float(part["seconds"]),
                    int(part.get("forwards", 0)),
                    int(part.get("gradients", 0)),
                    {key: detail for key, detail in part.items() if key not in own},
                    None if rounded is None else natural & ~from_ranges(rounded, size),
                    stages,
                    None if alone is None else ~from_ranges(alone, size),
                    None if measured is None else _distances(measured["values"], size),
                )
            flags = value.get("flags", [])
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise ValueError(f"this is not an evaluation's JSON: {error!r}.") from error
        return cls(natural, outcomes, settings, flags)


def _kind(kind: dict[str, Any]) -> dict[str, Any]:
    """The kind of an attack as written today; version 0.1 wrote 'colour', 'white' or 'black'."""
    if "colour" not in kind:
        return kind
    access = {"white": "white_box", "black": "black_box"}.get(kind["colour"], kind["colour"])
    return {"access": access, **{name: value for name, value in kind.items() if name != "colour"}}


def _distances(text: str, size: int) -> np.ndarray:
    """Distances of `size` examples, from text."""
    found = distances.from_text(text)
    if len(found) != size:
        raise ValueError(f"there are {len(found)} distances of {size} examples.")
    return found


def _duration(seconds: float) -> str:
    """'0.4 s', '38 s', '12 min 5 s', '1 h 3 min'."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _listed(value: Any) -> str:
    """A figure of a flag as text; several by name."""
    return "; ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
