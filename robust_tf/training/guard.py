"""Watches a training of few attack steps for catastrophic overfitting."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import tensorflow as tf

from robust_tf.attacks import FGSM, PGD, Attack, GradientAttack, ScatteringAttack
from robust_tf.attacks.objectives import CrossEntropy
from robust_tf.attacks.steps import Steepest, UniformStart
from robust_tf.attacks.training import ManifoldLoss
from robust_tf.data.drawing import draw_order
from robust_tf.data.splits import Split
from robust_tf.methods import RobustModel
from robust_tf.methods.batch import correct
from robust_tf.methods.reduction import Share
from robust_tf.training.overfitting import Gap, History, judge

# Methods whose attack has so many steps are watched unless a recipe says otherwise.
FEW_STEPS = 2
# Of the short PGD, each of eps / 4 (2/255 for 8/255), as in the program of Wong et al.
PGD_STEPS, PGD_PART = 5, 0.25
# Of the passes of the training that checks may cost, where a recipe does not say how often.
SHARE = 0.04
_STREAM = 7  # of the draw of images


class GuardState(tf.Module):
    """Where a guard stands, for checkpoints; see `History`, whose fields are among it."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("training", "pgd", "last_training", "last_pgd"):
            setattr(self, name, tf.Variable(0.0, dtype=tf.float64, trainable=False))
        for name in ("open_checks", "checks", "last_epoch", "found", "rollbacks", "stopped"):
            setattr(self, name, tf.Variable(0, dtype=tf.int64, trainable=False))
        self.good_epoch = tf.Variable(-1, dtype=tf.int64, trainable=False)

    def __getitem__(self, name: str) -> float:
        return getattr(self, name).numpy().item()

    def put(self, **values: float) -> None:
        """Sets some of its numbers."""
        for name, value in values.items():
            getattr(self, name).assign(value)


