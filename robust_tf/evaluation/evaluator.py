"""Runs attacks on a classifier and counts, image by image, what they broke."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from robust_tf import compat
from robust_tf.attacks import Attack
from robust_tf.attacks.arguments import check_values
from robust_tf.attacks.randomness import as_seed
from robust_tf.evaluation import checks
from robust_tf.evaluation.attack_names import check_aim, eps_of, norm_of, stages_of
from robust_tf.evaluation.attack_parser import as_attacks
from robust_tf.evaluation.protocol import Examples, Protocol, choose
from robust_tf.evaluation.results import Evaluation, Outcome
from robust_tf.evaluation.runner import AttackRunner, Progress
from robust_tf.evaluation.state import EvaluationState
from robust_tf.evaluation.target_model import TargetModel, sources_of
from robust_tf.version import __version__

Attacks = Mapping[str, Attack] | Sequence[Attack] | str


def evaluate(
    model: Callable[..., Any],
    split: Any,
    attacks: Attacks,
    *,
    record: EvaluationState | None = None,
    progress: bool | None = None,
    **protocol: Any,
) -> Evaluation:
    """Natural accuracy, and robust accuracy under each attack and under all of them.

    Each attack starts anew from all images that are classified correctly. Its stages (those of
    AutoAttack) run one after the other on those that still stand. An image counts as robust to the
    attack if no stage broke it, and as robust if no attack did: the per-example worst case is the
    headline. The verdict is the model's own prediction on the attack's result, never what the
    attack believes.

    Args:
      model: Keras model or any callable, from float32 images (B, H, W, C) in [0, 1] to logits
        (B, C).
      split: `data.Split`, or images (uint8 in 0..255, or float32 in [0, 1]) and integer labels.
      attacks: by name; or attacks without names; or text as for `parse_attacks`.
      record: where to keep what is finished, and to continue from if it was interrupted; its
        `close` deletes it when the result is safe.
      progress: True: a bar on stderr; None: a bar on a terminal, else one line per attack; False:
        nothing.
      **protocol: settings of `Protocol`: batch_size, max_examples, shard, seed, search_dtype, ...

    Returns:
      The verdicts.

    Raises:
      TypeError, ValueError: images, labels, model and attacks that do not fit, before any work.
      FileError: the record cannot be written.
    """
    settings = Protocol(**protocol)
    examples = choose(split, settings)
    named = as_attacks(attacks)
    for name, attack in named.items():
        check_aim(name, attack)
        if eps_of(attack) == 0:
            raise ValueError(f"{name}: eps is 0, which leaves nothing to attack; give eps > 0.")
    first = examples.pixels(np.arange(min(64, settings.batch_size, len(examples))))
    subject = TargetModel(model, first, settings.search_dtype)
    check_values(first, examples.labels, subject.num_classes)
    sources = sources_of(named, first)
    run = _Run(subject, sources, examples, settings, record or EvaluationState(), progress)
    run.record.open(run.settings(named))
    try:
        natural = run.natural()
        flags = run.inspect(named) if settings.checks else []
        outcomes = {name: run.attack(name, attack, natural) for name, attack in named.items()}
    finally:
        run.record.save()
    result = Evaluation(natural, outcomes, run.settings(named))
    if settings.checks:
        flags += result.review()
        weak = checks.weak_battery(named)
        flags += [weak] if weak else []
    return dataclasses.replace(result, flags=[dataclasses.asdict(flag) for flag in flags])


@dataclasses.dataclass
class _Run:
    """One evaluation on its way."""

    subject: TargetModel
    sources: dict[str, str | None]
    examples: Examples
    protocol: Protocol
    record: EvaluationState
    progress: bool | None

    @property
    def runner(self) -> AttackRunner:
        return AttackRunner(self.subject, self.examples, self.protocol, self.record)

    def settings(self, attacks: dict[str, Attack]) -> dict[str, Any]:
        """All that the result depends on, JSON-ready."""
        protocol = dataclasses.asdict(self.protocol)
        if self.protocol.shard:
            protocol["shard"] = list(self.protocol.shard)
        stages: dict[str, Attack] = {}
        for name, attack in attacks.items():
            stages |= stages_of(name, attack)
        return {
            **protocol,
            "total_examples": self.examples.total,
            "model": self.subject.fingerprint,
            "sources": self.sources,
            "num_classes": self.subject.num_classes,
            "data_hash": self.examples.fingerprint,
            "versions": {
                "robust_tf": __version__,
                "tensorflow": tf.__version__,
                "keras": keras.__version__,
            },
            "balls": {n: [norm_of(attack), eps_of(attack)] for n, attack in attacks.items()},
            "kinds": {n: dataclasses.asdict(checks.kind_of(one)) for n, one in stages.items()},
            "attacks": {name: compat.serialize(attack) for name, attack in attacks.items()},
        }

    def natural(self) -> np.ndarray:
        """Whether each clean image is classified correctly; what is kept goes by this verdict."""
        right = np.zeros(len(self.examples), bool)
        known = self.record.get("natural")
        if known is None:
            for part in self._chunks(np.arange(len(self.examples))):
                right[part] = self.runner.stands(self.examples.pixels(part), part)
            self.record.put("natural", np.flatnonzero(right).tolist())
        else:
            right[known] = True
        return right

    def inspect(self, attacks: dict[str, Attack]) -> list[checks.Flag]:
        """Signs of masked gradients, looked for on a few images before the attacks."""
        balls = [(norm_of(attack), eps_of(attack)) for attack in attacks.values() if eps_of(attack)]
        if not balls:
            return []
        norm = balls[0][0]
        eps = max(radius for its_norm, radius in balls if radius and its_norm == norm)
        sample = np.arange(min(64, len(self.examples)))
        x, y = self.examples.pixels(sample), self.examples.labels[sample]
        return checks.inspect(self.subject.model, x, y, eps, norm, self.protocol.seed)

    def attack(self, name: str, attack: Attack, natural: np.ndarray) -> Outcome:
        """One attack on all images that are classified correctly."""
        rounded = natural.copy() if self.protocol.eight_bits else None
        outcome = Outcome(natural.copy(), eight_bits=rounded)
        stages = list(attack.seeded_stages(as_seed(self.protocol.seed)))
        details: dict[str, Any] = {}
        if notes := attack.notes(self.subject.num_classes):
            details["notes"] = notes
        totals = np.zeros(3)  # seconds, forwards, gradients
        with Progress(name, len(natural), int(natural.sum()), len(stages), self.progress) as report:
            for index, (stage_name, stage, seed) in enumerate(stages):
                last = index == len(stages) - 1
                for part in self._chunks(np.flatnonzero(outcome.robust)):
                    key = f"{name}/{index}/{part[0]}"
                    piece = self.record.get(key)
                    if piece is None:
                        piece = self.runner.piece(f"stage{index}", name, stage, part, seed, last)
                        self.record.put(key, piece)
                    broken = part[piece["broken"]]
                    outcome.robust[broken] = False
                    if outcome.eight_bits is not None:
                        outcome.eight_bits[part[piece["rounded"]]] = False
                    totals += piece["costs"]
                    report.done(len(part), len(broken), len(stages) - index - 1)
                if len(stages) > 1:
                    outcome.stages[stage_name] = outcome.robust.copy()
        searched = any(self.runner.searches(stage) for _, stage, _ in stages)
        if searched and self.protocol.search_sample:
            details["float32_sample"] = self._repeat(name, attack, outcome)
        if outcome.stages:
            details["stages"] = {n: int(after.sum()) for n, after in outcome.stages.items()}
        seconds, forwards, gradients = totals
        return dataclasses.replace(
            outcome,
            seconds=float(seconds),
            forwards=int(forwards),
            gradients=int(gradients),
            details=details,
        )

    def _repeat(self, name: str, attack: Attack, outcome: Outcome) -> dict[str, int]:
        """Attacks some survivors again in float32; those that break now count as broken.

        They do so from the stage on that broke them.
        """
        key = f"{name}/repeat"
        # By their numbers in the whole, so that shards take the same ones as a single run.
        stride = max(self.examples.total // self.protocol.search_sample, 1)
        sample = np.flatnonzero(outcome.robust & (self.examples.numbers % stride == 0))
        piece = self.record.get(key)
        if piece is None:
            stands, piece = np.ones(len(sample), bool), []
            seeded = attack.seeded_stages(as_seed(self.protocol.seed))
            for index, (_, stage, seed) in enumerate(seeded):
                part = sample[stands]
                piece.append([])
                if len(part):
                    x_adv = self.runner.craft(self.subject.model, stage, part, seed)
                    still = self.runner.stands(x_adv, part)
                    lost = self.examples.numbers[part[~still]]
                    self.record.keep_images(name, "stage9-float32", lost, x_adv[~still])
                    piece[index] = np.flatnonzero(stands)[~still].tolist()
                    stands[stands] = still
            self.record.put(key, piece)
        for index, lost in enumerate(piece):
            for verdict in [outcome.robust, *list(outcome.stages.values())[index:]]:
                verdict[sample[lost]] = False
            if outcome.eight_bits is not None:
                outcome.eight_bits[sample[lost]] = False
        return {"examples": len(sample), "broken": sum(map(len, piece))}

    def _chunks(self, positions: np.ndarray) -> list[np.ndarray]:
        size = self.protocol.batch_size
        return [positions[begin : begin + size] for begin in range(0, len(positions), size)]
