"""Checks that take forward passes only: collapse, outputs, randomness, batches, range of pixels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from robust_tf.attacks.input_range import accuracies, better_range
from robust_tf.evaluation.checks.flags import Flag, flag

# images float32 (B, ...) -> logits float64 (B, C), finite
Forward = Callable[[np.ndarray], np.ndarray]

TOLERANCE = 1e-4  # of the largest logit: far above float rounding, as in AutoAttack's checks
TINY, END = 1e-4, 0.01  # of the range of the pixels


def many(images: np.ndarray) -> bool:
    """Whether so many of the images, bool (B,), show something that it is worth saying.

    More than a tenth of them and three at least, or all if there are fewer.
    """
    return bool(images.mean() > 0.1 and images.sum() >= min(3, len(images)))


def collapsed_class(predictions: np.ndarray, labels: np.ndarray) -> int | None:
    """The one class that a classifier predicts on all of these images; None if it does not.

    Images of one class alone tell nothing, nor do a few of another among them: more than a tenth
    of the images, and three at least, must be of other classes than the one predicted.

    Args:
      predictions: integer classes (N,), -1 where the logits are not numbers.
      labels: integer labels (N,).
    """
    predictions, labels = np.asarray(predictions), np.asarray(labels)
    if not len(predictions) or (predictions != predictions[0]).any():
        return None
    if len(np.unique(labels)) < 2:
        return None
    wrong = labels != predictions[0]
    return int(predictions[0]) if wrong.sum() >= 3 and wrong.mean() > 0.1 else None


def probabilities(logits: np.ndarray) -> Flag | None:
    """Whether outputs (B, C) look like those of a softmax."""
    worst = float(np.abs(logits.sum(1) - 1).max())
    if logits.shape[1] < 2 or logits.min() < 0 or worst > 1e-2:
        return None
    return flag("probabilities", smallest=float(logits.min()), largest=float(logits.max()))


def randomness(forward: Forward, x: np.ndarray, logits: np.ndarray) -> Flag | None:
    """Whether four more passes of the same images give other logits than the first."""
    again = [forward(x) for _ in range(4)]
    change = max(_change(logits, other) for other in again)
    if change <= TOLERANCE:
        return None
    turned = np.any([other.argmax(1) != logits.argmax(1) for other in again], axis=0)
    return flag("randomness", relative_change=change, predictions_changed=float(turned.mean()))


def company(forward: Forward, x: np.ndarray) -> Flag | None:
    """Whether images get other logits among their negatives than among themselves.

    Both batches have the same size, so that the same kernels round alike.
    """
    one, other = forward(np.concatenate([x, x])), forward(np.concatenate([x, 1 - x]))
    change = _change(one[: len(x)], other[: len(x)])
    return flag("training_batch_norm", relative_change=change) if change > TOLERANCE else None


def steps(
    forward: Forward, x: np.ndarray, logits: np.ndarray, rng: np.random.Generator
) -> Flag | None:
    """Whether logits stay the same, to the bit, when every pixel moves by `TINY`."""
    moved = np.clip(x + TINY * rng.choice([-1, 1], x.shape), 0, 1).astype(np.float32)
    share = float((forward(moved) == logits).all(1).mean())
    # On half of the images: fewer may be a matter of the precision in which the model computes.
    return flag("input_range/steps", unchanged=share) if share > 0.5 else None


def clipped(forward: Forward, x: np.ndarray, logits: np.ndarray) -> Flag | None:
    """Whether logits stay the same, to the bit, when pixels at 0 or 1 move inside by `END`."""
    for low in (True, False):
        end = x <= 0 if low else x >= 1
        has = end.reshape(len(x), -1).any(1)
        if has.any():
            moved = np.where(end, END if low else 1 - END, x).astype(np.float32)
            share = float((forward(moved) == logits).all(1)[has].mean())
            if share > 0.5:
                return flag("input_range/clipped", end=0 if low else 1, unchanged=share)
    return None


def rescaled(forward: Forward, x: np.ndarray, y: np.ndarray, logits: np.ndarray) -> Flag | None:
    """Whether images are recognised far better with pixels in 0..255 or in [-1, 1]."""
    here = float((logits.argmax(1) == y).mean())
    there = accuracies(lambda images: forward(images).argmax(1), x, y)
    if better_range(here, there, y) is None:
        return None
    figures = {"accuracy_0_to_255": there["255.0"], "accuracy_-1_to_1": there["(-1, 1)"]}
    return flag("input_range/rescaled", accuracy_0_to_1=here, **figures)


def _change(a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference, relative to the largest logit of each image; the worst image's."""
    scale = np.maximum(np.abs(a), np.abs(b)).max(1)
    return float((np.abs(a - b).max(1) / np.maximum(scale, 1e-30)).max())
