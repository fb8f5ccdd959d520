"""The worst case of several attacks, image by image, inside one graph."""

from __future__ import annotations

from collections.abc import Iterable

import tensorflow as tf

from robust_tf.attacks.active_set import choose
from robust_tf.attacks.base import Attack
from robust_tf.attacks.network import Network
from robust_tf.attacks.objectives import is_misclassified, margin
from robust_tf.attacks.threat import Budget


def worst_case(
    stages: Iterable[tuple[Attack, tf.Tensor, Budget]],
    network: Network,
    x: tf.Tensor,
    y: tf.Tensor,
) -> tf.Tensor:
    """Runs one attack after the other, each on the images that are robust so far.

    An image that is robust after all of them is that of the lowest margin. Beside the attacks' own
    cost, each verdict is one forward.

    Args:
      stages: attacks, each with its seeds int32 (B, 2) and its budget.
      network: images to logits (B, C).
      x: images float32 (B, H, W, C).
      y: int32 (B,).

    Returns:
      Images of the shape of x.
    """

    def stage(
        attack: Attack,
        seed: tf.Tensor,
        budget: Budget,
        active: tf.Tensor,
        x_adv: tf.Tensor,
        margins: tf.Tensor,
    ) -> tuple:
        """Which examples are robust, the images and their margins after one more attack."""
        clean, labels, seeds = (tf.gather(rows, active) for rows in (x, y, seed))
        found = attack.run(network, clean, labels, seeds, budget)
        logits = network(found)
        is_adversarial = is_misclassified(logits, labels)
        reached, before = margin(logits, labels), tf.gather(margins, active)
        take = tf.logical_or(is_adversarial, reached < before)
        found = choose(take, found, tf.gather(x_adv, active))
        where = active[:, tf.newaxis]
        return (
            tf.boolean_mask(active, tf.logical_not(is_adversarial)),
            tf.tensor_scatter_nd_update(x_adv, where, found),
            tf.tensor_scatter_nd_update(margins, where, tf.minimum(reached, before)),
        )

    state = tf.range(tf.shape(y)[0]), x, tf.fill(tf.shape(y), float("inf"))
    for attack, seed, budget in stages:
        # No stage is run on an empty batch, of which batch normalization may know no mean.
        state = tf.cond(
            tf.size(state[0]) > 0,
            lambda given=(attack, seed, budget), state=state: stage(*given, *state),
            lambda state=state: state,
        )
    return state[1]
