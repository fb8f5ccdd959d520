"""Clean images, perturbations and adversarial images side by side."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from robust_tf.figures.forward import Model, check_images, logits_at, softmax


class Grid(NamedTuple):
    """Of n images: clean and adversarial (n, H, W, C), labels (n,); predictions of both, int (n,).

    The confidences are the probabilities of what is predicted, (n,).
    """

    clean: np.ndarray
    adversarial: np.ndarray
    labels: np.ndarray
    clean_predictions: np.ndarray
    predictions: np.ndarray
    clean_confidence: np.ndarray
    confidence: np.ndarray


def compute_grid(model: Model, x: np.ndarray, y: np.ndarray, x_adv: np.ndarray) -> Grid:
    """Predictions and their probabilities, of images and of the adversarial ones made from them.

    Raises:
      ValueError: points, or not as many of the one as of the other.
    """
    check_images(x, "an image grid")
    if np.shape(x) != np.shape(x_adv):
        raise ValueError(f"x {np.shape(x)} and x_adv {np.shape(x_adv)} must have one shape.")
    before, after = (softmax(logits_at(model, images)) for images in (x, x_adv))
    sure = before.max(1), after.max(1)
    return Grid(
        np.asarray(x), np.asarray(x_adv), np.asarray(y), before.argmax(1), after.argmax(1), *sure
    )
