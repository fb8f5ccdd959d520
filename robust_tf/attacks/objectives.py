"""What an adversary raises: one value for each example, from logits (B, C) and labels (B,).

An objective with `targeted=True` takes the labels to be those of the adversary's aim.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import tensorflow as tf

from robust_tf import losses, registration
from robust_tf.argument_types import Unbounded
from robust_tf.dataclass_config import DataclassConfig
from robust_tf.validation import check_number


@dataclasses.dataclass(frozen=True)
class Objective(DataclassConfig):
    """Base class.

    Args:
      targeted: labels are targets; the objective rises as the prediction nears them.
    """

    targeted: bool = False
    # Whether labels may be distributions over the classes, float32 (B, C), too.
    takes_soft_labels: ClassVar[bool] = False

    def reference(self, network: Callable[[tf.Tensor], tf.Tensor], x: tf.Tensor) -> Any:
        """What `values` needs beside logits and labels: a tensor (B, ...), or None for nothing."""
        return None

    def values(self, logits: tf.Tensor, y: tf.Tensor, reference: tf.Tensor | None) -> tf.Tensor:
        """(B,) float32, to be raised by the adversary."""
        raise NotImplementedError


@registration.configurable
@registration.serializable
@dataclasses.dataclass(frozen=True)
class CrossEntropy(Objective):
    """CE(f(x'), y); targeted: -CE(f(x'), t)."""

    takes_soft_labels: ClassVar[bool] = True

    def values(self, logits: tf.Tensor, y: tf.Tensor, reference: tf.Tensor | None) -> tf.Tensor:
        value = losses.label_cross_entropy(logits, y)
        return -value if self.targeted else value


@registration.configurable
@registration.serializable
@dataclasses.dataclass(frozen=True)
class Margin(Objective):
    """-max(z_y - max_{j != y} z_j, -confidence), or with t for y and the inner sign turned.

    Args:
      confidence: kappa >= 0; the hinge is flat where the margin is below -kappa. The 50
        of the released programs keeps it active in practice; inf is the plain margin.

    Source: Carlini & Wagner (2017), in the PGD loop as in Madry et al.'s and Zhang & Wang's
    programs. The best other class is found by masking with -inf, right for logits of any sign.
    """

    confidence: Unbounded = 50.0

    def __post_init__(self) -> None:
        if self.confidence != float("inf"):
            value = check_number("Margin", "confidence", self.confidence, 0.0, "the papers use 50")
            object.__setattr__(self, "confidence", value)

    def values(self, logits: tf.Tensor, y: tf.Tensor, reference: tf.Tensor | None) -> tf.Tensor:
        value = margin(logits, y)
        return -tf.maximum(-value if self.targeted else value, -self.confidence)


@registration.configurable
@registration.serializable
@dataclasses.dataclass(frozen=True)
class KLDivergence(Objective):
    """KL between the clean and the adversarial prediction; labels are ignored.

    Args:
      direction: 'clean_adv' is KL(p(x) || p(x')), the official TRADES; 'adv_clean' is
        KL(p(x') || p(x)), as in ADR's released TRADES adversary.
    """

    takes_soft_labels: ClassVar[bool] = True
    direction: str = "clean_adv"

    def __post_init__(self) -> None:
        if self.direction not in ("clean_adv", "adv_clean"):
            raise ValueError(
                f"KLDivergence(direction={self.direction!r}): must be 'clean_adv' or 'adv_clean'."
            )
        if self.targeted:
            raise ValueError(
                "KLDivergence(targeted=True): it has no labels; use CrossEntropy or Margin."
            )

    def reference(self, network: Callable[[tf.Tensor], tf.Tensor], x: tf.Tensor) -> Any:
        """The logits of the clean images, at one more forward."""
        return network(x)

    def values(self, logits: tf.Tensor, y: tf.Tensor, reference: tf.Tensor | None) -> tf.Tensor:
        if self.direction == "clean_adv":
            return losses.kl_divergence(reference, logits)
        return losses.kl_divergence(logits, reference)


def margin(logits: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """z_y - max_{j != y} z_j, (B,): negative where the prediction is not y."""
    own = tf.one_hot(y, tf.shape(logits)[1], on_value=True, off_value=False, dtype=tf.bool)
    minus_inf = tf.constant(float("-inf"), logits.dtype)
    other = tf.reduce_max(tf.where(own, minus_inf, logits), axis=1)
    return tf.reduce_sum(tf.where(own, logits, 0.0), axis=1) - other


def predicted_class(logits: tf.Tensor) -> tf.Tensor:
    """int32 (B,): the class of the largest logit, -1 where a logit is not a number."""
    invalid = tf.reduce_any(tf.math.is_nan(logits), axis=1)
    return tf.where(invalid, -1, tf.argmax(logits, axis=1, output_type=tf.int32))


def is_misclassified(logits: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Whether the prediction is not y, bool (B,); of equal logits the first class counts."""
    return tf.not_equal(tf.argmax(logits, axis=1, output_type=tf.int32), y)
