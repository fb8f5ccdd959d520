"""What every figure asks of a model: logits, features and adversarial images, as NumPy arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from robust_tf.attacks import PGD, Attack
from robust_tf.attacks.arguments import check_batch
from robust_tf.attacks.network import logits_of
from robust_tf.attacks.randomness import as_seed, each
from robust_tf.models import forward_mode

Model = Callable[..., Any]


def logits_at(model: Model, x: np.ndarray, batch_size: int = 250) -> np.ndarray:
    """Logits float32 (n, C) of images (n, ...)."""
    return in_batches(logits_of(model, "running"), x, batch_size)


def outputs_at(model: Model, x: np.ndarray, batch_size: int = 250) -> tuple[np.ndarray, np.ndarray]:
    """Logits float32 (n, C), and features float32 (n, d), flattened.

    Raises:
      TypeError: the model does not tell its features.
    """
    check_split(model)

    def forward(part: tf.Tensor) -> tf.Tensor:
        with forward_mode(batch_norm="running"):
            logits, z = model.forward(part, training=False)  # type: ignore[attr-defined]
        z = tf.reshape(tf.cast(z, tf.float32), [tf.shape(part)[0], -1])
        return tf.concat([logits, z], 1)

    both = in_batches(forward, x, batch_size)
    classes = model.num_classes  # type: ignore[attr-defined]
    return both[:, :classes], both[:, classes:]


def adversarial_at(
    model: Model,
    x: np.ndarray,
    y: np.ndarray,
    eps: float,
    attack: Attack | None = None,
    seed: int = 0,
    batch_size: int = 250,
) -> np.ndarray:
    """Adversarial images float32 (n, ...) of `attack`, by default `standard_attack(eps)`.

    With an attack, eps is its own and not looked at here. Each example has a seed
    of its own, so that its image does not depend on the others nor on batch_size.
    """
    attack = standard_attack(eps) if attack is None else attack
    images, labels = (part.numpy() for part in check_batch(x, y))
    if not len(images):
        return images
    starts = range(0, len(images), batch_size)
    parts = [slice(start, start + batch_size) for start in starts]
    seeds = each(as_seed(seed), len(images))
    made = [attack(model, images[p], labels[p], seed=seeds[p]) for p in parts]
    return np.concatenate([np.asarray(part, np.float32) for part in made])


def standard_attack(eps: float, steps: int = 40, norm: str = "Linf") -> Attack:
    """PGD as the figures use it where nothing else is said: eps / 10 a step, 40 steps."""
    return PGD(eps=eps, step_size=(eps or 1.0) / 10, steps=steps, norm=norm)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities over the last axis."""
    raised = np.exp(logits - logits.max(-1, keepdims=True))
    return raised / raised.sum(-1, keepdims=True)


def entropy(logits: np.ndarray) -> np.ndarray:
    """Entropy in nats of the prediction, -sum p log p over the last axis."""
    probabilities = softmax(np.asarray(logits, np.float64))
    return -np.sum(probabilities * np.log(np.maximum(probabilities, 1e-30)), -1)


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Cross-entropy in nats, float64: logits (..., C), labels (...).

    Small ones are exact, too: from how far the others are below the true class, where the sum over
    all classes would round them to multiples of 1e-7 and then to 0.
    """
    logits, true = np.asarray(logits, np.float64), np.asarray(labels)[..., None]
    behind = logits - np.take_along_axis(logits, true, -1)
    np.put_along_axis(behind, true, -np.inf, -1)
    return np.logaddexp(0, np.logaddexp.reduce(behind, -1))


def in_batches(
    function: Callable[[tf.Tensor], tf.Tensor], x: np.ndarray, batch_size: int
) -> np.ndarray:
    """`function` over x in batches; float32 (n, ...)."""
    return batched(function, np.shape(x)[1:], batch_size)(x)


def batched(
    function: Callable[[tf.Tensor], tf.Tensor], shape: Sequence[int], batch_size: int = 250
) -> Callable[[np.ndarray], np.ndarray]:
    """`function`, compiled once for examples of this shape, as one from NumPy to NumPy."""
    # Concrete: else TensorFlow warns of so many functions made of the same lines.
    spec = tf.TensorSpec([None, *shape], tf.float32)
    compiled = tf.function(function, autograph=False).get_concrete_function(spec)

    def over(x: np.ndarray) -> np.ndarray:
        x = np.asarray(x, np.float32)
        starts = range(0, max(len(x), 1), batch_size)
        parts = [compiled(tf.constant(x[s : s + batch_size])).numpy() for s in starts]
        return np.concatenate(parts)

    return over


def check_split(model: Any) -> None:
    """Raises TypeError for a model that is not cut in two."""
    if not hasattr(model, "forward") or not hasattr(model, "classify"):
        raise TypeError(
            f"{type(model).__name__} has no features; give a models.SplitClassifier, such as the "
            "model of a run folder."
        )


def check_varies(values: np.ndarray, what: str) -> bool:
    """True; a network that has collapsed gives one value for all images, of which nothing is drawn.

    Args:
      values: (n, ...), of n examples or places.
      what: they are, 'features'.

    Raises:
      ValueError: they are not all numbers, or the same but for rounding.
    """
    values = np.asarray(values, np.float64)
    if not np.isfinite(values).all():
        raise ValueError(f"the {what} are not all numbers; the training has diverged")
    spread = np.ptp(values, axis=0).max(initial=0.0)
    if spread <= 1e-6 * np.abs(values).max(initial=0.0):
        raise ValueError(
            f"the {what} are the same for all examples, there is nothing to draw: the network has "
            "collapsed; train it again with a lower learning rate or a longer warm-up"
        )
    return True


def check_images(x: np.ndarray, what: str) -> None:
    """Raises ValueError for points where a figure needs images (n, H, W, C)."""
    if np.ndim(x) != 4:
        raise ValueError(
            f"{what} needs images (n, H, W, C), these are {np.shape(x)}; for points draw `plane`."
        )


def check_points(x: np.ndarray, what: str) -> None:
    """Raises ValueError for anything but points (n, 2)."""
    if np.ndim(x) != 2 or np.shape(x)[1] != 2:
        raise ValueError(
            f"{what} needs points (n, 2), these are {np.shape(x)}; for images draw `surface`, "
            "`latent` or `grid`."
        )
