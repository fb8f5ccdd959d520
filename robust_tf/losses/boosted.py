"""Cross-entropy that also pushes the strongest wrong class down (MART)."""

import tensorflow as tf

from robust_tf.losses.labels import as_logits, cross_entropy


def boosted_cross_entropy(logits: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """-log p_y - log(1 - max_{k != y} p_k), per example (MART, Wang et al., 2020, Eq. 7).

    1 - p_k is the sum of the other probabilities, whose logarithm is exact however sure the network
    is. The released program computes log(1.0001 - p_k) instead, which ends at 9.2 and there has no
    gradient.

    Args:
        logits: (B, C), any floating type, C >= 2.
        y: (B,) integer class ids in [0, C).

    Returns:
        (B,) float32 in nats, >= 0 up to rounding.

    Raises:
        ValueError: logits not (B, C), or labels one-hot, not integer, or of another batch size.
    """
    logits = as_logits(logits)
    entropy = cross_entropy(logits, y)
    log_p = tf.nn.log_softmax(logits)
    never = tf.constant(float("-inf"))
    strongest = tf.argmax(tf.where(_is(log_p, y), never, log_p), axis=1)
    others = tf.where(_is(log_p, strongest), never, log_p)
    return entropy - tf.reduce_logsumexp(others, axis=1)


def _is(logits: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
    """(B, C), true at one class of each row."""
    return tf.one_hot(classes, tf.shape(logits)[1], on_value=True, off_value=False, dtype=tf.bool)
