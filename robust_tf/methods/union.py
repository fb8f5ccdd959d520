"""Adversarial training on a union of balls: by the maximum, the average, or by MSD."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from robust_tf import compat, losses, registration
from robust_tf.attacks import MSD, Attack, Union
from robust_tf.attacks.objectives import margin
from robust_tf.attacks.randomness import fold
from robust_tf.attacks.union import AttackUnion
from robust_tf.methods.base import RobustModel
from robust_tf.methods.batch import Batch, Terms, forward_together
from robust_tf.models import Outputs, forward_mode

CHOICES = ("max", "average", "msd")


class Candidates(NamedTuple):
    """Adversarial images (B, H, W, C) of each attack; x_adv: those of the first."""

    images: tuple[tf.Tensor, ...]

    @property
    def x_adv(self) -> tf.Tensor:
        return self.images[0]


class UnionBatch(NamedTuple):
    """A batch with the outputs of each attack's images.

    y: labels as in `Batch`; clean: None; adv: of each example the outputs of the lowest margin;
    outputs: of each attack.
    """

    y: tf.Tensor
    clean: Any
    adv: Outputs
    outputs: tuple[Outputs, ...]


@registration.configurable
@registration.serializable
class UnionTraining(RobustModel):
    """CE(f(x'), y) with x' of several attacks, each in a ball of its own.

    'max': of each example the image of the highest cross-entropy, in the attacks' mode of batch
    normalization. 'average': the mean of the cross-entropies of all attacks' images, each a term in
    the logs; there `robust_accuracy` counts an image that is right under all of them. 'msd': the
    image of `attacks.MSD`, one ascent that takes at each step the best of the steps in all balls.

    A step costs all attacks; 'max' adds a forward of each attack's images to choose and one forward
    and backward, 'average' a forward and backward of each attack's images, in one pass unless the
    network has batch statistics.

    Args:
      network: to be trained.
      attacks: two or more training adversaries, such as `[PGD(0.3, 0.01, 40), PGD(2.0, 0.1, 40,
        norm="L2")]`; a warm-up of eps scales the radius and the steps of each.
      choose: 'max', 'average' or 'msd', which takes attacks such as `BIM`.

    Raises:
      ValueError: another choice; attacks that `attacks.Union`, or `attacks.MSD`, refuses.

    Source: Tramer & Boneh (2019), "Adversarial Training and Robustness for Multiple Perturbations";
    MSD: Maini et al. (2020). The first program chooses by cross-entropy as here, while its attacks
    ascend the margin. That of Maini et al. takes an update for each attack, on CIFAR-10, where the
    average is meant.
    """

    needs_clean = False
    takes_soft_labels = True

    def __init__(
        self,
        network: keras.Model,
        attacks: Sequence[Attack],
        choose: str = "max",
        name: str | None = None,
    ):
        if choose not in CHOICES:
            raise ValueError(f"UnionTraining(choose={choose!r}): must be one of {CHOICES}.")
        union: AttackUnion = MSD(attacks) if choose == "msd" else Union(attacks, keep="loss")  # type: ignore
        self.choose, names = choose, ["adversarial"]
        if choose == "average":
            names = _names(union.members)
        super().__init__(network, union, dict.fromkeys(names, 1 / len(names)), name)

    def generate_adversarial(
        self, x: tf.Tensor, y: tf.Tensor, seed: tf.Tensor, scale: tf.Tensor
    ) -> Any:
        if self.choose != "average":
            return super().generate_adversarial(x, y, seed, scale)
        union = self.attack
        assert isinstance(union, Union)
        return Candidates(
            tuple(one(self.network, x, y, seed=seed, scale=scale) for one in union.members)
        )

    def forward(self, x: tf.Tensor, y: tf.Tensor, adversarial: Any, seed: tf.Tensor) -> Any:
        if self.choose != "average":
            return super().forward(x, y, adversarial, seed)
        images = adversarial.images
        if self.network.has_batch_norm:
            found = []
            for k, one in enumerate(images):
                with forward_mode(seed=fold(seed, k)):
                    found.append(self.network.forward(one, training=True))
        else:
            with forward_mode(seed=fold(seed, 0)):
                found = forward_together(self.network, *images)
        margins = tf.stack([margin(one.logits, losses.class_ids(y)) for one in found])
        worst = tf.argmin(margins, axis=0)
        logits = tf.gather(tf.stack([one.logits for one in found], 1), worst, batch_dims=1)
        return UnionBatch(y, None, Outputs(logits, None), tuple(found))

    def terms(self, batch: Batch | UnionBatch) -> Terms:
        if not isinstance(batch, UnionBatch):
            return {"adversarial": lambda: losses.label_cross_entropy(batch.adv.logits, batch.y)}
        pairs = zip(self.term_weights, batch.outputs, strict=True)
        values = losses.label_cross_entropy
        return {name: functools.partial(values, one.logits, batch.y) for name, one in pairs}

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        union = self.attack
        assert isinstance(union, AttackUnion)
        del config["attack"]
        attacks = [compat.serialize(one) for one in union.members]
        return {**config, "attacks": attacks, "choose": self.choose}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> UnionTraining:
        attacks = [compat.deserialize(one) for one in config["attacks"]]
        return super().from_config({**config, "attacks": attacks}, custom_objects)  # type: ignore


def _names(attacks: Sequence[Attack]) -> list[str]:
    """Of the terms, by norm: 'linf', 'l2', 'l2_2'."""
    found: list[str] = []
    for one in attacks:
        name = one.norm.lower().replace("+", "_")
        same = sum(other.rpartition("_")[0] == name or other == name for other in found)
        found.append(f"{name}_{same + 1}" if same else name)
    return found
