"""Free adversarial training: one pass gives the gradient of the weights and of the images."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from robust_tf import losses, registration
from robust_tf.attacks import CrossEntropy, GradientAttack
from robust_tf.attacks.randomness import fold
from robust_tf.attacks.threat import L2, Linf, Threat
from robust_tf.methods.base import RobustModel
from robust_tf.methods.batch import Batch, Terms, forward_pair
from robust_tf.methods.scoring import Scored
from robust_tf.methods.update import report, update
from robust_tf.validation import check_whole


class FreeImages(NamedTuple):
    """Images that a batch is trained on, (B, H, W, C), and the perturbation that made them.

    x_adv: clip(x + delta, 0, 1), without gradient; delta: of the ball around 0, not boxed.
    """

    x_adv: tf.Tensor
    delta: tf.Tensor


@registration.configurable
@registration.serializable
class Free(RobustModel):
    """CE(f(x'), y) on each batch m times, x' moved by the gradient that the update has anyway.

    One forward and backward at x' = clip(x + delta, 0, 1) gives the gradient of the weights and
    that of delta, both at the weights before the update:

        delta <- P(delta + step sign grad delta),   weights <- the optimizer's update

    with P into the ball. delta is carried over, from replay to replay and from batch to batch: row
    i of a batch begins with what row i of the batch before ended with; it is 0 once, at the
    beginning of training. A shorter batch leaves the other rows. A step so costs m forwards and
    backwards, and makes m updates: schedules, which are given in epochs over the data, count them
    all, so that a recipe has 1 / m of the epochs of its paper. Warm-ups, sample weights and an
    average of weights (once after the last replay) count batches. Layers with batch statistics see
    adversarial images alone. The logs are means over the replays.

    Args:
      network: to be trained.
      attack: one step, `FGSM(eps)`, of which ball and step size count; what a validation or the
        record of a run calls the training attack.
      replays: m >= 1; 8 for CIFAR-10 in the paper, 4 for ImageNet.

    Raises:
      ValueError: an argument outside its range; an attack of more than one step, or with another
        objective than the cross-entropy.

    Source: Shafahi et al. (2019), "Adversarial Training for Free!", and their TensorFlow program,
    which is followed: there, too, a pixel outside of the box has no gradient. Programs that set
    delta to 0 for each batch, or box it on the batch before, are other methods.
    """

    needs_clean = False
    takes_soft_labels = True

    def __init__(
        self,
        network: keras.Model,
        attack: GradientAttack,
        replays: int = 8,
        name: str | None = None,
    ):
        self.replays = check_whole("Free", "replays", replays, 1, "8 for CIFAR-10")
        single = isinstance(attack, GradientAttack) and attack.steps == 1
        known = single and isinstance(attack.threat, (Linf, L2))
        if not known or not isinstance(attack.objective, CrossEntropy):
            raise ValueError(
                f"Free(attack={attack!r}): must be one step of cross-entropy in L-inf or L2, such "
                "as FGSM(eps=8 / 255); what follows are the replays."
            )
        super().__init__(network, attack, {"adversarial": 1.0}, name)
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        shape = self.network.image_shape
        # (replicas, rows, ...), of as many rows as the largest batch so far; no weight, so that
        # the best weights come back without it.
        self.counters.delta = tf.Variable(
            tf.zeros([replicas, 0, *shape]),
            shape=[None, None, *shape],
            trainable=False,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )

    @property
    def updates_per_batch(self) -> int:  # type: ignore[override]
        """One for each replay."""
        return self.replays

    @property
    def passes_per_image(self) -> int:
        """Those of the updates, which give the gradient of the images, too."""
        return 2 * self.replays

    def learn(self, x: tf.Tensor, y: tf.Tensor, seed: tf.Tensor, scale: tf.Tensor) -> Scored:
        assert isinstance(self.attack, GradientAttack)
        threat, budget = self.attack.threat, self.attack.budget(scale=scale)
        eps = tf.cast(budget.eps, tf.float32)
        delta = into_ball(threat, self._carried(tf.shape(x)[0]), eps)
        replays = []
        for replay in range(self.replays):
            images = FreeImages(tf.clip_by_value(x + delta, 0.0, 1.0), delta)
            scored = update(self, (x, y, images), fold(seed, 1 + replay), [delta])
            step = budget.step_size * threat.steepest(_known(scored.inputs[0]))
            delta = into_ball(threat, delta + step, eps)
            replays.append(scored)
        self._carry(delta)
        for scored in replays[:-1]:
            report(self, scored)
        return replays[-1]  # reported by the step

    def forward(self, x: tf.Tensor, y: tf.Tensor, adversarial: Any, seed: tf.Tensor) -> Batch:
        if isinstance(adversarial, FreeImages):  # again, on the way that its gradient goes
            x_adv = tf.clip_by_value(x + adversarial.delta, 0.0, 1.0)
        else:
            x_adv = adversarial.x_adv
        return Batch(x, y, adversarial, *forward_pair(self.network, None, x_adv, seed), seed)

    def terms(self, batch: Batch) -> Terms:
        return {"adversarial": lambda: losses.label_cross_entropy(batch.adv.logits, batch.y)}

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "replays": self.replays}

    # ---- the perturbation that is carried over -------------------------------------------------

    def _carried(self, rows: tf.Tensor) -> tf.Tensor:
        """This replica's first rows of it, 0 where there have been none yet."""
        held = tf.convert_to_tensor(self.counters.delta)
        replica, _ = _replica()
        mine = _padded(held, replica + 1, rows)[replica, :rows]
        return tf.ensure_shape(mine, [None, *self.network.image_shape])

    def _carry(self, delta: tf.Tensor) -> None:
        """Keeps it, of all replicas, for the next batch."""
        replica, replicas = _replica()
        rows = tf.shape(delta)[0]
        context = tf.distribute.get_replica_context()
        most = rows
        if replicas > 1:
            each = context.all_reduce(
                tf.distribute.ReduceOp.SUM,
                tf.one_hot(replica, replicas) * tf.cast(rows, tf.float32),
            )
            most = tf.cast(tf.reduce_max(each), tf.int32)
        held = _padded(tf.convert_to_tensor(self.counters.delta), replicas, most)[:replicas]
        mine = tf.concat([delta, held[replica, rows:]], axis=0)
        if replicas == 1:
            self.counters.delta.assign(mine[tf.newaxis])
            return
        place = tf.reshape(tf.one_hot(replica, replicas), [replicas] + [1] * len(mine.shape))
        everywhere = context.all_reduce(tf.distribute.ReduceOp.SUM, place * mine)
        self.counters.delta.assign(everywhere)

    def save_own_variables(self, store: Any) -> None:
        super().save_own_variables(store)
        store["delta"] = self.counters.delta.numpy()

    def load_own_variables(self, store: Any) -> None:
        super().load_own_variables(store)
        self.counters.delta.assign(np.asarray(store["delta"]))


def into_ball(threat: Threat, delta: tf.Tensor, eps: tf.Tensor) -> tf.Tensor:
    """The perturbation (B, ...) in the ball around 0, which has no box."""
    if isinstance(threat, Linf):
        return tf.clip_by_value(delta, -eps, eps)
    ones = [1] * (len(delta.shape) - 1)
    length = tf.reshape(threat.distance(delta, tf.zeros_like(delta)), [-1, *ones])
    return delta * tf.minimum(1.0, eps / tf.maximum(length, 1e-12))


def _known(gradient: tf.Tensor) -> tf.Tensor:
    """The gradient, 0 where a scaled loss overflowed."""
    return tf.where(tf.math.is_finite(gradient), gradient, tf.zeros_like(gradient))


def _padded(held: tf.Tensor, replicas: Any, rows: tf.Tensor) -> tf.Tensor:
    """(replicas, rows, ...) at least, with zeros behind what there is."""
    lack = tf.maximum(tf.stack([replicas, rows]) - tf.shape(held)[:2], 0)
    none = tf.zeros([len(held.shape)], tf.int32)
    return tf.pad(held, tf.stack([none, tf.concat([lack, none[2:]], 0)], axis=1))


def _replica() -> tuple[Any, int]:
    """The number of this replica, and how many there are."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return 0, 1
    return context.replica_id_in_sync_group, context.num_replicas_in_sync
