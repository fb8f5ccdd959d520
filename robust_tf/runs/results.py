"""Results of a run: the JSON that `bin/evaluate` or the run itself wrote, and their worst case."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from robust_tf import modules
from robust_tf.attacks import Attack
from robust_tf.evaluation import Evaluation, attacks_from_json
from robust_tf.evaluation.adaptive import ADAPTIVE, OBLIVIOUS, undefended
from robust_tf.evaluation.attack_names import eps_of, name_of, norm_of


@dataclasses.dataclass(frozen=True, eq=False)
class AttackResult:
    """One attack of an evaluation.

    Attributes:
      name: as the evaluation calls it.
      kind: what it is by its settings, without its eps: 'PGD-40', 'PGD-40 multi-targeted',
        'AutoAttack'. The name where the settings cannot be read.
      norm, eps: of its ball; None where it has none.
      robust: bool (N,).
      alone: bool (N,), see `Outcome.alone`; None of most attacks, and in files of versions before.
      distance: float32 (N,), see `Outcome.distance`; None of an attack that measures none.
      attack: built again, of an oblivious one what runs on the bare network; None where this
        version does not know it.
    """

    name: str
    kind: str
    norm: str
    eps: float | None
    robust: np.ndarray
    seconds: float
    forwards: int
    gradients: int
    attack: Attack | None
    alone: np.ndarray | None = None
    distance: np.ndarray | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """An evaluation and where it comes from.

    Attributes:
      file: name of the file in the run folder.
      evaluation: verdicts and settings.
      attacks: in the order in which they ran.
      data: 'name', 'split', 'fingerprint' and 'splits' (theirs) as the file has them.
      inference: of a defence at inference ('kind', 'delta', ...); None of the plain network.
      columns: its accuracies by attack, see `evaluation.adaptive_summary`; {} without.
      imports: modules of its attacks that the run does not record, see `modules.record_of`.
    """

    file: str
    evaluation: Evaluation
    attacks: list[AttackResult]
    data: dict[str, Any]
    inference: dict[str, Any] | None
    columns: dict[str, dict[str, float]]
    imports: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    @property
    def title(self) -> str:
        """The file, the defense in front of the network, and the part of the data."""
        kind = f", {str(self.inference.get('kind', 'defended')).upper()}" if self.inference else ""
        split, shard = self.data.get("split", "test"), self.evaluation.settings.get("shard")
        part = f", shard {'/'.join(map(str, shard))}" if shard else ""
        return self.file + kind + (f", {split} split" if split != "test" else "") + part

    @property
    def whole(self) -> bool:
        """Whether it is of test images, and not of a shard of them."""
        shard = self.evaluation.settings.get("shard")
        return not shard and self.data.get("split", "test") == "test"

    @property
    def first(self) -> bool:
        """Whether it is of the first N test images."""
        return self.whole and not self.draw

    @property
    def draw(self) -> str:
        """By which draw its images were chosen; '' for the first, or all."""
        draw = self.evaluation.settings.get("draw")
        return f"{draw['by']} by {draw['seed']}" if draw else ""

    @property
    def plain(self) -> bool:
        """Whether it is of the network alone, and whole: its verdicts may be joined with others."""
        return self.whole and not self.inference


def read_result(file: str, content: dict[str, Any]) -> Result:
    """What `content`, of a result file, tells.

    Raises:
      ValueError: it is not an evaluation's.
    """
    evaluation = Evaluation.from_json(content["evaluation"])
    if not len(evaluation):
        raise ValueError("it has no images.")
    attacks = [_attack_result(name, evaluation) for name in evaluation.outcomes]
    if not evaluation.settings.get("balls"):  # one that an earlier version wrote
        evaluation.settings["balls"] = {one.name: [one.norm, one.eps] for one in attacks}
    data = content.get("data")
    inference = content.get("inference")
    columns = content.get("columns")
    return Result(
        file,
        evaluation,
        attacks,
        data if isinstance(data, dict) else {},
        inference if isinstance(inference, dict) else None,
        columns if isinstance(columns, dict) else {},
        modules.entries(content.get("modules")),
    )


def _attack_result(name: str, evaluation: Evaluation) -> AttackResult:
    outcome = evaluation.outcomes[name]
    config = undefended(name, evaluation.settings["attacks"][name])
    prefix = next((p for p in (OBLIVIOUS, ADAPTIVE) if name.startswith(p)), "")
    try:
        attack = attacks_from_json({"attacks": {name: {"attack": config}}})[name]
    except ValueError:  # of another version, or of somebody's own making
        attack = None
    ball = evaluation.settings.get("balls", {}).get(name) or ["Linf", None]
    if attack is not None:
        ball = [norm_of(attack), eps_of(attack)]
    return AttackResult(
        name,
        prefix + kind_of(attack) if attack is not None else name,
        str(ball[0]),
        None if ball[1] is None else float(ball[1]),
        outcome.robust,
        outcome.seconds,
        outcome.forwards,
        outcome.gradients,
        attack,
        outcome.alone,
        outcome.distance,
    )


def kind_of(attack: Attack) -> str:
    """`name_of` without the eps: 'PGD-40', 'PGD-40 multi-targeted'."""
    return re.sub(r" eps=\S+", "", name_of(attack))


def worst_cases(
    results: Sequence[Result], eps: float | None, norm: str | None = None
) -> list[dict[str, Any]]:
    """The worst case, image by image, over all evaluations that share their images.

    Evaluations of the first N test images of the same data share the first of them, and so do those
    of one draw, so each size gives a row: all attacks that saw at least so many images, at an eps
    up to `eps`.

    Args:
      results: of one run; defences at inference, shards and other splits are left out.
      eps: the largest to count; None: any. An attack that measures distances counts as far as the
        largest of the others in its norm.
      norm: of the balls to count, 'Linf', 'L2' or 'L1'; None: any.

    Returns:
      'examples', 'natural' and 'robust' bool (examples,), 'attacks' (their kinds), 'num_classes'
      (None where no file tells) and 'numbers' of the images; fewest images last, and only where
      that many images saw an attack that more of them did not. [] where there is none, see
      `why_none`.
    """
    plain = [one for one in results if one.plain]
    rows: list[dict[str, Any]] = []
    for draw in sorted({one.draw for one in plain}, reverse=True):  # those of the first images last
        rows += _worst_cases([one for one in plain if one.draw == draw], eps, norm)
    return rows


def _worst_cases(
    plain: Sequence[Result], eps: float | None, norm: str | None
) -> list[dict[str, Any]]:
    """As `worst_cases`, of results whose images are the first of one order."""
    if _differ(plain):
        return []
    rows: list[dict[str, Any]] = []
    known: set[str] = set()
    for size in sorted({len(one.evaluation) for one in plain}, reverse=True):
        those = [one for one in plain if len(one.evaluation) >= size]
        natural = np.logical_and.reduce([one.evaluation.natural[:size] for one in those])
        robust = natural.copy()
        kinds: dict[str, str] = {}
        every = [attack for one in those for attack in one.attacks]
        radii: dict[str, float] = {}
        for attack in every:
            if attack.distance is not None:
                continue
            inside = eps is None or attack.eps is None or attack.eps <= eps * (1 + 1e-6)
            if inside and (norm is None or attack.eps is None or attack.norm == norm):
                robust &= attack.robust[:size]
                kinds[repr(attack.attack or attack.name)] = attack.kind
                radii[attack.norm] = max(attack.eps or 0.0, radii.get(attack.norm, 0.0))
        for attack in every:
            if attack.distance is not None and radii.get(attack.norm):
                robust &= attack.distance[:size] > radii[attack.norm]
                kinds[repr(attack.attack or attack.name)] = attack.kind
        if set(kinds) - known:
            known |= set(kinds)
            names = list(dict.fromkeys(kinds.values()))
            told = [one.evaluation.settings.get("num_classes") for one in those]
            rows.append(
                {
                    "examples": size,
                    "natural": natural,
                    "robust": robust,
                    "attacks": names,
                    "num_classes": next(filter(None, told), None),
                    "numbers": _numbers(those[0], size),
                }
            )
    return rows


def _numbers(one: Result, size: int) -> np.ndarray:
    """Which of the test images the first `size` of a result are."""
    draw = one.evaluation.settings.get("draw")
    return np.asarray(draw["numbers"][:size]) if draw else np.arange(size)


def why_none(results: Sequence[Result], eps: float | None) -> str:
    """Why `worst_cases` has none."""
    plain = [one for one in results if one.plain]
    if not results:
        return "not evaluated"
    if not plain:
        return "no evaluation of the network alone on the first test images"
    found = _differ(plain)
    if found:
        return f"the evaluations are of different {found}, by their fingerprints"
    return (
        f"no attack with an eps up to the training's, {eps:.4g}, in its norm"
        if eps
        else "no attack"
    )


def _differ(plain: Sequence[Result]) -> str:
    """'data' or 'weights', where their fingerprints say that evaluations differ in it, else ''."""
    # A run's own is of what it was trained on, too: a part of the training images is another whole.
    tests = {(one.data.get("splits") or {}).get("test") for one in plain}
    wholes = {one.data.get("fingerprint") for one in plain if not one.data.get("splits")}
    if max(len(tests - {None}), len(wholes - {None})) > 1:
        return "data"
    models = {one.evaluation.settings.get("model") for one in plain} - {None}
    return "weights" if len(models) > 1 else ""


def headline(
    results: Sequence[Result], eps: float | None, norm: str | None = None
) -> dict[str, Any] | None:
    """The worst case to quote: of most attacks, on 500 images or more where there are so many."""
    rows = worst_cases(results, eps, norm)
    if not rows:
        return None
    enough = min(500, rows[0]["examples"])
    return [row for row in rows if row["examples"] >= enough][-1]
