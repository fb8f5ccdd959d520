"""Whether a classifier has collapsed: it predicts one class, whatever the image."""

from __future__ import annotations

import numpy as np


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
