"""One evaluation while it runs: clean images, signs in the model, one attack after the other."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from robust_tf import compat
from robust_tf.attacks import Attack
from robust_tf.attacks.input_range import IMAGES, at_chance, warn_of_range
from robust_tf.attacks.randomness import as_seed
from robust_tf.evaluation import checks as signs
from robust_tf.evaluation.attack_names import eps_of, norm_of, stages_of
from robust_tf.evaluation.distances import from_text
from robust_tf.evaluation.memory import Memory
from robust_tf.evaluation.outcome import Outcome
from robust_tf.evaluation.protocol import Examples, Protocol
from robust_tf.evaluation.runner import AttackRunner, Progress
from robust_tf.evaluation.state import EvaluationState
from robust_tf.evaluation.target_model import TargetModel
from robust_tf.version import __version__


@dataclasses.dataclass
class EvaluationRun:
    """One evaluation while it runs: what its state has is not done again.

    Attributes:
      target: the model.
      sources: fingerprints of the models that transfer attacks are made on, by attack.
      examples: on which.
      protocol: how.
      state: finished pieces.
      progress: see `evaluate`.
      memory: sizes of batches that fit.
    """

    target: TargetModel
    sources: dict[str, str | None]
    examples: Examples
    protocol: Protocol
    state: EvaluationState
    progress: bool | None
    memory: Memory = dataclasses.field(default_factory=Memory)

    @property
    def runner(self) -> AttackRunner:
        return AttackRunner(self.target, self.examples, self.protocol, self.state, self.memory)

    def settings(self, attacks: dict[str, Attack]) -> dict[str, Any]:
        """All that the result depends on, JSON-ready."""
        protocol = dataclasses.asdict(self.protocol)
        seed = {"seed": protocol.pop("draw_seed"), "by": protocol.pop("draw")}
        if self.examples.drawn is not None:  # else they are the first, as those of earlier versions
            protocol["draw"] = {**seed, "numbers": self.examples.drawn.tolist()}
        if self.protocol.shard:
            protocol["shard"] = list(self.protocol.shard)
        stages: dict[str, Attack] = {}
        for name, attack in attacks.items():
            stages |= stages_of(name, attack)
        return {
            **protocol,
            "total_examples": self.examples.total,
            "model": self.target.fingerprint,
            "sources": self.sources,
            "num_classes": self.target.num_classes,
            "data_hash": self.examples.fingerprint,
            "versions": {
                "robust_tf": __version__,
                "tensorflow": tf.__version__,
                "keras": keras.__version__,
            },
            "balls": {n: [norm_of(attack), eps_of(attack)] for n, attack in attacks.items()},
            "kinds": {n: dataclasses.asdict(signs.kind_of(one)) for n, one in stages.items()},
            "attacks": {name: compat.serialize(attack) for name, attack in attacks.items()},
        }

    def natural(self) -> np.ndarray:
        """Whether each clean image is classified correctly; a continued run keeps its verdict."""
        right = np.zeros(len(self.examples), bool)
        known = self.state.get("natural")
        if known is None:
            predictions = np.zeros(len(self.examples), np.int32)
            for part in self._chunks(np.arange(len(self.examples))):
                found = self.memory.run("clean images", self._predictions, part)
                predictions[part] = np.concatenate([those for _, those in found])
            known = np.flatnonzero(predictions == self.examples.labels).tolist()
            collapsed = signs.collapsed_class(predictions, self.examples.labels)
            self.state.put("collapsed", collapsed)
            self.state.put("natural", known)
            few = np.arange(min(IMAGES, self.protocol.batch_size, len(self.examples)))
            if at_chance(predictions == self.examples.labels, self.target.num_classes):
                warn_of_range(
                    lambda x: self.target.predict(x).numpy(),
                    self.examples.pixels(few).numpy(),
                    self.examples.labels[few],
                    self.target.num_classes,
                )
        right[known] = True
        return right

    def _predictions(self, part: np.ndarray) -> np.ndarray:
        return self.target.predict(self.examples.pixels(part)).numpy()

    def inspect(self, attacks: dict[str, Attack]) -> list[signs.Flag]:
        """Looks at the model on a few images before the attacks, in every norm of theirs."""
        balls: dict[str, float] = {}
        for attack in attacks.values():
            for norm, eps in attack.balls:
                if eps:
                    balls[norm] = max(eps, balls.get(norm, 0.0))
        collapsed = self.state.get("collapsed")
        if not balls and collapsed is None:
            return []
        sample = np.arange(min(signs.EXAMPLES, len(self.examples)))
        x, y = self.examples.pixels(sample), self.examples.labels[sample]
        return signs.inspect(self.target.model, x, y, balls, self.protocol.seed, collapsed)

    def attack(self, name: str, attack: Attack, natural: np.ndarray) -> Outcome:
        """One attack on all images that are classified correctly."""
        rounded = natural.copy() if self.protocol.eight_bits else None
        distance = np.zeros(len(natural), np.float32) if attack.measures_distance else None
        outcome = Outcome(natural.copy(), eight_bits=rounded, distance=distance)
        stages = list(attack.seeded_stages(as_seed(self.protocol.seed)))
        details: dict[str, Any] = {}
        if notes := attack.notes(self.target.num_classes):
            details["notes"] = notes
        totals = np.zeros(3)  # seconds, forwards, gradients
        with Progress(name, len(natural), int(natural.sum()), len(stages), self.progress) as report:
            for index, (stage_name, stage, seed) in enumerate(stages):
                last = index == len(stages) - 1
                for part in self._chunks(np.flatnonzero(outcome.robust)):
                    key = f"{name}/{index}/{part[0]}"
                    piece = self.state.get(key)
                    if piece is None:
                        piece = self.runner.run_stage(
                            f"stage{index}", name, stage, part, seed, last
                        )
                        self.state.put(key, piece)
                    adversarial = part[piece["broken"]]
                    outcome.robust[adversarial] = False
                    if outcome.eight_bits is not None:
                        outcome.eight_bits[part[piece["rounded"]]] = False
                    if distance is not None:
                        distance[part] = from_text(piece["distances"])
                    totals += piece["costs"]
                    report.done(len(part), len(adversarial), len(stages) - index - 1)
                if len(stages) > 1:
                    outcome.stages[stage_name] = outcome.robust.copy()
            alone = None
            if attack.judged_alone:
                alone = np.zeros(len(natural), bool)
                for part in self._chunks(np.flatnonzero(~natural)):
                    key = f"{name}/misclassified/{part[0]}"
                    piece = self.state.get(key)
                    if piece is None:
                        seed = as_seed(self.protocol.seed)
                        piece = self.runner.run_misclassified(name, attack, part, seed)
                        self.state.put(key, piece)
                    alone[part[piece["right"]]] = True
                    totals += piece["costs"]
        searched = any(self.runner.searches(stage) for _, stage, _ in stages)
        if searched and self.protocol.search_sample:
            details["float32_sample"] = self._repeat(name, attack, outcome)
        if alone is not None:
            alone |= outcome.robust
        if outcome.stages:
            details["stages"] = {n: int(after.sum()) for n, after in outcome.stages.items()}
        seconds, forwards, gradients = totals
        return dataclasses.replace(
            outcome,
            seconds=float(seconds),
            forwards=int(forwards),
            gradients=int(gradients),
            details=details,
            alone=alone,
        )

    def _repeat(self, name: str, attack: Attack, outcome: Outcome) -> dict[str, int]:
        """Attacks some robust images again in float32; where that succeeds they are not robust.

        They count as adversarial from the stage on that succeeded.
        """
        key = f"{name}/repeat"
        # By their numbers in the whole, so that shards take the same ones as a single run.
        stride = max(self.examples.total // self.protocol.search_sample, 1)
        sample = np.flatnonzero(outcome.robust & (self.examples.numbers % stride == 0))
        piece = self.state.get(key)
        if piece is None:
            is_robust, piece = np.ones(len(sample), bool), []
            seeded = attack.seeded_stages(as_seed(self.protocol.seed))
            for index, (_, stage, seed) in enumerate(seeded):
                part = sample[is_robust]
                piece.append([])
                if len(part):
                    x_adv = self.runner.generate(self.target.model, stage, part, seed)
                    still = self.runner.is_correct(x_adv, part)
                    lost = self.examples.numbers[part[~still]]
                    self.state.save_images(name, "stage9-float32", lost, x_adv[~still])
                    piece[index] = np.flatnonzero(is_robust)[~still].tolist()
                    is_robust[is_robust] = still
            self.state.put(key, piece)
        for index, lost in enumerate(piece):
            for verdict in [outcome.robust, *list(outcome.stages.values())[index:]]:
                verdict[sample[lost]] = False
            if outcome.eight_bits is not None:
                outcome.eight_bits[sample[lost]] = False
        return {"examples": len(sample), "broken": sum(map(len, piece))}

    def _chunks(self, positions: np.ndarray) -> list[np.ndarray]:
        size = self.protocol.batch_size
        return [positions[begin : begin + size] for begin in range(0, len(positions), size)]
