"""Runs one stage of an attack on a batch of examples, judges the images, and shows progress."""

from __future__ import annotations

import dataclasses
import sys
import time
from typing import Any

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from robust_tf.attacks import Attack
from robust_tf.attacks.randomness import each
from robust_tf.evaluation.attack_names import eps_of, norm_of
from robust_tf.evaluation.distances import length_of, rounded_up, to_text
from robust_tf.evaluation.memory import Memory
from robust_tf.evaluation.protocol import Examples, Protocol
from robust_tf.evaluation.state import EvaluationState
from robust_tf.evaluation.target_model import TargetModel


@dataclasses.dataclass(frozen=True)
class AttackRunner:
    """Attacks examples of an evaluation, given by their positions, and judges the images.

    Attributes:
      target: the model under evaluation.
      examples: all of them.
      protocol: settings.
      state: where adversarial images are kept.
      memory: what has fitted into it so far.
    """

    target: TargetModel
    examples: Examples
    protocol: Protocol
    state: EvaluationState
    memory: Memory

    def is_correct(self, x: Any, part: np.ndarray) -> np.ndarray:
        """Whether images x of the examples at these positions are classified correctly, (B,)."""
        return self.target.predict(x).numpy() == self.examples.labels[part]

    def generate(self, model: Any, stage: Attack, part: np.ndarray, seed: tf.Tensor) -> np.ndarray:
        """What the attack makes of these examples; the clean image where that is not an image.

        A pixel that is not a number, or a point outside the ball, would count as adversarial
        whatever the model says.
        """
        seeds = each(seed, tf.constant(self.examples.numbers[part]))
        x, y = self.examples.pixels(part), tf.constant(self.examples.labels[part])
        x_adv = np.array(stage(model, x, y, seed=seeds))
        step = (x_adv.astype(np.float64) - x.numpy()).reshape(len(part), -1)
        fits = np.isfinite(step).all(axis=1) & (x_adv.reshape(len(part), -1).min(axis=1) >= 0)
        fits &= x_adv.reshape(len(part), -1).max(axis=1) <= 1
        inside = [
            length_of(step, norm) <= (np.inf if eps is None else eps * (1 + 1e-6))
            for norm, eps in stage.balls
        ]
        fits &= np.logical_or.reduce(inside)  # of a union, in one of its balls
        x_adv[~fits] = x.numpy()[~fits]
        return x_adv

    def searches(self, stage: Attack) -> bool:
        """Whether the stage runs on a copy of another precision.

        Those that end at the boundary do not: it is another one there.
        """
        return self.target.searches and not (stage.hard_labels or stage.measures_distance)

    def run_stage(
        self, place: str, name: str, stage: Attack, part: np.ndarray, seed: tf.Tensor, last: bool
    ) -> dict[str, Any]:
        """`_run_stage`, in parts where memory does not suffice for the batch."""

        def work(positions: np.ndarray) -> dict[str, Any]:
            return self._run_stage(place, name, stage, positions, seed, last)

        return _joined(self.memory.run(name, work, part))

    def _run_stage(
        self, place: str, name: str, stage: Attack, part: np.ndarray, seed: tf.Tensor, last: bool
    ) -> dict[str, Any]:
        """One stage on one batch, as JSON: positions of adversarial images in it, and the cost.

        Args:
          place: of the stage among the attack's, for the files of images.
          name: of the attack.
          stage: what runs.
          part: positions of the examples.
          seed: of the stage, int32 (2,).
          last: no other stage follows: images that are still robust are kept, too.

        Returns:
          'broken' and 'rounded', positions in `part` whose image is adversarial, as it is and
          rounded to 8 bits; 'costs', seconds, forwards and gradients; 'distances' of the images, as
          text, if the stage measures them.
        """
        began, before = time.perf_counter(), self._passes(stage)
        searches = self.searches(stage)
        model = self.target.search if searches else self.target.model
        x_adv = self.generate(model, stage, part, seed)
        is_robust = self.is_correct(x_adv, part)
        if searches:  # what is adversarial for the copy in bfloat16 alone is attacked again
            claimed = ~self.target.agrees(x_adv, self.examples.labels[part])
            again = np.flatnonzero(is_robust & claimed)
            if len(again):
                x_adv[again] = self.generate(self.target.model, stage, part[again], seed)
                is_robust[again] = self.is_correct(x_adv[again], part[again])
        rounded = np.zeros(0, int)
        if self.protocol.eight_bits:
            rounded = np.flatnonzero(~self.is_correct(self._eight_bits(x_adv, stage, part), part))
        seconds = time.perf_counter() - began
        adversarial = np.flatnonzero(~is_robust)
        settled = np.arange(len(part)) if last else adversarial
        self.state.save_images(name, place, self.examples.numbers[part[settled]], x_adv[settled])
        costs = [seconds, *(self._passes(stage) - before).tolist()]
        broken = adversarial.tolist()
        piece: dict[str, Any] = {"broken": broken, "rounded": rounded.tolist(), "costs": costs}
        if stage.measures_distance:
            step = x_adv.astype(np.float64) - self.examples.pixels(part).numpy()
            length = length_of(step.reshape(len(part), -1), norm_of(stage))
            piece["distances"] = to_text(rounded_up(np.where(is_robust, np.inf, length)))
        return piece

    def run_misclassified(
        self, name: str, attack: Attack, part: np.ndarray, seed: tf.Tensor
    ) -> dict[str, Any]:
        """`_run_misclassified`, in parts where memory does not suffice for the batch."""

        def work(positions: np.ndarray) -> dict[str, Any]:
            return self._run_misclassified(attack, positions, seed)

        return _joined(self.memory.run(name, work, part))

    def _run_misclassified(
        self, attack: Attack, part: np.ndarray, seed: tf.Tensor
    ) -> dict[str, Any]:
        """An attack on examples whose clean image is misclassified, as JSON.

        Returns:
          'right', positions in `part` whose image is classified correctly afterwards; 'costs' as
          `run_stage`.
        """
        began, before = time.perf_counter(), self._passes(attack)
        x_adv = self.generate(self.target.model, attack, part, seed)
        right = np.flatnonzero(self.is_correct(x_adv, part)).tolist()
        seconds = time.perf_counter() - began
        return {"right": right, "costs": [seconds, *(self._passes(attack) - before).tolist()]}

    def _eight_bits(self, x_adv: np.ndarray, stage: Attack, part: np.ndarray) -> np.ndarray:
        """Rounded to multiples of 1/255, in an L-inf ball to those inside."""
        eight, eps = np.round(x_adv * 255), eps_of(stage)
        if eps and norm_of(stage) == "Linf":
            x = self.examples.pixels(part).numpy().astype(np.float64)
            low, high = np.ceil((x - eps) * 255 - 1e-6), np.floor((x + eps) * 255 + 1e-6)
            eight = np.clip(eight, np.maximum(low, 0), np.minimum(high, 255))
        return (eight / 255).astype(np.float32)

    def _passes(self, stage: Attack) -> np.ndarray:
        models = {id(m): m for m in (self.target.model, self.target.search)}.values()
        return np.array(stage.passes(*models))


