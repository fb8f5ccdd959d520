"""Results of a run: the JSON that `bin/evaluate` or the run itself wrote."""

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
from robust_tf.evaluation.reproduce_command import foreign

Ball = tuple[str, float | None]  # norm and radius, None of an attack that has none


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

    @property
    def balls(self) -> Sequence[Ball]:
        """Norm and eps of the ball that it works in, of a union of balls all."""
        return ((self.norm, self.eps),) if self.attack is None else self.attack.balls


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


def other_subject(
    content: dict[str, Any], fingerprint: str | None, inference: str, data_name: str | None
) -> str:
    """Of what else a result is than of a run's model on its own test images; '' if of that.

    Args:
      content: of a result file.
      fingerprint: of the run's weights, where it is known.
      inference: the defense in front of its network, '' of the network alone.
      data_name: what it was trained on, where that is known.
    """
    kind = (content.get("inference") or {}).get("kind", "")
    if kind != inference:
        return f"with inference {kind}" if kind else "of the network alone"
    if content.get("model"):
        return f"of the model {content['model']}"
    other = foreign(content, fingerprint)
    if other:
        return other.removeprefix("it is ")
    evaluation = content["evaluation"]
    shard = evaluation.get("shard") if isinstance(evaluation, dict) else None
    if shard:
        return f"on the shard {'/'.join(map(str, shard))}"
    data = content.get("data") or {}
    if data_name is not None and data.get("name", data_name) != data_name:
        return f"on {data['name']}"
    split = data.get("split", "test")
    return "" if split == "test" else f"on the {split} split"


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
    """`name_of` without the eps: 'PGD-40', 'PGD-40 multi-targeted'; with those of a union."""
    if len(attack.balls) > 1:
        return name_of(attack)
    return re.sub(r" eps=\S+", "", name_of(attack))
