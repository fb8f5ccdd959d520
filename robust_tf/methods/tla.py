"""Triplet loss adversarial training (TLA)."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from robust_tf import losses, registration
from robust_tf.attacks import Attack
from robust_tf.attacks.randomness import fold, uniform
from robust_tf.methods.arguments import check_attack
from robust_tf.methods.base import RobustModel
from robust_tf.methods.batch import AdversarialBatch, Terms, forward_together
from robust_tf.models import Outputs, forward_mode
from robust_tf.validation import check_number

POSITIVES = {"other": ("other",), "own": ("own",), "both": ("own", "other")}


class Pool(NamedTuple):
    """Features (P, ...) of clean images and their labels (P,), the anchors' first."""

    features: tf.Tensor
    y: tf.Tensor


class TripletBatch(NamedTuple):
    """Labels (A,) of the anchors, their clean and adversarial outputs, and the pool of a replica.

    x: clean images (A, H, W, C), moved by noise if there is any; clean and pool are None where no
    term needs them; seed: int32 (2,), of this step and replica.
    """

    x: tf.Tensor
    y: tf.Tensor
    clean: Outputs | None
    adv: Outputs
    pool: Pool | None
    seed: tf.Tensor


@registration.configurable
@registration.serializable
class TLA(RobustModel):
    """CE(f(x'), y) + triplet max(0, d(a, p) - d(a, n) + margin) + norms mean(a^2 + p^2 + n^2).

    d = 1 - |cos| of features; a is of the adversarial image, p of a clean image of its class, n of
    the clean image of another class with the largest cosine to a in the pool, which is the clean
    batch of a replica. The gradient reaches all three. A triplet that lacks its positive or its
    negative (one image alone, one class alone) counts as 0 in both terms.

    Anchors are the first of the batch, so batches should be shuffled; accuracies and sample weights
    are theirs. Beside
    the attack on them a step costs a forward and backward of the batch and one of the anchors. The
    program looks for negatives by running averages, in a batch of their own; here the features are
    those of the training forward, at no more cost.

    Args:
      network: to be trained; z is where triplets are compared, in the paper the last layer but one.
      attack: training adversary, e.g. `PGD(eps=8 / 255, step_size=2 / 255, steps=7)`.
      triplet: weight of the triplet term, >= 0; 2 for CIFAR-10, 0.5 for MNIST.
      margin: >= 0; 0.03 for CIFAR-10, 0.05 for MNIST.
      norms: weight of the mean squares, >= 0. The program multiplies it by `triplet`: 2e-3 in all
        for CIFAR-10, 5e-5 for MNIST.
      positive: 'other', a random other clean image of the class (MNIST); 'own', the clean image of
        the anchor; 'both', the sum over two triplets (CIFAR-10).
      anchors: fraction of the batch, in (0, 1], that is attacked and trained on, rounded, at least
        one; the rest are pool only. 0.1 of a batch of 500 is the program's 50 with a pool of 500.
      noise: the anchor's clean image is moved by U(-noise, noise), in pixel units, and clipped; the
        attack's eps in the program, 0 for none. Not with 'other'.

    Raises:
      ValueError: an argument outside its range.

    Source: Mao et al. (2019), "Metric Learning for Adversarial Robustness", and its released
    program; without that one's label smoothing for MNIST.
    """

    warmup_terms = ("triplet", "norms")

    def __init__(
        self,
        network: keras.Model,
        attack: Attack,
        triplet: float = 2.0,
        margin: float = 0.03,
        norms: float = 2e-3,
        positive: str = "other",
        anchors: float = 1.0,
        noise: float = 0.0,
        name: str | None = None,
    ):
        check_attack("TLA", attack)
        check_number("TLA", "triplet", triplet, 0.0, "2 for CIFAR-10, 0.5 for MNIST")
        check_number("TLA", "margin", margin, 0.0, "0.03 for CIFAR-10, 0.05 for MNIST")
        check_number("TLA", "norms", norms, 0.0, "2e-3 for CIFAR-10, 5e-5 for MNIST")
        check_number("TLA", "noise", noise, 0.0, "the attack's eps, or 0 for none")
        if positive not in POSITIVES:
            raise ValueError(f"TLA(positive={positive!r}): must be one of {tuple(POSITIVES)}.")
        if not 0 < anchors <= 1:
            raise ValueError(
                f"TLA(anchors={anchors!r}): must be in (0, 1], a fraction of the batch; 1 trains "
                "on all of it."
            )
        if noise and positive == "other":
            raise ValueError(
                f"TLA(noise={noise!r}, positive='other'): noise is for the anchor's own clean "
                "image; use positive='own' or 'both', or noise=0."
            )
        self.margin, self.positive = float(margin), positive
        self.anchors, self.noise = float(anchors), float(noise)
        self.needs_clean = self.needs_features = bool(triplet or norms)
        self.triplet_weights = {"triplet": float(triplet), "norms": float(norms)}
        super().__init__(network, attack, {"adversarial": 1.0, **self.triplet_weights}, name)

    def generate_adversarial(
        self, x: tf.Tensor, y: tf.Tensor, seed: tf.Tensor, scale: tf.Tensor
    ) -> Any:
        count = self._count(x)
        return super().generate_adversarial(x[:count], y[:count], seed, scale)

    def forward(
        self, x: tf.Tensor, y: tf.Tensor, adversarial: AdversarialBatch, seed: tf.Tensor
    ) -> TripletBatch:
        x_adv, count = adversarial.x_adv, self._count(x)
        if not self.needs_clean:
            batch = super().forward(x[:count], y[:count], adversarial, seed)
            return TripletBatch(batch.x, batch.y, None, batch.adv, None, seed)
        if self.noise:
            moved = x[:count] + uniform(fold(seed, 2), tf.shape(x_adv), -self.noise, self.noise)
            x = tf.concat([tf.clip_by_value(moved, 0.0, 1.0), x[count:]], 0)
        with forward_mode(seed=fold(seed, 0)):
            if self.network.has_batch_norm:
                pool = self.network.forward(x, training=True)
            else:
                pool, adv = forward_together(self.network, x, x_adv)
        if self.network.has_batch_norm:
            with forward_mode(seed=fold(seed, 1)):
                adv = self.network.forward(x_adv, training=True)
        clean = Outputs(pool.logits[:count], pool.features[:count])
        return TripletBatch(x[:count], y[:count], clean, adv, Pool(pool.features, y), seed)

    def terms(self, batch: TripletBatch) -> Terms:
        triplets = self._triplets(batch)

        def over_triplets(loss: Any) -> tf.Tensor:
            return tf.add_n([tf.where(exists, loss(*z), 0.0) for *z, exists in triplets])

        return {
            "adversarial": lambda: losses.cross_entropy(batch.adv.logits, batch.y),
            "triplet": lambda: over_triplets(
                lambda a, p, n: losses.cosine_triplet(a, p, n, self.margin)
            ),
            "norms": lambda: over_triplets(losses.triplet_norms),
        }

    def _triplets(self, batch: TripletBatch) -> list[tuple[tf.Tensor, ...]]:
        """Anchors, positives, negatives, and which of the triplets exist; for each positive."""
        if batch.clean is None or batch.pool is None:
            return []
        pool, y, anchors = batch.pool, batch.y, batch.adv.features
        row, has_negative = losses.hardest_negative(anchors, y, pool.features, pool.y)
        negatives = tf.gather(pool.features, row)
        made = []
        for kind in POSITIVES[self.positive]:
            positives, exists = batch.clean.features, has_negative
            if kind == "other":
                row, has_positive = losses.other_positive(y, pool.y, fold(batch.seed, 3))
                positives, exists = tf.gather(pool.features, row), has_negative & has_positive
            made.append((anchors, positives, negatives, exists))
        return made

    def counted(self, sizes: tf.Tensor) -> tf.Tensor:
        """Numbers of anchors of batches of these sizes."""
        return tf.minimum(tf.maximum(tf.round(self.anchors * sizes), 1.0), sizes)

    def _count(self, x: tf.Tensor) -> tf.Tensor:
        """Number of anchors of this batch."""
        return tf.cast(self.counted(tf.cast(tf.shape(x)[0], tf.float32)), tf.int32)

    def of_a_part(self) -> str:
        if self.anchors < 1:
            raise ValueError(
                f"accumulate={self.settings.execution.accumulate}: TLA(anchors={self.anchors!r}) "
                "attacks the first images of a batch, which its parts do not all have; use "
                "anchors=1, or accumulate=1."
            )
        return "the pool of triplets is each part" if self.needs_clean else ""

    def get_config(self) -> dict[str, Any]:
        names = ("margin", "positive", "anchors", "noise")
        own = {name: getattr(self, name) for name in names}
        return {**super().get_config(), **self.triplet_weights, **own}