def _joined(pieces: list[tuple[int, dict[str, Any]]]) -> dict[str, Any]:
    """The piece of a batch from those of its parts, each with the place where it begins."""
    first, *others = pieces
    whole = dict(first[1])
    for begin, piece in others:
        for key, value in piece.items():
            if key == "costs":
                whole[key] = [a + b for a, b in zip(whole[key], value, strict=True)]
            elif key == "distances":
                whole[key] = f"{whole[key]} {value}"
            else:
                whole[key] = whole[key] + [begin + position for position in value]
    return whole


class Progress:
    """A bar with the robust accuracy so far and the time left, or one line at the end.

    Args:
      name: of the attack.
      examples: number of images evaluated.
      robust: number of them that the attack starts from.
      stages: number of the attack's stages.
      show: True: bar; None: bar if stderr is a terminal, else a line; False: nothing.
    """

    def __init__(self, name: str, examples: int, robust: int, stages: int, show: bool | None):
        self.name, self.examples, self.robust = name, examples, robust
        self.line = show is None and not sys.stderr.isatty()
        self.began = time.perf_counter()
        self.bar = None
        if show or (show is None and not self.line):
            self.bar = tqdm(total=robust * stages, desc=name, unit="image", file=sys.stderr)

    def done(self, images: int, adversarial: int, stages_left: int) -> None:
        """So many images went through a stage; the adversarial ones skip the stages left."""
        self.robust -= adversarial
        if self.bar is not None:
            self.bar.total -= adversarial * stages_left
            self.bar.set_postfix_str(f"robust {self._accuracy()}", refresh=False)
            self.bar.update(images)

    def _accuracy(self) -> str:
        return f"{100 * self.robust / self.examples:.2f} %"

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.close()
        if self.line and error[0] is None:
            seconds = time.perf_counter() - self.began
            print(f"{self.name}: robust {self._accuracy()}, {seconds:.0f} s", file=sys.stderr)
