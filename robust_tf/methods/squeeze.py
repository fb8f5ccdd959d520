"""Squeeze training (ST)."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from robust_tf import losses, registration
from robust_tf.attacks import SqueezeAttack
from robust_tf.attacks.randomness import fold
from robust_tf.methods.base import RobustModel
from robust_tf.methods.batch import Terms, forward_together
from robust_tf.models import Outputs, forward_mode

# Which forwards move the averages of batch normalisation, one after the other.
ORDERS = {"st": ("clean", "adv"), "rst": ("adv", "clean")}


class SqueezeImages(NamedTuple):
    """Adversarial and collaborative images, (B, H, W, C) each."""

    x_adv: tf.Tensor
    x_col: tf.Tensor


class SqueezeBatch(NamedTuple):
    """Labels (B,), and the outputs of clean, adversarial and collaborative images."""

    y: tf.Tensor
    clean: Outputs
    adv: Outputs
    col: Outputs


@registration.configurable
@registration.serializable
class SqueezeTraining(RobustModel):
    """CE(f(x), y) + beta R(f(x'), f(x'')) between the extremes of what the ball holds.

    The attack makes an adversarial and a collaborative image; of them and the clean one, x' is
    that of the smallest p_y and x'' that of the largest. R is the attack's regularizer, with its
    gradient to either, the clean image too.

    A step costs, beside the attack's, one forward and backward of three times the batch; with batch
    normalisation three of the batch: collaborative (batch statistics, moving averages untouched),
    clean and adversarial.

    Args:
      network: to be trained.
      attack: `SqueezeAttack`. Networks without batch normalisation are attacked in mode 'running',
        which is the same there and cheaper.
      beta: weight of R, >= 0; 6 in the program's script for RST.
      outer_order: which of clean and adversarial statistics enter the moving averages first: 'st',
        clean then adversarial, or 'rst', the reverse.

    Raises:
      TypeError: another attack.
      ValueError: beta < 0, eps 0, unknown order.

    Source: Li et al. (2023), arXiv 2205.11156, and the released program `ST-AT`, `losses.py`.
    """

    attack: SqueezeAttack
    warmup_terms = ("squeeze",)

    def __init__(
        self,
        network: keras.Model,
        attack: SqueezeAttack,
        beta: float = 6.0,
        outer_order: str = "st",
        name: str | None = None,
    ):
        if not isinstance(attack, SqueezeAttack):
            raise TypeError(
                f"SqueezeTraining(attack={attack!r}): must be a SqueezeAttack, which gives two "
                "images; e.g. attacks.SqueezeAttack(eps=8 / 255, step_size=2 / 255, steps=10)."
            )
        if attack.eps == 0:
            raise ValueError(
                "SqueezeTraining(attack=SqueezeAttack(eps=0)): must be > 0, as a ball of one point "
                "has nothing to squeeze; use 8 / 255 for CIFAR-10, or train with Standard."
            )
        if not 0 <= beta < float("inf"):
            raise ValueError(
                f"SqueezeTraining(beta={beta!r}): must be finite and >= 0; 6 for CIFAR-10."
            )
        if outer_order not in ORDERS:
            raise ValueError(
                f"SqueezeTraining(outer_order={outer_order!r}): must be one of {tuple(ORDERS)}."
            )
        self.beta, self.outer_order = float(beta), outer_order
        super().__init__(network, attack, {"clean": 1.0, "squeeze": beta}, name)

    def generate_adversarial(
        self, x: tf.Tensor, y: tf.Tensor, seed: tf.Tensor, scale: tf.Tensor
    ) -> SqueezeImages:
        attack = self.attack
        if not self.network.has_batch_norm:
            attack = dataclasses.replace(attack, batch_norm="running")
        x_adv, x_col = attack.members(self.network, x, y, seed=seed, scale=scale)
        return SqueezeImages(x_adv, x_col)

    def forward(
        self, x: tf.Tensor, y: tf.Tensor, adversarial: SqueezeImages, seed: tf.Tensor
    ) -> SqueezeBatch:
        x_adv, x_col = adversarial
        network = self.network
        if not network.has_batch_norm:
            with forward_mode(seed=fold(seed, 0)):
                return SqueezeBatch(y, *forward_together(network, x, x_adv, x_col))
        with forward_mode(batch_norm="batch", seed=fold(seed, 2)):
            col = network.forward(x_col, training=True)
        images, made = {"clean": x, "adv": x_adv}, {}
        for position, name in enumerate(ORDERS[self.outer_order]):
            with forward_mode(seed=fold(seed, position)):
                made[name] = network.forward(images[name], training=True)
        return SqueezeBatch(y, **made, col=col)

    def terms(self, batch: SqueezeBatch) -> Terms:
        candidates = [part.logits for part in (batch.clean, batch.col, batch.adv)]
        return {
            "clean": lambda: losses.cross_entropy(batch.clean.logits, batch.y),
            "squeeze": lambda: self.attack.apart(candidates, batch.y),
        }

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "beta": self.beta, "outer_order": self.outer_order}