class Guard:
    """Accuracy under the training attack and under a short PGD, on the same held-out images.

    A check of m images costs m (2 k + 1) passes for the training attack of k steps, and m (2 * 5 +
    1) for PGD; a pass is an image's way through the network, forwards or backwards. A training step
    on B images costs B (2 k + 2) or more, and 2 B m with the m updates of `Free`. Both attacks are
    run on the network itself, not on averaged weights, in evaluation mode with running averages,
    from the same random starts at each check, and with the eps that a warm-up has come to.

    The training attack is the method's own, but for those of Feature Scattering and ATLD, which do
    not attack the labels: there it is FGSM from a random start in the same ball.

    Args:
      model: compiled.
      split: whose images are attacked.
      images: how many of them, at most, each class by its share.
      every: steps between checks, >= 1.
      strategy: under which the model was built.
      state: what earlier checks have left; None: nothing.

    Raises:
      ValueError: the training attack has no single ball.
    """

    def __init__(
        self,
        model: RobustModel,
        split: Split,
        images: int,
        every: int,
        strategy: tf.distribute.Strategy,
        state: GuardState | None = None,
    ):
        self.model, self.strategy, self.state = model, strategy, state or GuardState()
        self.split, self.images, self.every = split, min(images, len(split)), every
        self._batch: Any = None
        self.prepare()

    def prepare(self) -> None:
        """Takes the attacks from the model's, which may have changed."""
        self.training_attack, self.pgd = watching_attacks(self.model.attack)
        self._measure = tf.function(self._counts, reduce_retracing=True, autograph=False)

    def to_next(self, step: int) -> int:
        """Number of steps from this one to the next check, >= 1."""
        return self.every - step % self.every

    def due(self, step: int) -> bool:
        """Whether there is a check after so many steps of the run."""
        return step % self.every == 0

    def check(self) -> tuple[str, Gap]:
        """Measures now: what `judge` says, and of what; moves the state on."""
        gap, state = self.measure(), self.state
        history = History(state["training"], state["pgd"], int(state["open_checks"]))
        verdict, history = judge(history, gap, rising=self._eps_factor() < 1)
        state.put(**history._asdict(), last_training=gap.training, last_pgd=gap.pgd)
        state.checks.assign_add(1)
        return verdict, gap

    def measure(self) -> Gap:
        """Accuracies of the network as it is."""
        if self._batch is None:
            self._batch = next(iter(self._distributed()))
        right = self._measure(self._batch, tf.constant(self._eps_factor())).numpy()
        training, pgd = (float(count) / self.images for count in right)
        return Gap(training, pgd, self.images)

    def _eps_factor(self) -> float:
        return float(self.model.settings.eps_factor(self.model.batches))

    def _distributed(self) -> Any:
        """One batch of all images, labels and numbers, shared by the replicas."""
        order = np.arange(len(self.split))
        if self.images < len(self.split):
            order = np.sort(draw_order(self.split.labels, 0, _STREAM)[: self.images])
        x, y = self.split.at(order), self.split.labels[order].astype(np.int32)
        x = x.astype(np.float32) / 255 if x.dtype == np.uint8 else x
        data = tf.data.Dataset.from_tensor_slices((x, y, np.arange(len(y), dtype=np.int32)))
        return self.strategy.experimental_distribute_dataset(data.batch(self.images))

    def _counts(self, batch: Any, scale: tf.Tensor) -> tf.Tensor:
        """How many images of all replicas are classified correctly under each attack, (2,)."""

        def run(x: tf.Tensor, y: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
            share = Share.of(x, y, None)
            size = tf.shape(share.y)[0]  # 1 where there is none
            number = tf.concat([number, [0]], 0)[:size]
            seeds = tf.stack([tf.fill([size], self.model.settings.seed % 2**31), number], 1)
            with share.reduced():
                return tf.stack(
                    [
                        tf.reduce_sum(
                            accuracy_under(attack, self.model.network, share, seeds, scale)
                        )
                        for attack in (self.training_attack, self.pgd)
                    ]
                )

        counts = self.strategy.run(run, args=batch)
        return self.strategy.reduce(tf.distribute.ReduceOp.SUM, counts, axis=None)


def accuracy_under(
    attack: Attack, network: Any, share: Share, seeds: tf.Tensor, scale: tf.Tensor
) -> tf.Tensor:
    """1.0 for each image of the share that is classified correctly after the attack."""
    x_adv = attack(network, share.x, share.y, seed=seeds, scale=scale)
    return correct(network(x_adv, training=False), share.y)[: share.number]


def interval(check: int, step: int) -> int:
    """Steps between checks that keep their cost at `SHARE` of the training's passes or below.

    Args:
      check: passes of one, see `check_passes`.
      step: passes of a training step, >= 1: `passes_per_image` of the method, times the batch.
    """
    return max(1, math.ceil(check / step / SHARE))


def check_passes(attack_steps: int, images: int) -> int:
    """Passes of a check: each attack's forwards and backwards, and one forward of its result."""
    return images * (2 * attack_steps + 1 + 2 * PGD_STEPS + 1)


def watching_attacks(attack: Any) -> tuple[Attack, Attack]:
    """The training attack and the short PGD of a check, for a method's attack.

    Raises:
      ValueError: it has no single ball.
    """
    eps, norm = getattr(attack, "eps", None), getattr(attack, "norm", None)
    short: Attack
    try:
        if not eps:
            raise ValueError("it has no eps")
        if isinstance(attack, GradientAttack):
            short = dataclasses.replace(
                attack.composition(),
                step=Steepest(PGD_PART * eps),
                steps=PGD_STEPS,
                objective=CrossEntropy(),
                start=UniformStart(),
                restarts=1,
                keep="last",
                batch_norm="running",
            )
        else:
            short = PGD(eps, PGD_PART * eps, PGD_STEPS, norm=str(norm))
        return _in_evaluation_mode(attack), short
    except ValueError as error:
        raise ValueError(
            f"train.guard_every: the training attack {attack!r} cannot be watched ({error}); leave "
            "train.guard_every out, or set it to 0."
        ) from error


def _in_evaluation_mode(attack: Attack) -> Attack:
    """The training attack by running averages, on the labels."""
    labels = not isinstance(getattr(attack, "objective", None), ManifoldLoss)
    if labels and not isinstance(attack, ScatteringAttack):
        if attack.batch_norm == "running":
            return attack
        if any(field.name == "batch_norm" for field in dataclasses.fields(attack)):  # type: ignore[arg-type]
            return dataclasses.replace(attack, batch_norm="running")  # type: ignore[type-var]
    return FGSM(attack.eps, random_start=True, norm=attack.norm)


def told(verdict: str, where: str, gap: Gap, best: float, images: str) -> str:
    """What was found, in a line without a full stop."""
    return (
        f"{verdict} at {where}: of {gap.images} {images} images {gap.pgd:.1%} withstand "
        f"PGD-{PGD_STEPS} (best {best:.1%}) and {gap.training:.1%} the training attack"
    )
