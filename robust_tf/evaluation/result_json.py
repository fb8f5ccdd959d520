"""The JSON of an evaluation, which results, runs and studies keep: written and read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from robust_tf.evaluation import distances
from robust_tf.evaluation.outcome import Outcome
from robust_tf.ranges import from_ranges, to_ranges

if TYPE_CHECKING:
    from robust_tf.evaluation.results import Evaluation


def to_json(result: Evaluation) -> dict[str, Any]:
    """See `Evaluation.to_json`."""
    settings = {name: value for name, value in result.settings.items() if name != "attacks"}
    attacks = {}
    for name, outcome in result.outcomes.items():
        attacks[name] = {
            "robust_accuracy": result.accuracy(name),
            "seconds": round(outcome.seconds, 3),
            "forwards": outcome.forwards,
            "gradients": outcome.gradients,
            "broken": to_ranges(result.natural & ~outcome.robust),
            **outcome.details,
            "attack": result.settings["attacks"][name],
        }
        if outcome.eight_bits is not None:
            attacks[name]["broken_after_rounding"] = to_ranges(result.natural & ~outcome.eight_bits)
        if outcome.alone is not None:
            attacks[name]["accuracy_alone"] = float(outcome.alone.mean())
            attacks[name]["misclassified_alone"] = to_ranges(~outcome.alone)
        if outcome.distance is not None:
            attacks[name]["distance"] = {
                "norm": result.settings["balls"][name][0],
                **distances.summary(outcome.distance).to_json(),
                "values": distances.to_text(outcome.distance),
            }
        before = [result.natural, *outcome.stages.values()]
        pairs = zip(before, outcome.stages.items(), strict=False)
        own = {stage: to_ranges(earlier & ~verdict) for earlier, (stage, verdict) in pairs}
        if own:
            attacks[name]["broken_by_stage"] = own
    return {
        "examples": len(result),
        "natural_accuracy": result.natural_accuracy,
        "worst_case_accuracy": result.worst_case_accuracy,
        "curves": {n: [list(point) for point in curve] for n, curve in result.curves().items()},
        **settings,
        "misclassified": to_ranges(~result.natural),
        "attacks": attacks,
        "flags": result.flags,
    }


def from_json(value: dict[str, Any]) -> dict[str, Any]:
    """The fields of the `Evaluation` that `to_json` was given.

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
    return {"natural": natural, "outcomes": outcomes, "settings": settings, "flags": flags}


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
