"""The perturbation of Feature Scattering: images that move the batch as a whole, without labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import tensorflow as tf

from robust_tf import losses, registration
from robust_tf.attacks.base import Attack
from robust_tf.attacks.gradient import Ascent
from robust_tf.attacks.network import Network, input_gradient, logits_of
from robust_tf.attacks.steps import Steepest, UnclippedStart
from robust_tf.attacks.threat import Budget, Linf, flat
from robust_tf.losses.transport import check_sinkhorn
from robust_tf.models import SplitClassifier
from robust_tf.models.conversion import check_follows
from robust_tf.models.forward import check_batch_norm_mode
from robust_tf.validation import check_eps, check_step_size, check_whole


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
      TypeError: in a call, space='features' on a model without features.
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
    has_step_size: ClassVar[bool] = True
    renamed: ClassVar[dict[str, str]] = {"regulariser": "regularizer"}

    def __post_init__(self) -> None:
        owner = type(self).__name__
        self._put(
            eps=check_eps(owner, self.eps),
            steps=check_whole(owner, "steps", self.steps, 1),
        )
        if self.step_size is not None:
            self._put(step_size=check_step_size(owner, self.step_size, hint="None takes eps"))
        self._put(**check_sinkhorn(self.regularizer, self.max_iterations, self.tolerance, owner))
        if self.space not in ("logits", "features"):
            raise ValueError(f"{owner}(space={self.space!r}): must be 'logits' or 'features'.")
        check_batch_norm_mode(self.batch_norm)

    def network_of(self, model: Callable[..., Any]) -> Network:
        """Logits, or features (B, m)."""
        if self.space == "logits":
            return super().network_of(model)
        if not isinstance(model, SplitClassifier):
            raise TypeError(
                f"ScatteringAttack(space='features') on a {type(model).__name__}: it takes a "
                "SplitClassifier, which has features; use space='logits' on other models."
            )
        check_follows(model, self.batch_norm)
        return logits_of(lambda images: flat(model.features(images)), self.batch_norm)

    def run(
        self, network: Network, x: tf.Tensor, y: tf.Tensor, seed: tf.Tensor, budget: Budget
    ) -> tf.Tensor:
        threat = Linf(1.0)  # whose radius is the budget's
        bounds = threat.bounds(x, budget.eps)
        clean = network(x)

        def distance(moved: tf.Tensor) -> tf.Tensor:
            return losses.sinkhorn_distance(
                clean, moved, self.regularizer, self.max_iterations, self.tolerance
            )

        ascent = Ascent(threat, bounds, budget.step_size, Steepest(1.0))
        start = UnclippedStart()(threat, bounds, seed)
        return ascent.repeat(input_gradient(network, distance), start, self.steps)
