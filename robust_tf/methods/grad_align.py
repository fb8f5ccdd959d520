"""GradAlign: FGSM training whose gradients are kept alike all over the ball."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from robust_tf import losses, registration
from robust_tf.attacks import FGSM
from robust_tf.attacks.network import gradient_through, input_gradient
from robust_tf.attacks.randomness import fold
from robust_tf.methods.base import RobustModel
from robust_tf.methods.batch import Batch, Terms
from robust_tf.methods.whole_batch import over_batch
from robust_tf.validation import check_number


class AlignedImages(NamedTuple):
    """Adversarial images (B, H, W, C), and the gradient at the clean ones that made them."""

    x_adv: tf.Tensor
    gradient: tf.Tensor


@registration.configurable
@registration.serializable
class GradAlign(RobustModel):
    """CE(f(x'), y) + weight (1 - mean cos(g(x), g(x + n))), x' by FGSM, n ~ U(-eps, eps).

    g is the gradient of the cross-entropy for the image. The first, g(x), is that of FGSM's step
    and constant; the second is differentiated once more for the weights (in the paper both are).
    x + n is not boxed. An image at which a gradient is exactly 0 has no cosine: the mean is over
    the others of the global batch, and the term is 0 where there are none.

    A step costs three forwards, a backward of each, and the backward of the one for g(x + n). Both
    g have the attack's mode of batch normalization, 'training' in the program, and no dropout.

    Args:
      network: to be trained.
      attack: `FGSM(eps)` from the clean image; n has its eps and norm.
      weight: lambda >= 0. In the program 0.02 * 10^(255 eps / 8) for CIFAR-10 (0.2 at 8/255, 2 at
        16/255) and 1.563 exp(0.0587 * 255 eps) for SVHN (2.5 at 8/255).

    Raises:
      ValueError: an argument outside its range, another attack.

    Source: Andriushchenko & Flammarion (2020), "Understanding and Improving Fast Adversarial
    Training", and the released program, which is followed where they differ.
    """

    needs_clean = False
    takes_soft_labels = True
    warmup_terms = ("alignment",)
    sees_batch, second_order = True, True

    def __init__(
        self, network: keras.Model, attack: FGSM, weight: float = 0.2, name: str | None = None
    ):
        check_number("GradAlign", "weight", weight, 0.0, "0.2 for CIFAR-10 at 8/255")
        if not isinstance(attack, FGSM) or attack.random_start:
            raise ValueError(
                f"GradAlign(attack={attack!r}): must be FGSM(eps=...) without a random start, "
                "whose gradient at the clean image is one of the two."
            )
        self.weight = float(weight)
        super().__init__(network, attack, {"adversarial": 1.0, "alignment": weight}, name)

    def generate_adversarial(
        self, x: tf.Tensor, y: tf.Tensor, seed: tf.Tensor, scale: tf.Tensor
    ) -> AlignedImages:
        """As `attack` makes them, with the gradient by which it does."""
        attack = self._fgsm
        budget, network = attack.budget(scale=scale), attack.network_of(self.network)
        bounds = attack.threat.bounds(x, budget.eps)
        gradient = input_gradient(network, attack.objective.values)(x, y, None)[0]
        x_adv = attack.threat.step(x, gradient, budget.step_size, bounds)
        return AlignedImages(*map(tf.stop_gradient, (x_adv, gradient)))

    def terms(self, batch: Batch) -> Terms:
        return {
            "adversarial": lambda: losses.label_cross_entropy(batch.adv.logits, batch.y),
            "alignment": lambda: self._misalignment(batch),
        }

    def _misalignment(self, batch: Batch) -> tf.Tensor:
        """(B,): what each image adds to B (1 - mean cos), B images of this replica and others."""
        attack, x = self._fgsm, batch.x
        eps = attack.eps * self.settings.eps_factor(self.batches)
        moved = x + tf.cast(eps, x.dtype) * attack.threat.random(x, fold(batch.seed, 2))
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch(moved)
            logits = attack.network_of(self.network)(moved)
            values = losses.label_cross_entropy(logits, batch.y)
        # Inside the step's tape, which so differentiates it.
        gradient = gradient_through(tape, values, logits, moved)
        first = getattr(batch.adversarial, "gradient", None)
        assert first is not None
        cosine, valid = losses.gradient_alignment(gradient, first)
        return tf.where(valid, 1.0 - cosine, 0.0) * _share(valid)

    @property
    def _fgsm(self) -> FGSM:
        assert isinstance(self.attack, FGSM)
        return self.attack

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "weight": self.weight}


def _share(valid: tf.Tensor) -> tf.Tensor:
    """Number of all images over those that count, of the batch; finite where none does."""
    counts = tf.stack(
        [tf.cast(tf.size(valid), tf.float32), tf.reduce_sum(tf.cast(valid, tf.float32))]
    )
    counts = over_batch(counts, "sum")
    return counts[0] / tf.maximum(counts[1], 1.0)
