"""How accurate the exported files are, clean and under attack."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from robust_tf.attacks import Attack
from robust_tf.attacks.randomness import as_seed, each, fold
from robust_tf.data import Split
from robust_tf.data.pipeline import to_unit_interval

RANGES = 200  # training images from which int8 takes its ranges


@dataclasses.dataclass(frozen=True, eq=False)
class CalibrationData:
    """What exported files are measured on.

    Attributes:
      train: of the training split; its first images give int8 its ranges.
      test: images of the test split.
      attack: an attack on the model itself; its images are shown to every file. None: natural
        accuracy alone.
      title: the attack's name.
    """

    train: Split
    test: Split
    attack: Attack | None = None
    title: str = ""

    @property
    def ranges(self) -> np.ndarray:
        """float32 images for int8."""
        return to_unit_interval(tf.constant(self.train.images[:RANGES])).numpy()


def measure(
    target: Callable[..., Any],
    runners: dict[str, Callable[[np.ndarray], np.ndarray]],
    trial: CalibrationData,
    batch_size: int = 100,
) -> dict[str, dict[str, float]]:
    """Natural and robust accuracy of each file, in [0, 1].

    The attack is found on `target`, the model that the files were made of, and transferred to the
    files: those of other precision may be broken by images made for them, so what is measured
    bounds their robustness from above.
    """
    images = to_unit_interval(tf.constant(trial.test.images)).numpy()
    right: dict[str, dict[str, list[np.ndarray]]] = {name: {} for name in runners}
    for first in range(0, len(images), batch_size):
        part = slice(first, first + batch_size)
        x, y = images[part], trial.test.labels[part]
        shown = {"natural": x}
        if trial.attack is not None:
            # As an evaluator's, for the first stage of an attack.
            seeds = each(fold(as_seed(0), 0), tf.range(first, first + len(y)))
            shown["robust"] = trial.attack(target, x, y, seed=seeds).numpy()
        for name, run in runners.items():
            hits = {what: np.argmax(run(batch), axis=1) == y for what, batch in shown.items()}
            if "robust" in hits:
                hits["robust"] &= hits["natural"]
            for what, hit in hits.items():
                right[name].setdefault(what, []).append(hit)
    return {
        name: {what: float(np.concatenate(hits).mean()) for what, hits in found.items()}
        for name, found in right.items()
    }
