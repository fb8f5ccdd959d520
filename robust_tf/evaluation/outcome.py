"""What one attack of an evaluation did, example by example."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np


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
