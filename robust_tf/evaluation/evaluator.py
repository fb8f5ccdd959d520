"""`evaluate`: attacks a classifier and says which images it still classifies correctly."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from robust_tf import argument_types, registration, stopping
from robust_tf.attacks import Attack
from robust_tf.attacks.arguments import check_values
from robust_tf.attacks.compiled import own_graphs
from robust_tf.evaluation import checks as signs
from robust_tf.evaluation.attack_names import check_aim
from robust_tf.evaluation.attack_parser import as_attacks
from robust_tf.evaluation.evaluation_run import EvaluationRun
from robust_tf.evaluation.memory import in_words
from robust_tf.evaluation.protocol import Protocol, choose
from robust_tf.evaluation.results import Evaluation
from robust_tf.evaluation.state import EvaluationState
from robust_tf.evaluation.target_model import TargetModel, settled_dtype, sources_of
from robust_tf.models import BlackBox

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
        run = EvaluationRun(target, sources, examples, settings, state, progress)
        run.state.open(run.settings(named))
        try:
            with stopping.saving(run.state.save):
                natural = run.natural()
                flags = run.inspect(named) if checks else []
                outcomes = {name: run.attack(name, one, natural) for name, one in named.items()}
        finally:
            run.state.save()
    result = Evaluation(natural, outcomes, run.settings(named))
    if checks:
        if not any(flag.name == "collapsed" for flag in flags):
            flags += result.review()
        weak = signs.weak_battery(named, isinstance(model, BlackBox))
        flags += [weak] if weak else []
    return dataclasses.replace(result, flags=[dataclasses.asdict(flag) for flag in flags])
