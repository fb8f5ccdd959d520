"""What an evaluation found: verdicts per example, and all that is needed to repeat it."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np

from robust_tf import compat
from robust_tf.attacks import Attack


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """Verdicts over N examples.

    Attributes:
      natural: bool (N,), whether the clean image is classified correctly.
      robust: for each attack, bool (N,), whether that held under the attack as well.
      seconds: for each attack, its wall time.
      settings: JSON-ready: 'attacks' (each as Keras serialises it), 'seed', 'batch_size',
        'num_classes', 'data_hash' and 'versions'.
    """

    natural: np.ndarray
    robust: dict[str, np.ndarray]
    seconds: dict[str, float]
    settings: dict[str, Any]

    def __len__(self) -> int:
        return len(self.natural)

    @property
    def natural_accuracy(self) -> float:
        """Fraction of clean images classified correctly, in [0, 1]."""
        return float(self.natural.mean())

    def accuracy(self, name: str) -> float:
        """Fraction of images still classified correctly under the attack of this name."""
        if name not in self.robust:
            raise KeyError(f"no attack {name!r} in this evaluation; it has {list(self.robust)}.")
        return float(self.robust[name].mean())

    @property
    def worst_case(self) -> np.ndarray:
        """Whether each example withstood every attack that was run, bool (N,)."""
        return np.logical_and.reduce([self.natural, *self.robust.values()])

    @property
    def worst_case_accuracy(self) -> float:
        """The headline: an adversary takes, for each image, whatever attack works."""
        return float(self.worst_case.mean())

    def table(self) -> str:
        """Natural accuracy, each attack's, and the worst case, as text."""
        rows = [("natural", self.natural_accuracy, "")]
        for name in self.robust:
            rows.append((name, self.accuracy(name), _duration(self.seconds[name])))
        rows.append(("worst case over all", self.worst_case_accuracy, ""))
        width = max(len(name) for name, _, _ in rows)
        lines = [f"{'':{width}}  accuracy      time    ({len(self):,} images)"]
        for name, value, time in rows:
            lines.append(f"{name:{width}}  {100 * value:6.2f} %  {time:>8}".rstrip())
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """All of it, JSON-ready; `from_json` is the inverse.

        Verdicts are kept as the indices of what failed, in ranges: "3 17-20".
        """
        settings = {name: value for name, value in self.settings.items() if name != "attacks"}
        return {
            "examples": len(self),
            "natural_accuracy": self.natural_accuracy,
            "worst_case_accuracy": self.worst_case_accuracy,
            **settings,
            "misclassified": _to_ranges(~self.natural),
            "attacks": {
                name: {
                    "robust_accuracy": self.accuracy(name),
                    "seconds": round(self.seconds[name], 3),
                    "broken": _to_ranges(self.natural & ~robust),
                    "attack": self.settings["attacks"][name],
                }
                for name, robust in self.robust.items()
            },
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Evaluation:
        """Inverse of `to_json`.

        Raises:
          ValueError: `value` is not what `to_json` gives.
        """
        try:
            size, attacks = value["examples"], value["attacks"]
            natural = ~_from_ranges(value["misclassified"], size)
            derived = {"examples", "natural_accuracy", "worst_case_accuracy", "misclassified"}
            settings = {name: part for name, part in value.items() if name not in derived}
            settings["attacks"] = {name: part["attack"] for name, part in attacks.items()}
            robust = {
                name: natural & ~_from_ranges(part["broken"], size)
                for name, part in attacks.items()
            }
            seconds = {name: float(part["seconds"]) for name, part in attacks.items()}
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise ValueError(f"this is not an evaluation's JSON: {error!r}.") from error
        return cls(natural, robust, seconds, settings)


def attacks_from_json(value: dict[str, Any]) -> dict[str, Attack]:
    """The attacks of `Evaluation.to_json()`, built again, by name.

    Raises:
      ValueError: `value` is not an evaluation's, or an attack in it is not known here.
    """
    try:
        configs = {name: part["attack"] for name, part in value["attacks"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"this is not an evaluation's JSON: {error!r}.") from error
    attacks = {}
    for name, config in configs.items():
        try:
            attack = compat.deserialize(config)
        except Exception as error:  # Keras raises of every kind
            raise ValueError(f"cannot rebuild the attack {name!r}: {error}") from error
        if not isinstance(attack, Attack):
            raise ValueError(f"{name!r} is not an attack but {type(attack).__name__}.")
        attacks[name] = attack
    return attacks


def _to_ranges(mask: np.ndarray) -> str:
    """Indices where `mask` is true, e.g. '3 17-20'."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    pairs = zip(edges[::2], edges[1::2] - 1, strict=True)
    return " ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in pairs)


def _from_ranges(text: str, size: int) -> np.ndarray:
    """Inverse of `_to_ranges`, bool (size,)."""
    mask = np.zeros(size, bool)
    for part in text.split():
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, -1)
        if not first <= last < size:
            raise ValueError(f"{part!r} is not a range of indices below {size}.")
        mask[first : last + 1] = True
    return mask


def _duration(seconds: float) -> str:
    """'0.4 s', '38 s', '12 min 5 s', '1 h 3 min'."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
