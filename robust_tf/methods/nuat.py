"""NuAT: single-step training by the nuclear norm of what the adversary does to a batch's logits."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from robust_tf import losses, registration
from robust_tf.attacks import NuclearAttack
from robust_tf.attacks.gradient import Ascent
from robust_tf.attacks.network import input_gradient, logits_of
from robust_tf.attacks.randomness import fold
from robust_tf.attacks.training.nuclear import nuclear_loss
from robust_tf.methods.base import RobustModel
from robust_tf.methods.batch import Batch, Terms
from robust_tf.validation import check_number


@registration.configurable
@registration.serializable
class NuAT(RobustModel):
    """CE(f(x), y) + weight ||f(x) - f(x')||_* / B, without a cross-entropy of x'.

    ||.||_* is the sum of the singular values of the B x C matrix, of the images of one replica;
    both sides have a gradient. x' comes by one step from x +- eps / 2 (a coin for each pixel) that
    raises in turn, batch by batch, the cross-entropy, and the cross-entropy plus the weight times
    that norm, f(x) constant and by batch statistics. With an attack of two steps (NuAT2) the first
    raises the sum and the second the cross-entropy, in each batch.

    The weight has to grow, `train.term_warmup_epochs`, in the attack as in the loss: constant from
    the first batch on it holds the logits together before they tell classes apart. The program
    lets it grow by epochs over 90 of 100, here it does so by batches. The program divides by 64,
    its batch size, also where a last batch is smaller; here B is the size of the batch.

    A step costs three forwards and three backwards, and one more forward on each second batch.

    Args:
      network: to be trained.
      attack: `NuclearAttack(eps)`; its own weight plays no part.
      weight: lambda >= 0; 4.5 for CIFAR-10 in the program, 4 with an average of weights.

    Raises:
      ValueError: an argument outside its range, another attack.

    Source: Sriramanan et al. (2021), "Towards Efficient and Effective Adversarial Training", and
    the released program. NuAT-WA is this with `train.weight_average = @EMA`; NuAT2-WA, whose first
    step is made on the average, is not here.
    """

    takes_soft_labels = True
    warmup_terms = ("nuclear",)

    def __init__(
        self,
        network: keras.Model,
        attack: NuclearAttack,
        weight: float = 4.5,
        name: str | None = None,
    ):
        check_number("NuAT", "weight", weight, 0.0, "4.5 for CIFAR-10")
        if not isinstance(attack, NuclearAttack):
            raise ValueError(f"NuAT(attack={attack!r}): must be NuclearAttack(eps=...).")
        self.weight = float(weight)
        super().__init__(network, attack, {"clean": 1.0, "nuclear": weight}, name)

    def generate_adversarial(
        self, x: tf.Tensor, y: tf.Tensor, seed: tf.Tensor, scale: tf.Tensor
    ) -> tf.Tensor:
        """By the weights of this batch; else as `attack` makes them."""
        attack = self.attack
        assert isinstance(attack, NuclearAttack)
        budget = attack.budget(scale=scale)
        bounds = attack.threat.bounds(x, budget.eps)
        ascent = Ascent(attack.threat, bounds, budget.step_size, attack.step)
        weight = self.weight * tf.convert_to_tensor(self.settings.term_factor(self.batches))
        turn = tf.logical_or(attack.steps > 1, tf.equal(self.batches % 2, 1))
        statistics = logits_of(self.network, "batch")
        classes = self.network.num_classes
        clean = tf.cond(
            turn, lambda: statistics(x), lambda: tf.zeros([tf.shape(x)[0], classes], tf.float32)
        )
        gradient_at = input_gradient(attack.network_of(self.network), nuclear_loss)
        images = attack.start(attack.threat, bounds, fold(seed, 0))
        for number in range(attack.steps):
            own = tf.where(turn, weight, 0.0) if number == 0 else tf.zeros([])
            images, _ = ascent.step(images, gradient_at(images, y, clean, own)[0], ())
        return tf.stop_gradient(images)

    def terms(self, batch: Batch) -> Terms:
        return {
            "clean": lambda: losses.label_cross_entropy(batch.clean.logits, batch.y),
            "nuclear": lambda: losses.nuclear_norm(batch.clean.logits - batch.adv.logits),
        }

    def of_a_part(self) -> str:
        return "the nuclear norm is that of each part's logits"

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "weight": self.weight}
