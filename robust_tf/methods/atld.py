"""ATLD: adversarial training with the latent distribution: perturbation, network, discriminator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from robust_tf import compat, losses, registration
from robust_tf.attacks import GradientAttack
from robust_tf.attacks.network import gradient_through
from robust_tf.attacks.randomness import fold
from robust_tf.attacks.training import ManifoldLoss
from robust_tf.losses.labels import check_smoothing
from robust_tf.methods.base import RobustModel
from robust_tf.methods.batch import Terms
from robust_tf.methods.discriminator_training import DiscriminatorTraining, faults, fitting
from robust_tf.methods.reduction import global_mean, record
from robust_tf.methods.settings import layer_losses
from robust_tf.methods.whole_batch import over_batch
from robust_tf.models import (
    Discriminator,
    Outputs,
    WideDiscriminator,
    forward_mode,
)
from robust_tf.validation import check_number, check_whole

MAX_SCALE = 1e3
DISCRIMINATOR_METRICS = ("manifold", "discriminator_accuracy", "zero_gradient")


class ManifoldImages(NamedTuple):
    """Adversarial images (B, H, W, C), and the outputs of the clean ones by running averages."""

    x_adv: tf.Tensor
    clean: Outputs


class ManifoldBatch(NamedTuple):
    """What network and discriminator learn from.

    x: clean images (B, H, W, C); y: labels (B,); clean: outputs by running averages, constant but
    for 'fool_disc'; adv: outputs in training mode; scale: s, a scalar, None where the invariance
    has none; seed: int32 (2,), of this step and replica.
    """

    x: tf.Tensor
    y: tf.Tensor
    clean: Outputs
    adv: Outputs
    scale: tf.Tensor | None
    seed: tf.Tensor


@registration.configurable
@registration.serializable
class ATLD(RobustModel):
    """CE(f(x'), y~) + s / kappa * |f(x') - f(x)|^2 / C, x' by a discriminator, without labels.

    With z = f(x) and D0 the probability that z is of a natural image:

        perturbation   x' lowers -log(1 - D0(f(x'))), f by running averages (`ManifoldAttack`)
        network        the loss above; f(x) by running averages and constant, y~ smoothed labels
        discriminator  lowers -log D0(f(x)) - log(1 - D0(f(x'))) + CE(Dc(f(x)), y~) + CE(Dc(f(x')),
                       y~), `updates` times on the outputs that the network's loss had

    That is the program's loss. The paper's (Equation 7, `invariance='fool_disc'`, kappa 1) has in
    place of the second term what the discriminator raises, so that the two play a zero-sum game:

        log D0(f(x)) + log(1 - D0(f(x')))

    with gradients through f(x), by running averages, and f(x'), in training mode, as the
    discriminator sees them; itself it goes by batch statistics and is held fixed.

    The discriminator is updated after the network, in the program before it, which makes a
    difference for 'fool_disc' alone. s is the largest entry of the gradient of the mean CE with
    respect to x', over that of the mean square: signed maxima over the batch of all replicas,
    constant, kept in [0, 1000] (the guard is ours). Batch statistics see x' only, unless
    `clean_bn_every` is given.

    A step with one step of the attack costs three forwards and four backwards of the network, two
    of which are for s (four and three with 'fool_disc'); and of the discriminator, with two
    updates, six forwards and five backwards. The logs say, of the discriminator before its update:
    `manifold`, its -log D0(f(x)) - log(1 - D0(f(x'))), 2 log 2 = 1.386 where it cannot tell them
    apart; `discriminator_accuracy`, the share of f(x) and f(x') that D0 sorts right;
    `zero_gradient`, the share of f(x') at which log(1 - D0) has a gradient of exactly 0, so that
    the perturbation has no direction and x' is noise (where the discriminator has batch statistics
    they carry a gradient, and `manifold` alone tells a dead one). Natural accuracies are by running
    averages.

    Args:
      network: to be trained.
      attack: `ManifoldAttack`.
      discriminator: builder, (inputs, num_classes) -> Discriminator, or one that is built.
      disc_training: how the discriminator learns.
      kappa: > 0, the invariance has the weight 1 / kappa; in the program 2 for CIFAR-10 and SVHN,
        10 for CIFAR-100; in the paper 1.
      label_smoothing: d in [0, 1 - 1 / C); the true class has 1 - d, each other d / (C - 1).
      disc_input: what the discriminator sees, 'logits' (program) or 'features' (paper).
      invariance: 'mse_logits' (program), or 'fool_disc' (paper), see above.
      clean_bn_every: n > 0: after each n-th step from the first on, one more forward shows the
        network's batch normalisation clean images, as the program's logging does with n = 10.

    Source: Qian et al., "Improving Model Robustness with Latent Distribution Locally and Globally"
    (ICLR 2021 submission), and the released program, which is followed where they differ.
    """

    warmup_terms = ("invariance",)

    def __init__(
        self,
        network: keras.Model,
        attack: GradientAttack,
        discriminator: Discriminator | Callable[..., Discriminator] = WideDiscriminator,
        disc_training: DiscriminatorTraining | None = None,
        kappa: float = 2.0,
        label_smoothing: float = 0.5,
        disc_input: str = "logits",
        invariance: str = "mse_logits",
        clean_bn_every: int = 0,
        name: str | None = None,
    ):
        check_number("ATLD", "kappa", kappa, 0.0, "2 for CIFAR-10, 10 for CIFAR-100", strict=True)
        for option, value, known in (
            ("disc_input", disc_input, ("logits", "features")),
            ("invariance", invariance, ("mse_logits", "fool_disc")),
        ):
            if value not in known:
                raise ValueError(f"ATLD({option}={value!r}): must be one of {known}.")
        clean_bn_every = check_whole("ATLD", "clean_bn_every", clean_bn_every, 0, "0 is never")
        if not isinstance(getattr(attack, "objective", None), ManifoldLoss):
            raise ValueError(
                f"ATLD(attack={attack!r}): must be ManifoldAttack(eps=..., step_size=..., "
                "steps=...), which attacks the discriminator; others attack a classifier."
            )
        self.kappa, self.label_smoothing = float(kappa), float(label_smoothing)
        self.disc_input, self.invariance = disc_input, invariance
        self.clean_bn_every = clean_bn_every
        self.needs_features, self.sees_batch = disc_input == "features", invariance == "mse_logits"
        super().__init__(network, attack, {"adversarial": 1.0, "invariance": 1 / kappa}, name)
        check_smoothing(label_smoothing, "ATLD", self.network.num_classes)
        self.discriminator = fitting(discriminator, self.network, disc_input)
        self.disc_training = disc_training or DiscriminatorTraining()
        optimizer = keras.optimizers.SGD(
            self.disc_training.learning_rate, momentum=self.disc_training.momentum
        )
        self.disc_optimizer = compat.loss_scaling(optimizer, self.discriminator)
        self.train_names += DISCRIMINATOR_METRICS
        own = {name: keras.metrics.Mean(name) for name in DISCRIMINATOR_METRICS}
        self.step_metrics = {**self.step_metrics, **own}

    # ---- the perturbation ----------------------------------------------------------------------

    def generate_adversarial(
        self, x: tf.Tensor, y: tf.Tensor, seed: tf.Tensor, scale: tf.Tensor
    ) -> ManifoldImages:
        clean = Outputs(
            *(None if part is None else tf.stop_gradient(part) for part in self._running(x))
        )

        def discriminate(images: tf.Tensor) -> tf.Tensor:
            # The clean half of the manifold loss has no gradient; moving averages see it.
            self.discriminator(self._seen(clean))
            natural, classes = self.discriminator(self._seen(self._running(images)))
            return tf.concat([natural[:, None], classes], axis=1)

        assert self.attack is not None
        return ManifoldImages(self.attack(discriminate, x, y, seed=seed, scale=scale), clean)

    # ---- the network ---------------------------------------------------------------------------

    def forward(
        self, x: tf.Tensor, y: tf.Tensor, adversarial: ManifoldImages, seed: tf.Tensor
    ) -> ManifoldBatch:
        x_adv, clean = adversarial
        scaled = self.invariance == "mse_logits"
        if not scaled:
            clean = self._running(x)  # again with a gradient, before x' moves the averages
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            if scaled:
                tape.watch(x_adv)
            with forward_mode(seed=fold(seed, 1)):
                adv = self.network.forward(x_adv, training=True)
            cross_entropy = global_mean(losses.soft_cross_entropy(adv.logits, self._soft(y)))
            distance = global_mean(_mean_square(adv.logits, clean.logits))
        scale = None
        if scaled:
            largest = [
                tf.reduce_max(gradient_through(tape, value, adv.logits, x_adv))
                for value in (cross_entropy, distance)
            ]
            above, below = tf.unstack(over_batch(tf.stack(largest), "max"))
            scale = tf.stop_gradient(tf.clip_by_value(above / (below + 1e-12), 0.0, MAX_SCALE))
        return ManifoldBatch(x, y, clean, adv, scale, seed)

    def terms(self, batch: ManifoldBatch) -> Terms:
        def invariance() -> tf.Tensor:
            if batch.scale is not None:
                return batch.scale * _mean_square(batch.adv.logits, batch.clean.logits)
            with forward_mode(batch_norm="batch", seed=fold(batch.seed, 2)):
                natural, adversarial = (
                    self.discriminator(self._seen(outputs), training=True).natural
                    for outputs in (batch.clean, batch.adv)
                )
            return -tf.nn.softplus(-natural) - tf.nn.softplus(adversarial)

        return {
            "adversarial": lambda: losses.soft_cross_entropy(batch.adv.logits, self._soft(batch.y)),
            "invariance": invariance,
        }

    # ---- the discriminator ---------------------------------------------------------------------

    def auxiliary_optimizers(self) -> dict[str, tuple[keras.optimizers.Optimizer, list[Any]]]:
        return {"discriminator": (self.disc_optimizer, self.discriminator.trainable_variables)}

    def auxiliary_models(self) -> dict[str, keras.Model]:
        return {"discriminator": self.discriminator}

    def auxiliary_step(self, batch: ManifoldBatch) -> None:
        """The discriminator's updates; and, now and then, clean images for the moving averages."""
        clean, adv = (tf.stop_gradient(self._seen(part)) for part in (batch.clean, batch.adv))
        for update in range(self.disc_training.updates):
            with forward_mode(seed=fold(batch.seed, 3 + update)):
                self._improve_discriminator(clean, adv, batch.y, watched=update == 0)
        if self.clean_bn_every and self.network.has_batch_norm:

            def show() -> tf.Tensor:
                with forward_mode(batch_norm="training", seed=fold(batch.seed, 0)):
                    return tf.reduce_sum(self.network(batch.x, training=True))

            tf.cond(tf.equal(self.batches % self.clean_bn_every, 0), show, lambda: tf.constant(0.0))

    def _improve_discriminator(
        self, clean: tf.Tensor, adv: tf.Tensor, y: tf.Tensor, watched: bool
    ) -> None:
        """One update on what it sees of both; `watched` records how it was before."""
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        trained = self.discriminator.trainable_variables
        labels = self._soft(y, 0.0 if self.disc_training.hard_labels else None)
        variables = [compat.raw(v) for v in trained]
        with tf.GradientTape(persistent=watched, watch_accessed_variables=False) as tape:
            tape.watch([*variables, adv])
            natural = self.discriminator(clean, training=True)
            moved = self.discriminator(adv, training=True)
            as_adversarial = tf.nn.softplus(moved.natural)
            manifold = tf.nn.softplus(-natural.natural) + as_adversarial
            classes = losses.soft_cross_entropy(natural.classes, labels)
            classes += losses.soft_cross_entropy(moved.classes, labels)
            penalty = layer_losses(self.discriminator)
            penalty += self.disc_training.weight_decay * tf.add_n(map(tf.nn.l2_loss, variables))
            loss = global_mean(manifold + classes) + penalty / replicas
            loss = compat.scale_loss(self.disc_optimizer, loss)
        if watched:
            direction = tape.gradient(as_adversarial, adv)
            still = tf.reduce_all(tf.equal(direction, 0), axis=range(1, direction.shape.rank))
            right = (tf.cast(w, tf.float32) for w in (natural.natural > 0, moved.natural < 0))
            values = (manifold, tf.add_n([*right]) / 2, tf.cast(still, tf.float32))
            for name, value in zip(DISCRIMINATOR_METRICS, values, strict=True):
                record(self.step_metrics[name], value)
        compat.apply_gradients(self.disc_optimizer, tape.gradient(loss, variables), trained)

    def diagnose(self, logs: dict[str, float]) -> list[str]:
        """A discriminator that tells nothing apart, or has died."""
        return faults(logs)

    # ---- what both need -----------------------------------------------------------------------

    def _running(self, x: tf.Tensor) -> Outputs:
        with forward_mode(batch_norm="running"):
            return self.network.forward(x, training=False)

    def _seen(self, outputs: Outputs) -> tf.Tensor:
        """What the discriminator sees."""
        return outputs.logits if self.disc_input == "logits" else outputs.features

    def _soft(self, y: tf.Tensor, smoothing: float | None = None) -> tf.Tensor:
        smoothing = self.label_smoothing if smoothing is None else smoothing
        return losses.smooth_labels(y, self.network.num_classes, smoothing)

    def get_config(self) -> dict[str, Any]:
        names = ("kappa", "label_smoothing", "disc_input", "invariance", "clean_bn_every")
        return {
            **super().get_config(),
            "discriminator": compat.serialize(self.discriminator),
            "disc_training": compat.serialize(self.disc_training),
            **{name: getattr(self, name) for name in names},
        }


def _mean_square(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Over the classes, (B,)."""
    return tf.reduce_mean(tf.math.squared_difference(a, b), axis=1)
