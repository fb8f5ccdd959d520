"""Attacks on `ManifoldTransformation`, unaware of it and adaptive, and the summary of both."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from robust_tf import registration
from robust_tf.attacks import APGD, Attack, AutoAttack, CrossEntropy, RayS, Square, Transfer
from robust_tf.attacks.gradient import ProjectedGradient
from robust_tf.attacks.objectives import Margin, Objective
from robust_tf.attacks.steps import Steepest
from robust_tf.attacks.threat import threat_of
from robust_tf.evaluation.attack_names import name_of
from robust_tf.evaluation.defended import Defended
from robust_tf.evaluation.results import Evaluation
from robust_tf.inference import ManifoldTransformation

OBLIVIOUS, ADAPTIVE = "oblivious: ", "adaptive: "  # before the names of attacks
TAUS, STEERS = (1.0, 0.1), (-1.0, 1.0)
# What `adaptive_attacks` spends; 'quick' shows what breaks at once and proves nothing.
EFFORTS: dict[str, dict[str, Any]] = {
    "full": {},
    "quick": {"steps": 20, "restarts": 1, "queries": 200, "autoattack": False},
}


def bpda(model: ManifoldTransformation) -> Defended:
    """The defended model as it is to be judged and attacked: T's gradient taken for the identity.

    Its logits are those of `model`. The model's own gradient is 0 for pixels that the clip has cut,
    which on images with black or white areas hides them from attacks.
    """
    return Defended(model.network, model.transform)


def bare(model: ManifoldTransformation) -> Callable[[tf.Tensor], tf.Tensor]:
    """The network without its defence."""
    # A function: of a Keras model, the result file would repeat the configuration at each attack.
    return _called(lambda x: model.network(x, training=False), "the bare network")


def surrogate(model: ManifoldTransformation, tau: float) -> Defended:
    """The defended model with the gradient of `model.smooth_transform` of this tau."""
    path = Defended(
        model.network, model.transform, surrogate=lambda u: model.smooth_transform(u, tau)
    )
    return _called(path, f"surrogate of tau {tau:g}")


def steered(model: ManifoldTransformation, weight: float) -> Callable[[tf.Tensor], tf.Tensor]:
    """The defended model for `SteeredCrossEntropy`: the mean of its logits carries D0.

    Its logits are those of `bpda` but for one number for each example, added to all:
    weight * log(D0 / (1 - D0)) at the image before its transformation, less their mean.
    """
    path = bpda(model)

    def lifted(u: tf.Tensor) -> tf.Tensor:
        logits = path(u)
        lift = weight * model.natural_logits(u) - tf.reduce_mean(logits, axis=1)
        return logits + lift[:, tf.newaxis]

    return _called(lifted, f"steered by {weight:+g}")


@registration.configurable
@registration.serializable
@dataclasses.dataclass(frozen=True)
class SteeredCrossEntropy(CrossEntropy):
    """CE(f(T(u)), y) + weight * log-odds of D0(f(u)), from the logits of `steered`.

    A number added to all logits of an example changes neither its cross-entropy nor its prediction:
    their mean can carry another value to the adversary.
    """

    def values(self, logits: tf.Tensor, y: tf.Tensor, reference: tf.Tensor | None) -> tf.Tensor:
        return super().values(logits, y, reference) + tf.reduce_mean(logits, axis=1)


@registration.configurable
@registration.serializable
@dataclasses.dataclass(frozen=True)
class Through(Transfer):
    """`attack` by another way through the same defence: its gradient, not its verdict, differs."""

    black_box: ClassVar[bool] = False
    judged_alone: ClassVar[bool] = False


def oblivious_attacks(
    model: ManifoldTransformation, attacks: Mapping[str, Attack]
) -> dict[str, Attack]:
    """Each attack on the network alone, its images to be judged behind the transformation.

    The protocol of the ATLD paper, and of its AutoAttack rows. It overstates the robustness: this
    adversary does not know the defence. A `Transfer` stays as it is: the images of its own source
    are judged behind the transformation, as in the paper's tables 3 and 6.

    Images that are wrong without an attack count as adversarial, as everywhere here. The paper
    counts the transformed attacked image T(x') alone (SVHN, IMT: FGSM 89.07 above natural 85.85);
    so do `Outcome.alone` and a column of `adaptive_summary`.
    """
    source = bare(model)
    return {
        OBLIVIOUS + name: one if isinstance(one, Transfer) else Transfer(one, source)
        for name, one in attacks.items()
    }


def undefended(name: str, config: dict[str, Any]) -> dict[str, Any]:
    """Of an attack of an evaluation, by its name and configuration, what runs without the defence.

    That is the attack itself, unless it is one of `oblivious_attacks` on the bare network, whose
    weights no file holds.
    """
    own = config.get("config") or {}
    bare_network = isinstance(own.get("source"), str)
    return own["attack"] if name.startswith(OBLIVIOUS) and bare_network else config


def adaptive_attacks(
    model: ManifoldTransformation,
    eps: float,
    step_size: float | None = None,
    steps: int = 100,
    restarts: int = 10,
    queries: int = 5000,
    norm: str = "Linf",
    autoattack: bool = True,
) -> dict[str, Attack]:
    """What an adversary does who knows the transformation; to be run on `bpda(model)`.

    PGD on cross-entropy and margin with T's gradient as the identity, and as it is (0 where the
    clip cuts); with that of the smooth surrogate, tau 1 and 0.1; with the log-odds of the
    discriminator added to the loss or taken off, to steer T and its gate. Square and RayS on the
    defended outputs; APGD of the bare network; AutoAttack on the whole, or APGD where it is left
    out. Every PGD judges each iterate, behind the real T. RayS is for L-inf alone.

    Args:
      model: the defended model.
      eps: radius of the ball, > 0.
      step_size: of PGD; None: eps / 4.
      steps: of PGD and APGD.
      restarts: of each PGD.
      queries: of Square; RayS has twice as many.
      norm: 'Linf', 'L2' or 'L1'.
      autoattack: runs AutoAttack, standard version.

    Returns:
      Attacks by names that begin with 'adaptive: '. A PGD step costs two forwards and two input
      gradients, twice that with the surrogate.

    Source: Tramer et al. (2020) on adaptive attacks; Athalye et al. (2018) on stand-in gradients.
    """

    def pgd(objective: Objective | None = None) -> Attack:
        step = Steepest(eps / 4 if step_size is None else step_size)
        ball = threat_of(norm, eps)
        return ProjectedGradient(
            ball, step, steps, objective or CrossEntropy(), restarts=restarts, keep="best"
        )

    def apgd(loss: str) -> Attack:
        return APGD(eps, steps=steps, loss=loss, norm=norm)

    found: dict[str, Attack] = {}
    for attack in (pgd(), pgd(Margin())):
        found[f"BPDA, {name_of(attack)}"] = attack
    exact = _called(lambda x: model(x, training=False), "the defended model's own gradient")
    found[f"exact gradient, {name_of(pgd())}"] = Through(pgd(), exact)
    for tau in TAUS:
        found[f"surrogate tau={tau:g}, {name_of(pgd())}"] = Through(pgd(), surrogate(model, tau))
    for weight in STEERS:
        joint = pgd(SteeredCrossEntropy())
        name = f"steered {weight:+g}, {name_of(pgd())}"
        found[name] = Through(joint, steered(model, weight))
    for attack in (apgd("ce"), apgd("dlr")):
        found[f"from the bare network, {name_of(attack)}"] = Transfer(attack, bare(model))
    whole: list[Attack] = [AutoAttack(eps, norm)] if autoattack else [apgd("ce"), apgd("dlr")]
    whole.append(Square(eps, queries=queries, norm=norm))
    if norm == "Linf":
        whole.append(RayS(eps, queries=2 * queries))
    found |= {f"whole, {name_of(attack)}": attack for attack in whole}
    return {ADAPTIVE + name: attack for name, attack in found.items()}


def _called(path: Any, name: str) -> Any:
    """`path`, which result files name so: two that differ in a number alone are not the same."""
    path.__qualname__ = name
    return path


ALONE = "T(x') alone"  # the oblivious attacks as the paper counts them
COLUMNS = ("oblivious", ALONE, "adaptive", "worst case")


def adaptive_summary(evaluation: Evaluation) -> dict[str, dict[str, float]]:
    """Accuracies of a defended model, as the paper measures them and as they should be.

    Args:
      evaluation: of `bpda(model)`, under `oblivious_attacks`, `adaptive_attacks`, or
        attacks named like theirs.

    Returns:
      For each attack, by its name without 'oblivious: ' or 'adaptive: ', and last for 'all' of
      them: the accuracy in each column that it has, in [0, 1]. A worst case is that of each example
      over the row; over 'all', it is the headline: every attack that was run counts. "T(x') alone"
      is that of oblivious attacks as the paper counts: right after attack and transformation,
      whatever becomes of the clean image; it has no part in the worst case.

    Raises:
      ValueError: neither kind of attack is there.
    """
    robust = evaluation.robust
    rows: dict[str, dict[str, np.ndarray]] = {}
    for name, verdict in robust.items():
        for prefix, column in ((OBLIVIOUS, "oblivious"), (ADAPTIVE, "adaptive")):
            if name.startswith(prefix):
                row = rows.setdefault(name.removeprefix(prefix), {})
                row[column], alone = verdict, evaluation.outcomes[name].alone
                if prefix == OBLIVIOUS and alone is not None:
                    row[ALONE] = alone
    if not rows:
        raise ValueError(
            f"no attack is named {OBLIVIOUS!r}... or {ADAPTIVE!r}..., only {list(robust)}: run "
            "those of oblivious_attacks and adaptive_attacks."
        )
    whole = {
        column: np.logical_and.reduce([row[column] for row in rows.values() if column in row])
        for column in COLUMNS[:-1]
        if any(column in row for row in rows.values())
    }
    for row in rows.values():
        counted = [verdict for column, verdict in row.items() if column != ALONE]
        row[COLUMNS[-1]] = np.logical_and.reduce(counted)
    rows["all"] = {**whole, COLUMNS[-1]: evaluation.worst_case}
    return {
        name: {column: float(verdict.mean()) for column, verdict in row.items()}
        for name, row in rows.items()
    }


def adaptive_table(evaluation: Evaluation) -> str:
    """`adaptive_summary` as text, in percent, the natural accuracy first."""
    summary = adaptive_summary(evaluation)
    columns = [column for column in COLUMNS if column != ALONE or ALONE in summary["all"]]
    rows = {"natural": dict.fromkeys(columns, evaluation.natural_accuracy), **summary}
    width = max(map(len, rows))
    lines = ["  ".join([" " * width, *(name.rjust(11) for name in columns)])]
    for name, row in rows.items():
        cells = [f"{100 * row[c]:.2f} %" if c in row else "" for c in columns]
        lines.append("  ".join([name.ljust(width), *(cell.rjust(11) for cell in cells)]).rstrip())
    return "\n".join(lines)
