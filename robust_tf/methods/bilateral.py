"""Bilateral adversarial training: image and label are both perturbed."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from robust_tf import losses, registration
from robust_tf.attacks import Attack, GradientAttack
from robust_tf.attacks.network import logits_of
from robust_tf.methods.base import RobustModel
from robust_tf.methods.batch import Batch, Terms
from robust_tf.validation import check_number


class Perturbed(NamedTuple):
    """Both of an example, perturbed: images x_adv (B, H, W, C), label distributions (B, C)."""

    x_adv: tf.Tensor
    labels: tf.Tensor


@registration.configurable
@registration.serializable
class Bilateral(RobustModel):
    """CE(f(x'), y'): x' aimed at the most confusing class, y' against it by a closed form.

    The aim is the class other than y of the largest logit, by the clean image with running
    averages; `perturbed_labels` of the same logits is y'. A step costs two forwards and one
    backward, and a forward and a gradient for each step of the attack.

    Args:
      network: to be trained, of two classes or more.
      attack: gradient attack, aimed here: give it untargeted. `FGSM(8 / 255, random_start=True)` in
        the paper, `PGD(8 / 255, 2 / 255, 7)` by the defaults of the released program, whose start
        is not clipped to [0, 1] as ours is.
      multiplier: b, finite and >= 1: the true class keeps b times the share of the least likely
        one. 9 makes label smoothing 0.5 where ten classes are alike.
      gap: g, > 0: floor of a wrong class's share, in nats.

    Source: Wang & Zhang (2019), "Bilateral Adversarial Training: Towards Fast Training of More
    Robust Models Against Adversarial Attacks" (R-MC-LA), and its released program.
    """

    needs_clean = False

    def __init__(
        self,
        network: keras.Model,
        attack: GradientAttack,
        multiplier: float = 9.0,
        gap: float = 0.01,
        name: str | None = None,
    ):
        hint = "9 in the paper; below 1 a wrong class would lead"
        check_number("Bilateral", "multiplier", multiplier, 1.0, hint)
        check_number("Bilateral", "gap", gap, 0.0, "0.01 in the paper", strict=True)
        if not isinstance(attack, GradientAttack):
            raise ValueError(
                f"Bilateral(attack={attack!r}): give the training adversary, a gradient attack, "
                "e.g. attacks.PGD(eps=0.3, step_size=0.01, steps=40); it is aimed here."
            )
        # Made targeted here, not by whoever writes the recipe; what cannot be says so.
        self.aimed = attack.as_targeted()
        self.multiplier, self.gap = float(multiplier), float(gap)
        super().__init__(network, attack, {"adversarial": 1.0}, name)
        if self.network.num_classes < 2:
            raise ValueError(
                "Bilateral: the network has one class; it needs two or more, one of them to aim at."
            )

    def set_attack(self, attack: Attack) -> None:
        assert isinstance(attack, GradientAttack)
        super().set_attack(attack)
        self.aimed = attack.as_targeted()

    def generate_adversarial(
        self, x: tf.Tensor, y: tf.Tensor, seed: tf.Tensor, scale: tf.Tensor
    ) -> Perturbed:
        logits = tf.stop_gradient(logits_of(self.network, "running")(x))
        aims = most_confusing(logits, y)
        x_adv = self.aimed(self.network, x, aims, seed=seed, scale=scale)
        return Perturbed(x_adv, perturbed_labels(logits, y, self.multiplier, self.gap))

    def terms(self, batch: Batch) -> Terms:
        labels = batch.adversarial.labels
        return {"adversarial": lambda: losses.soft_cross_entropy(batch.adv.logits, labels)}

    def get_config(self) -> dict[str, Any]:
        config = {"multiplier": self.multiplier, "gap": self.gap}
        return {**super().get_config(), **config}


def most_confusing(logits: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """argmax_{j != y} z_j, int32 (B,), of logits (B, C) with C >= 2."""
    return tf.argmax(_others(logits, y, float("-inf")), axis=1, output_type=tf.int32)


def perturbed_labels(
    logits: tf.Tensor, y: tf.Tensor, multiplier: float = 9.0, gap: float = 0.01
) -> tf.Tensor:
    """The label distribution of Bilateral, which favours what the network thinks least likely.

    With L_k = -log p_k, m = min_{k != y} L_k and d_k = L_k - m + gap, a wrong class has a share in
    proportion to d_k, the true one to multiplier * max_{k != y} d_k. Two classes leave no choice:
    the true one has b / (1 + b), label smoothing 1 / (1 + b).

    Args:
      logits: float32 (B, C), C >= 2.
      y: integer labels (B,).
      multiplier: b >= 1.
      gap: g > 0, in nats.

    Returns:
      (B, C) float32, rows of sum 1.
    """
    best = tf.reduce_max(_others(logits, y, float("-inf")), axis=1, keepdims=True)
    # log p_best - log p_k is the difference of logits: what normalises them cancels.
    wrong = _others(best - logits + gap, y, 0.0)
    own = multiplier * tf.reduce_max(wrong, axis=1, keepdims=True)
    shares = wrong + own * tf.one_hot(y, logits.shape[1])
    return shares / tf.reduce_sum(shares, axis=1, keepdims=True)


def _others(values: tf.Tensor, y: tf.Tensor, own: float) -> tf.Tensor:
    """Values (B, C) with `own` in place of that of the true class."""
    true = tf.one_hot(y, values.shape[1], on_value=True, off_value=False, dtype=tf.bool)
    return tf.where(true, tf.constant(own, values.dtype), values)
