"""Latent adversarial training (LAT)."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from robust_tf import compat, losses, registration
from robust_tf.attacks import PGD, Attack, GradientAttack
from robust_tf.attacks.randomness import fold
from robust_tf.attacks.training import attack_features
from robust_tf.methods.arguments import check_attack
from robust_tf.methods.base import RobustModel
from robust_tf.methods.batch import Batch, Terms
from robust_tf.methods.reduction import global_mean, record
from robust_tf.models import forward_mode
from robust_tf.validation import check_number


class Scaled(NamedTuple):
    """Adversarial images (B, H, W, C), and the factor of eps at this step, in (0, 1]."""

    x_adv: tf.Tensor
    scale: tf.Tensor


@registration.configurable
@registration.serializable
class LAT(RobustModel):
    """CE(f(x'), y) for the network, then CE(h(z'), y) for its classifier h with z' near z = g(x).

    z' is what `latent_attack` makes of clean features, each channel of which is scaled to [0, 1] by
    its smallest and largest value over the batch of a replica and all positions: eps and step size
    are fractions of that range, and z' does not leave it. A dense feature is a channel; one that
    is the same in the whole batch is not moved. The second update has an optimiser of its own, SGD
    at a constant rate without weight decay or regularizers.

    Features z and the second update use batch statistics and leave moving averages as they are, so
    that these change once a step; the latent attack has a `batch_norm` of its own, by default batch
    statistics as in the program. `latent` in the logs is CE(h(z'), y) before the update of h. A
    warm-up of eps holds for both attacks.

    Beside the attack on images and its forward and backward, a step costs a forward of g, and of h
    a forward and gradient for each step of the latent attack and a forward and backward.

    Args:
      network: to be trained; it is cut where the latent attack should be, in the paper after its
        second stage.
      attack: training adversary on images, e.g. `PGD(eps=8 / 255, step_size=2 / 255, steps=10)`.
      latent_attack: gradient attack on features scaled to [0, 1], with eps > 0; by default the
        program's `PGD(8 / 255, 1 / 255, 20, batch_norm='batch')`.
      latent_rate: learning rate of the second update, > 0.
      latent_momentum: in [0, 1).

    Raises:
      ValueError: an argument outside its range.

    Source: Sinha et al. (2019), "Harnessing the Vulnerability of Latent Layers in Adversarially
    Trained Models", and its released program, which alternates the two from a network that is
    adversarially trained already; the latent step comes first there.
    """

    needs_clean = False
    needs_features = True

    def __init__(
        self,
        network: keras.Model,
        attack: Attack,
        latent_attack: GradientAttack | None = None,
        latent_rate: float = 2.5e-4,
        latent_momentum: float = 0.9,
        name: str | None = None,
    ):
        check_attack("LAT", attack)
        hint = "a fraction of each channel's range, such as 8 / 255"
        if latent_attack is None:
            latent_attack = PGD(8 / 255, 1 / 255, 20, batch_norm="batch")
        if not isinstance(latent_attack, GradientAttack):
            raise ValueError(
                f"LAT(latent_attack={latent_attack!r}): must be a gradient attack, e.g. "
                "attacks.PGD(eps=8 / 255, step_size=1 / 255, steps=20)."
            )
        if latent_attack.objective.targeted:
            raise ValueError("LAT(latent_attack): a targeted attack has no target here.")
        check_number("LAT", "latent_attack.eps", latent_attack.eps, 0.0, hint, strict=True)
        check_number("LAT", "latent_rate", latent_rate, 0.0, "2.5e-4 in the program", strict=True)
        if not 0 <= latent_momentum < 1:
            raise ValueError(f"LAT(latent_momentum={latent_momentum!r}): must be in [0, 1).")
        self.latent_attack = latent_attack
        self.latent_rate, self.latent_momentum = float(latent_rate), float(latent_momentum)
        super().__init__(network, attack, {"adversarial": 1.0}, name)
        # An attribute, so that Keras saves its momentum.
        optimizer = keras.optimizers.SGD(latent_rate, momentum=latent_momentum)
        self.latent_optimizer = compat.loss_scaling(optimizer, network)
        self.train_names.append("latent")
        self.step_metrics["latent"] = keras.metrics.Mean("latent")

    def generate_adversarial(
        self, x: tf.Tensor, y: tf.Tensor, seed: tf.Tensor, scale: tf.Tensor
    ) -> Scaled:
        assert self.attack is not None
        return Scaled(self.attack(self.network, x, y, seed=seed, scale=scale), scale)

    def terms(self, batch: Batch) -> Terms:
        return {"adversarial": lambda: losses.cross_entropy(batch.adv.logits, batch.y)}

    def auxiliary_optimizers(self) -> dict[str, tuple[keras.optimizers.Optimizer, list[Any]]]:
        return {"latent": (self.latent_optimizer, self.network.classifier.trainable_variables)}

    def auxiliary_step(self, batch: Batch) -> None:
        """The update of the classifier on attacked features."""
        trained = self.network.classifier.trainable_variables
        variables = [compat.raw(v) for v in trained]
        scale = batch.adversarial.scale
        z_adv = self.attack_features(batch.x, batch.y, fold(batch.seed, 2), scale)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            with forward_mode(batch_norm="batch", seed=fold(batch.seed, 3)):
                logits = self.network.classify(z_adv, training=True)
            values = losses.cross_entropy(logits, batch.y)
            loss = compat.scale_loss(self.latent_optimizer, global_mean(values))
        if trained:
            gradients = tape.gradient(loss, variables)
            compat.apply_gradients(self.latent_optimizer, gradients, trained)
        record(self.step_metrics["latent"], values, weigh=True)

    def attack_features(
        self, x: tf.Tensor, y: tf.Tensor, seed: tf.Tensor, scale: tf.Tensor
    ) -> tf.Tensor:
        """Attacked features z' of clean images, float32 (B, ...), without gradient."""
        return attack_features(self.network, self.latent_attack, x, y, seed, scale)

    def get_config(self) -> dict[str, Any]:
        names = ("latent_rate", "latent_momentum")
        own = {name: getattr(self, name) for name in names}
        latent_attack = compat.serialize(self.latent_attack)
        return {**super().get_config(), "latent_attack": latent_attack, **own}
