"""`evaluate`: attacks a classifier and says which images it still classifies correctly."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from robust_tf import argument_types, compat, registration
from robust_tf.attacks import Attack
from robust_tf.attacks.arguments import check_values
from robust_tf.attacks.compiled import own_graphs
from robust_tf.attacks.input_range import IMAGES, at_chance, warn_of_range
from robust_tf.attacks.randomness import as_seed
from robust_tf.evaluation import checks as signs
from robust_tf.evaluation.attack_names import check_aim, eps_of, norm_of, stages_of
from robust_tf.evaluation.attack_parser import as_attacks
from robust_tf.evaluation.distances import from_text
from robust_tf.evaluation.memory import Memory, in_words
from robust_tf.evaluation.protocol import Examples, Protocol, choose
from robust_tf.evaluation.results import Evaluation, Outcome
from robust_tf.evaluation.runner import AttackRunner, Progress
from robust_tf.evaluation.state import EvaluationState
from robust_tf.evaluation.target_model import TargetModel, settled_dtype, sources_of
from robust_tf.models import BlackBox
from robust_tf.version import __version__

Attacks = Attack | Sequence[Attack] | Mapping[str, Attack] | str


@registration.configurable_as("evaluate", typed=False)
def evaluate(
    model: Callable[..., Any],
    data: Any,
    attacks: Attacks,
    *,
    eps: float | Sequence[float] | None = None,
    batch_size: int = 500,
    max_examples: int | None = None,
    shard: tuple[int, int] | None = None,
    seed: int = 0,
    search_dtype: str | None = None,
    search_sample: int = 8,
    eight_bits: bool = False,
    checks: bool = True,
    draw: str = "first",
    draw_seed: int = 0,
    state: EvaluationState | None = None,
    progress: bool | None = None,
) -> Evaluation:
    """Natural accuracy, and robust accuracy under each attack and under all of them.

    Each attack starts anew from all images that are classified correctly. An attack that is a
    sequence of others (AutoAttack) runs them one after the other, each on the images that those
    before it have not changed into adversarial ones. An image counts as robust under an attack if
    the model still classifies what the attack returns correctly, and as robust if it is so under
    every attack: the worst case over all attacks, example by example, is the result to report.

    A minimum-norm attack without eps (`FMN(norm="L2")`, DDN, FAB, RayS) measures how far the
    nearest adversarial image is: the result has the distance of each image, their median, and the
    accuracy at every eps in that norm.

    All that is compiled is compiled anew, for the model as it is now, and freed at the end. A model
    that is at chance, and is not with pixels in 0..255 or in [-1, 1], raises a warning.

    Example:
      evaluate(model, digits.test, attacks.PGD(8/255, 2/255, 20), eps=[4/255, 8/255])
      evaluate(model, digits.test, attacks.FMN(norm="L2")).curves()["L2"]

    Args:
      model: Keras model or any callable, from float32 images (B, H, W, C) in [0, 1] to logits
        (B, C).
      data: `data.Split`; or images (uint8 in 0..255, or float32 in [0, 1]) and integer labels; or
        a `tf.data.Dataset` of both, which is read several times and never held in memory.
      attacks: one attack, several, several by name, or text as for `parse_attacks`.
      eps: runs each attack at this eps, or at each of several, instead of its own; its step size
        changes in proportion. In units of pixels in [0, 1], > 0.
      batch_size: images attacked at once, >= 1. It changes time and memory; an example's result
        only by float rounding.
      max_examples: only so many, >= 1; None: all.
      draw: which: the 'first', as in published tables; or 'balanced', drawn so that each class has
        its share, as the command does; of one draw more images contain fewer.
      draw_seed: of that draw, >= 0, whatever `seed` is: several runs see the same images.
      shard: (i, n), 1 <= i <= n: only the i-th of n equal parts (examples i - 1, i - 1 + n, ...).
        `merge` puts the parts together to what one run gives.
      seed: of the attacks' randomness, >= 0. An example's result depends on this seed, the number
        of the example and the attack alone.
      search_dtype: None: attacks and verdicts use the model as it is. 'bfloat16': attacks work on
        a copy that computes in bfloat16, and a copy in float32 gives the verdicts; images that are
        adversarial for the first copy only are attacked again in float32. RayS, which sees labels
        alone, works in float32 in any case: on the copy it was weaker. 'float32': both in float32.
        'auto': the faster of these two on this device (`robust_tf.precision`), or the one that an
        interrupted evaluation began with; the settings of the result say which. A model that is no
        Keras model is used as it is.
      search_sample: with 'bfloat16', so many of the images that are robust under an attack are
        attacked again in float32, to see whether the lower precision has weakened it.
      eight_bits: adds a verdict on each adversarial image rounded to multiples of 1/255.
      checks: look for a collapsed network and for signs of masked gradients.
      state: where finished pieces are kept, and read from to continue an interrupted evaluation;
        its `close` deletes the file when the result is safe.
      progress: True: a bar on stderr; None: a bar on a terminal, else one line per attack; False:
        nothing.

    gin binds all but the first three as `evaluate.NAME`; what the call gives comes first.

    Returns:
      The verdicts.

    Raises:
      TypeError, ValueError: images, labels, model and attacks that do not fit, before any work.
      FileError: the state cannot be written, or is damaged.
      MemoryError: there is not enough for one image at once; larger batches are halved.
    """
    argument_types.check("evaluate", "state", state, EvaluationState | None)
    argument_types.check("evaluate", "progress", progress, bool | None)
    state = state or EvaluationState()
    search_dtype = settled_dtype(search_dtype, model, state)
    settings = Protocol(
        batch_size,
        max_examples,
        shard,
        seed,
        search_dtype,
        search_sample,
        eight_bits,
        checks,
        draw,
        draw_seed,
    )
    if not callable(model):
        raise TypeError(
            f"evaluate(model={model!r}): must be a Keras model or a callable from images to "
            "logits; load_model(path) reads a file."
        )
    examples = choose(data, settings)
    named = as_attacks(attacks, eps)
    for name, attack in named.items():
        check_aim(name, attack)
        if any(radius == 0 for _, radius in attack.balls):
            raise ValueError(f"{name}: eps is 0, which leaves nothing to attack; give eps > 0.")
    first = examples.pixels(np.arange(min(64, batch_size, len(examples))))
    with own_graphs(), in_words(batch_size):
        target = TargetModel(model, first, search_dtype)
        check_values(first, examples.labels, target.num_classes)
        for attack in named.values():
            attack.check_access(model)
        sources = sources_of(named, first, target.num_classes)
        run = _Run(target, sources, examples, settings, state, progress)
        run.state.open(run.settings(named))
        try:
            natural = run.natural()
            flags = run.inspect(named) if checks else []
            outcomes = {name: run.attack(name, attack, natural) for name, attack in named.items()}
        finally:
            run.state.save()
    result = Evaluation(natural, outcomes, run.settings(named))
    if checks:
        if not any(flag.name == "collapsed" for flag in flags):
            flags += result.review()
        weak = signs.weak_battery(named, isinstance(model, BlackBox))
        flags += [weak] if weak else []
    return dataclasses.replace(result, flags=[dataclasses.asdict(flag) for flag in flags])


@dataclasses.dataclass
class _Run:
    """One evaluation while it runs."""

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
