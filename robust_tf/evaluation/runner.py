"""One stage of an attack on some examples: what it makes of them, and the verdict."""

from __future__ import annotations

import dataclasses
import sys
import time
from types import TracebackType
from typing import Any

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from robust_tf.attacks import Attack
from robust_tf.attacks.randomness import each
from robust_tf.evaluation.attack_names import eps_of, norm_of
from robust_tf.evaluation.protocol import Examples, Protocol
from robust_tf.evaluation.state import EvaluationState
from robust_tf.evaluation.target_model import TargetModel


@dataclasses.dataclass(frozen=True)
class AttackRunner:
    """Makes adversarial images of an evaluation's examples, named by position, and judges them."""

    subject: TargetModel
    examples: Examples
    protocol: Protocol
    record: EvaluationState

    def stands(self, x: Any, part: np.ndarray) -> np.ndarray:
        """Whether these images, of the examples at these positions, are classified correctly."""
        return self.subject.predict(x).numpy() == self.examples.labels[part]

    def craft(self, model: Any, stage: Attack, part: np.ndarray, seed: tf.Tensor) -> np.ndarray:
        """What the attack makes of these examples; the clean image where that is not an image.

        A pixel that is not a number, or a point outside the ball, would count as broken whatever
        the model says.
        """
        seeds = each(seed, tf.constant(self.examples.numbers[part]))
        x, y = self.examples.pixels(part), tf.constant(self.examples.labels[part])
        x_adv = np.array(stage(model, x, y, seed=seeds))
        step = (x_adv.astype(np.float64) - x.numpy()).reshape(len(part), -1)
        eps = eps_of(stage)
        length = (
            np.abs(step).max(axis=1) if norm_of(stage) == "Linf" else np.linalg.norm(step, axis=1)
        )
        fits = np.isfinite(length) & (x_adv.reshape(len(part), -1).min(axis=1) >= 0)
        fits &= x_adv.reshape(len(part), -1).max(axis=1) <= 1
        if eps is not None:
            fits &= length <= eps * (1 + 1e-6)
        x_adv[~fits] = x.numpy()[~fits]
        return x_adv

    def searches(self, stage: Attack) -> bool:
        """Whether the stage runs on a copy of another precision."""
        return self.subject.searches and not stage.hard_labels

    def piece(
        self, place: str, name: str, stage: Attack, part: np.ndarray, seed: tf.Tensor, last: bool
    ) -> dict[str, Any]:
        """One stage on one batch: positions in it that broke, and what it cost."""
        began, before = time.perf_counter(), self._passes(stage)
        searches = self.searches(stage)
        model = self.subject.search if searches else self.subject.model
        x_adv = self.craft(model, stage, part, seed)
        stands = self.stands(x_adv, part)
        if searches:  # what only the copy in bfloat16 takes for broken is tried again
            again = np.flatnonzero(stands & ~self.subject.agrees(x_adv, self.examples.labels[part]))
            if len(again):
                x_adv[again] = self.craft(self.subject.model, stage, part[again], seed)
                stands[again] = self.stands(x_adv[again], part[again])
        rounded = np.zeros(0, int)
        if self.protocol.eight_bits:
            rounded = np.flatnonzero(~self.stands(self._eight_bits(x_adv, stage, part), part))
        seconds = time.perf_counter() - began
        settled = np.arange(len(part)) if last else np.flatnonzero(~stands)
        self.record.keep_images(name, place, self.examples.numbers[part[settled]], x_adv[settled])
        costs = [seconds, *(self._passes(stage) - before).tolist()]
        broken = np.flatnonzero(~stands)
        return {"broken": broken.tolist(), "rounded": rounded.tolist(), "costs": costs}

    def _eight_bits(self, x_adv: np.ndarray, stage: Attack, part: np.ndarray) -> np.ndarray:
        """Rounded to multiples of 1/255, in an L-inf ball to those inside."""
        eight, eps = np.round(x_adv * 255), eps_of(stage)
        if eps and norm_of(stage) == "Linf":
            x = self.examples.pixels(part).numpy().astype(np.float64)
            low, high = np.ceil((x - eps) * 255 - 1e-6), np.floor((x + eps) * 255 + 1e-6)
            eight = np.clip(eight, np.maximum(low, 0), np.minimum(high, 255))
        return (eight / 255).astype(np.float32)

    def _passes(self, stage: Attack) -> np.ndarray:
        models = {id(m): m for m in (self.subject.model, self.subject.search)}.values()
        return np.array(stage.passes(*models))


class Progress:
    """A bar with the robust accuracy so far and the time left, or one line at the end.

    Args:
      name: of the attack.
      examples: number of images evaluated.
      standing: number of them that the attack starts from.
      stages: number of the attack's stages.
      show: True: bar; None: bar if stderr is a terminal, else a line; False: nothing.
    """

    def __init__(self, name: str, examples: int, standing: int, stages: int, show: bool | None):
        self.name, self.examples, self.standing = name, examples, standing
        self.line = show is None and not sys.stderr.isatty()
        self.began = time.perf_counter()
        self.bar = None
        if show or (show is None and not self.line):
            self.bar = tqdm(total=standing * stages, desc=name, unit="image", file=sys.stderr)

    def done(self, images: int, broken: int, stages_left: int) -> None:
        """So many images went through a stage; `broken` of them are spared the stages left."""
        self.standing -= broken
        if self.bar is not None:
            self.bar.total -= broken * stages_left
            self.bar.set_postfix_str(f"robust {self._accuracy()}", refresh=False)
            self.bar.update(images)

    def _accuracy(self) -> str:
        return f"{100 * self.standing / self.examples:.2f} %"

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.bar is not None:
            self.bar.close()
        if self.line and kind is None:
            seconds = time.perf_counter() - self.began
            print(f"{self.name}: robust {self._accuracy()}, {seconds:.0f} s", file=sys.stderr)
