"""Feature Scattering: images that move the batch as a whole, without labels."""

from __future__ import annotations

import dataclasses
from typing import Any

import tensorflow as tf

from robust_tf import losses, registration
from robust_tf.attacks import Attack, Linf
from robust_tf.attacks.arguments import check_batch
from robust_tf.attacks.network import Network, input_gradient, logits_of
from robust_tf.attacks.randomness import as_seed
from robust_tf.attacks.threat import flat
from robust_tf.losses.labels import check_smoothing
from robust_tf.losses.transport import check_sinkhorn
from robust_tf.methods.base import RobustModel
from robust_tf.methods.batch import Batch, Terms
from robust_tf.models import SplitClassifier
from robust_tf.models.forward import check_batch_norm_mode
from robust_tf.validation import check_number


@registration.configurable
@registration.serializable
@dataclasses.dataclass(frozen=True)
class ScatteringAttack(Attack):
    """x' = P(x' + step sign grad OT): away from the clean batch in optimal transport, L-inf.

    Starts at x + U(-eps, eps), not clipped to [0, 1] before the first step. Labels are ignored.
    OT is `losses.sinkhorn_distance` between the clean and the perturbed batch, so the examples of a
    batch see each other; one example alone is moved away from itself in cosine distance. Costs one
    forward, and a forward and a gradient for each step.

    Args:
      eps: radius in pixel units, >= 0; 8/255 for CIFAR-10 and SVHN.
      step_size: > 0, or None for eps.
      steps: >= 1.
      regularizer: of the transport, > 0.
      max_iterations: of Sinkhorn, >= 1.
      tolerance: at which Sinkhorn stops, >= 0.
      space: what is transported: 'logits', as the released program does, or 'features', which takes
        a `SplitClassifier`. Logits of two classes lie in a plane, nearly all along one line of it,
        where a cosine hardly moves until the prediction turns.
      batch_norm: mode of `robust_tf.models.BatchNormalization`; 'running' in the program.

    Raises:
      ValueError: an argument outside its range.

    Source: Zhang & Wang (2019) and its released program.
    """

    eps: float
    step_size: float | None = None
    steps: int = 1
    regularizer: float = 0.01
    max_iterations: int = 100
    tolerance: float = 0.1
    space: str = "logits"
    batch_norm: str = "running"

    def __post_init__(self) -> None:
        owner = type(self).__name__
        check_number(owner, "eps", self.eps, 0.0, "use 8 / 255 for CIFAR-10, 0.3 for MNIST")
        if self.step_size is not None:
            check_number(owner, "step_size", self.step_size, 0.0, "None takes eps", strict=True)
        if not isinstance(self.steps, int) or self.steps < 1:
            raise ValueError(f"{owner}(steps={self.steps!r}): must be an integer >= 1.")
        check_sinkhorn(self.regularizer, self.max_iterations, self.tolerance, owner)
        if self.space not in ("logits", "features"):
            raise ValueError(f"{owner}(space={self.space!r}): must be 'logits' or 'features'.")
        check_batch_norm_mode(self.batch_norm)

    def __call__(
        self, model: Any, x: Any, y: Any, *, seed: Any = 0, scale: float | tf.Tensor = 1.0
    ) -> tf.Tensor:
        if self.space == "logits":
            return super().__call__(model, x, y, seed=seed, scale=scale)
        if not isinstance(model, SplitClassifier):
            raise TypeError(
                f"ScatteringAttack(space='features') on a {type(model).__name__}: it takes a "
                "SplitClassifier, which has features; use space='logits' on other models."
            )
        features = logits_of(lambda images: flat(model.features(images)), self.batch_norm)
        x, y = check_batch(x, y)
        return tf.stop_gradient(self.run(features, x, y, as_seed(seed), tf.cast(scale, tf.float32)))

    def run(
        self, network: Network, x: tf.Tensor, y: tf.Tensor, seed: tf.Tensor, scale: tf.Tensor
    ) -> tf.Tensor:
        threat = Linf(self.eps)
        bounds = threat.bounds(x, scale)
        size = (self.eps if self.step_size is None else self.step_size) * scale
        clean = network(x)

        def distance(moved: tf.Tensor) -> tf.Tensor:
            return losses.sinkhorn_distance(
                clean, moved, self.regularizer, self.max_iterations, self.tolerance
            )

        gradient_at = input_gradient(network, distance)
        x_adv = x + bounds.radius * threat.random(x, seed)
        for _ in range(self.steps):
            x_adv = threat.project(x_adv + size * tf.sign(gradient_at(x_adv)[0]), bounds)
        return x_adv


@registration.configurable
@registration.serializable
class FeatureScattering(RobustModel):
    """CE(f(x'), y~), x' from `ScatteringAttack`, y~ smoothed labels; no loss of clean images.

    A step costs three forwards and two backwards with the attack's one step.

    Args:
      network: to be trained, of two classes or more.
      attack: `ScatteringAttack`; another one makes this adversarial training with smoothed labels.
        The batch that is scattered is that of one replica.
      label_smoothing: d in [0, 1 - 1 / C); the true class has 1 - d, each other d / (C - 1).

    Source: Zhang & Wang (2019), "Defense Against Adversarial Attacks Using Feature
    Scattering-based Adversarial Training", and its released program. It holds under PGD and falls
    under AutoAttack (36.6 % on CIFAR-10, as Qian et al. report in the ATLD paper).
    """

    needs_clean = False

    def __init__(
        self,
        network: SplitClassifier,
        attack: Attack,
        label_smoothing: float = 0.5,
        name: str | None = None,
    ):
        self.label_smoothing = float(label_smoothing)
        super().__init__(network, attack, {"adversarial": 1.0}, name)
        if network.num_classes < 2:
            raise ValueError(
                f"FeatureScattering: the network has {network.num_classes} class; smoothed labels "
                "need two or more."
            )
        check_smoothing(label_smoothing, "FeatureScattering", network.num_classes)

    def terms(self, batch: Batch) -> Terms:
        labels = losses.smooth_labels(batch.y, self.network.num_classes, self.label_smoothing)
        return {"adversarial": lambda: losses.soft_cross_entropy(batch.adv.logits, labels)}

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "label_smoothing": self.label_smoothing}
