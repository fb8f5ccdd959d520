"""Divergences between predictions on an image and on a perturbed image."""

from collections.abc import Callable, Sequence

import tensorflow as tf

from robust_tf import draws
from robust_tf.losses.labels import as_float32, as_logits
from robust_tf.validation import check_number, check_whole


def kl_divergence(logits_p: tf.Tensor, logits_q: tf.Tensor) -> tf.Tensor:
    """KL(p || q) of two softmax distributions, with gradients to both.

    TRADES (Zhang et al., 2019) takes it of clean and adversarial logits.

    Args:
        logits_p: (B, C) logits of the first distribution, any floating type.
        logits_q: (B, C) logits of the second.

    Returns:
        (B,) float32 in nats, >= 0 up to rounding.

    Raises:
        ValueError: not (B, C), not floating, or of different shapes.
    """
    logits_p, logits_q = as_logits(logits_p, "logits_p"), as_logits(logits_q, "logits_q")
    if not logits_p.shape.is_compatible_with(logits_q.shape):
        raise ValueError(
            f"logits_p has shape {tuple(logits_p.shape)} and logits_q {tuple(logits_q.shape)}; "
            "they have to be of the same batch and classes."
        )
    log_p, log_q = tf.nn.log_softmax(logits_p), tf.nn.log_softmax(logits_q)
    return tf.reduce_sum(tf.exp(log_p) * (log_p - log_q), axis=-1)


def smoothness(logits: tf.Tensor, logits_adv: tf.Tensor) -> tf.Tensor:
    """KL(clean || adversarial) with the clean side detached (ADR, arXiv 2007.05123, Eq. 6).

    ADR's released code has the cross-entropy with the clean distribution as soft target, which is
    this plus a constant: the gradient is the same, and this is 0 where the predictions agree.

    Args:
        logits: (B, C) logits of clean images; no gradient flows to them.
        logits_adv: (B, C) logits of adversarial examples.

    Returns:
        (B,) float32 in nats, >= 0 up to rounding.

    Raises:
        ValueError: not (B, C), not floating, or of different shapes.
    """
    return kl_divergence(tf.stop_gradient(tf.convert_to_tensor(logits)), logits_adv)


def virtual_adversarial(
    network: Callable[[tf.Tensor], tf.Tensor],
    x: tf.Tensor,
    logits: tf.Tensor | None = None,
    *,
    eps: float = 2.0,
    xi: float = 0.1,
    power_iterations: int = 1,
    seed: Sequence[int] | tf.Tensor = (0, 0),
) -> tf.Tensor:
    """Virtual adversarial loss: KL where the prediction changes most (Miyato et al., 2018).

    "Virtual Adversarial Training: A Regularization Method for Supervised and Semi-Supervised
    Learning", IEEE TPAMI, algorithm 1: a random unit direction d is turned by power iteration
    towards the top eigenvector of the Hessian of KL(p(x) || p(x + r)) at r = 0, by finite
    differences of length xi. The loss is KL(p(x) || p(x + eps d)); its gradient passes through the
    perturbed forward only, neither through p(x) nor through d. x + eps d is not clipped to [0, 1],
    as in the paper.

    The default xi is not the paper's 1e-6: the logits at x and at x + xi d are rounded separately,
    and the difference has to stand above that. On a small network for digits, the median cosine to
    the exact Hessian-vector product was 0.65 to 0.7 at xi = 1e-6 and at least 0.99 from 1e-3 to 0.3
    in float32; in bfloat16 it was below 0.2 at 1e-6 and at least 0.99 at 0.1 and 0.3.

    Args:
        network: images (B, ...) -> logits (B, C). Noise in it (dropout) drowns the finite
            difference.
        x: (B, ...) floating images in [0, 1].
        logits: (B, C) logits of x where the caller has them, to save a forward.
        eps: L2 length of the perturbation in pixel units, > 0.
        xi: L2 length of the finite difference in pixel units, > 0.
        power_iterations: forward and backward passes spent on the direction; 0 leaves it random.
        seed: (2,) integers or integer tensor; the same seed gives the same directions.

    Returns:
        (B,) float32 in nats, >= 0 up to rounding.

    Raises:
        ValueError: eps, xi or power_iterations out of range, images not floating, logits not (B,
            C).
    """
    for name, value in (("eps", eps), ("xi", xi)):
        hint = f"a length in L2; use {name}=2.0 or less"
        check_number("virtual_adversarial", name, value, 0.0, hint, strict=True)
    check_whole("virtual_adversarial", "power_iterations", power_iterations, 0, "use 1")
    x = tf.stop_gradient(as_float32(x, "x"))
    if x.shape.rank is None or x.shape.rank < 2:
        raise ValueError(
            f"x has shape {x.shape}, but (batch, pixels...) of known rank is needed; "
            "use tf.ensure_shape(x, (None, height, width, channels))."
        )
    clean = tf.stop_gradient(as_logits(network(x) if logits is None else logits))
    noise = draws.normal(tf.shape(x), tf.convert_to_tensor(seed))
    direction = _unit(noise, otherwise=tf.zeros_like(x))
    for _ in range(int(power_iterations)):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(direction)
            divergence = kl_divergence(clean, network(x + xi * direction))
        gradient = tape.gradient(divergence, direction, unconnected_gradients="zero")
        direction = _unit(gradient, otherwise=direction)
    return kl_divergence(clean, network(x + eps * tf.stop_gradient(direction)))


def _unit(v: tf.Tensor, otherwise: tf.Tensor) -> tf.Tensor:
    """Scales v to L2 length 1 per example; `otherwise` where v is 0 (saturated softmax)."""
    axes = list(range(1, v.shape.rank))
    # The largest entry is divided out first: the squares of a tiny gradient would underflow.
    peak = tf.reduce_max(tf.abs(v), axis=axes, keepdims=True)
    usable = peak > 0
    v = v / tf.where(usable, peak, 1.0)
    length = tf.sqrt(tf.reduce_sum(tf.square(v), axis=axes, keepdims=True))
    return tf.where(usable, v / tf.where(usable, length, 1.0), otherwise)
