"""How far two predictions are apart, and which of some predictions are (squeeze training, ST).

Source: Li et al., "Squeeze training for adversarial robustness", ICLR 2023, arXiv 2205.11156. The
released program `ST-AT` has the symmetric KL divergence alone, with targets held fixed; the two
others are named in its README, and their form here (on probabilities, gradients to both) is ours.
"""

from collections.abc import Callable, Sequence

import tensorflow as tf

from robust_tf.losses.labels import as_labels, as_logits
from robust_tf.losses.smoothness import kl_divergence


def symmetric_kl(
    logits_p: tf.Tensor, logits_q: tf.Tensor, detach_targets: bool = True
) -> tf.Tensor:
    """1/2 KL(p || q) + 1/2 KL(q || p).

    Args:
        logits_p: (B, C) logits of the first distribution, any floating type.
        logits_q: (B, C) logits of the second.
        detach_targets: hold the first argument of each KL fixed, as the released program does: each
            side gets the gradient 1/2 (own - other) for its logits.

    Returns:
        (B,) float32 in nats, >= 0 up to rounding.

    Raises:
        ValueError: not (B, C), not floating, or of different shapes.
    """
    target = tf.stop_gradient if detach_targets else tf.identity
    to_q = kl_divergence(target(logits_p), logits_q)
    return 0.5 * (to_q + kl_divergence(target(logits_q), logits_p))


def jensen_shannon(logits_p: tf.Tensor, logits_q: tf.Tensor) -> tf.Tensor:
    """1/2 KL(p || m) + 1/2 KL(q || m) with m = (p + q) / 2; gradients pass through everything.

    Args:
        logits_p: (B, C) logits of the first distribution, any floating type.
        logits_q: (B, C) logits of the second.

    Returns:
        (B,) float32 in nats, in [0, log 2] up to rounding.

    Raises:
        ValueError: not (B, C), not floating, or of different shapes.
    """
    log_p, log_q = (tf.nn.log_softmax(logits) for logits in _two(logits_p, logits_q))
    mean = tf.reduce_logsumexp(tf.stack([log_p, log_q]), axis=0) - tf.math.log(2.0)
    both = tf.exp(log_p) * (log_p - mean) + tf.exp(log_q) * (log_q - mean)
    return 0.5 * tf.reduce_sum(both, axis=-1)


def squared_l2(logits_p: tf.Tensor, logits_q: tf.Tensor) -> tf.Tensor:
    """||p - q||_2^2 of the two distributions; gradients pass to both.

    Args:
        logits_p: (B, C) logits of the first distribution, any floating type.
        logits_q: (B, C) logits of the second.

    Returns:
        (B,) float32 in [0, 2].

    Raises:
        ValueError: not (B, C), not floating, or of different shapes.
    """
    p, q = (tf.nn.softmax(logits) for logits in _two(logits_p, logits_q))
    return tf.reduce_sum(tf.square(p - q), axis=-1)


def squeeze_regularizer(
    name: str, detach_targets: bool = True
) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """A distance of two predictions by name.

    Args:
        name: 'symmetric_kl', 'js' or 'l2'.
        detach_targets: of `symmetric_kl`; the others have no targets.

    Returns:
        (logits_p, logits_q) -> (B,) float32.

    Raises:
        ValueError: another name.
    """
    known = {
        "symmetric_kl": lambda p, q: symmetric_kl(p, q, detach_targets),
        "js": jensen_shannon,
        "l2": squared_l2,
    }
    if name not in known:
        raise ValueError(f"regularizer={name!r}: must be one of {tuple(known)}.")
    return known[name]


def squeeze_pair(candidates: Sequence[tf.Tensor], y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Which candidate makes the true class least likely, and which most, for each example.

    Args:
        candidates: logits (B, C) of each candidate, of which there may be any number.
        y: (B,) integer class ids in [0, C).

    Returns:
        Positions in `candidates`, int32 (B,) each: of the smallest p_y (the adversarial member),
        and of the largest (the collaborative one). The first of equal ones is taken, so that they
        are the same candidate where all are equal.

    Raises:
        ValueError: logits not (B, C), or labels one-hot, not integer, or of another batch size.
    """
    logits = [as_logits(one) for one in candidates]
    y = as_labels(y, logits[0].shape[0] if logits[0].shape.rank else None)
    own = [tf.gather(tf.nn.softmax(one), y, axis=1, batch_dims=1) for one in logits]
    least = most = own[0]
    upper = lower = tf.zeros_like(y, tf.int32)
    # Written out: TensorFlow does not promise which of equal values its argmax takes.
    for position, p in enumerate(own[1:], start=1):
        upper, least = tf.where(p < least, position, upper), tf.minimum(p, least)
        lower, most = tf.where(p > most, position, lower), tf.maximum(p, most)
    return upper, lower


def _two(logits_p: tf.Tensor, logits_q: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Both as float32 logits of one shape."""
    logits_p, logits_q = as_logits(logits_p, "logits_p"), as_logits(logits_q, "logits_q")
    if not logits_p.shape.is_compatible_with(logits_q.shape):
        raise ValueError(
            f"logits_p has shape {tuple(logits_p.shape)} and logits_q {tuple(logits_q.shape)}; "
            "they have to be of the same batch and classes."
        )
    return logits_p, logits_q
