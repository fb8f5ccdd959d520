"""Classifiers that TensorFlow cannot trace: NumPy, scikit-learn, a service."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from robust_tf.models.differentiation import counts_of_gradients
from robust_tf.validation import check_whole

Predict = Callable[[np.ndarray], Any]


class BlackBox:
    """What `black_box` makes: a callable from images to logits, without gradients.

    Attributes:
      num_classes: number of logits.
      gives_labels: whether `predict` has given labels; known once it was called.
    """

    def __init__(self, predict: Predict, num_classes: int, batch_size: int | None = None):
        if not callable(predict):
            raise TypeError(
                f"black_box(predict={predict!r}): must be a function from images to scores; "
                "of a scikit-learn classifier, lambda x: classifier.predict_proba(...)."
            )
        check = check_whole("black_box", "num_classes", num_classes, 2)
        if batch_size is not None:
            batch_size = check_whole("black_box", "batch_size", batch_size, 1, "None is no limit")
        # Apart from this object: graphs hold it, and must not hold what they are cached for.
        self._scores = _Scores(predict, check, batch_size)

    @property
    def num_classes(self) -> int:
        return self._scores.num_classes

    @property
    def gives_labels(self) -> bool:
        return self._scores.gives_labels

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """Logits float32 (B, C) of images x; a label is a logit of 1 where the others are 0.

        Raises:
          NoGradientError: an attack takes its gradient.
        """
        if counts_of_gradients() is not None:
            raise NoGradientError(no_gradient("the attack"))
        scores, x = self._scores, tf.convert_to_tensor(x, tf.float32)
        if tf.executing_eagerly():  # errors of `predict` come out as they are
            return tf.constant(scores(x.numpy()))
        logits = tf.numpy_function(scores, [x], tf.float32)
        return tf.ensure_shape(logits, [x.shape[0], scores.num_classes])


class NoGradientError(Exception):
    """A gradient is taken through a black box."""


def no_gradient(attack: str) -> str:
    """Why an attack of this name cannot run on a black box, and what can."""
    return (
        f"{attack} takes gradients, which a black box has not; attack it by Square or RayS, or by "
        "Transfer(attack, source) from a model of your own."
    )


def black_box(predict: Predict, num_classes: int, batch_size: int | None = None) -> BlackBox:
    """A classifier of which nothing is known but its answers, as a model to attack and evaluate.

    For a function that TensorFlow cannot trace: NumPy, scikit-learn, a remote service. Square and
    RayS run on it, and `evaluation.evaluate` under these; attacks that take gradients, AutoAttack
    among them, refuse it. It is called anew each time, so that it may change. Beside its queries an
    attack asks, in its first call, about one image, and once more about the first 256, to see
    whether it takes images of [0, 1].

        from sklearn.ensemble import RandomForestClassifier

        forest = RandomForestClassifier(20).fit(x.reshape(len(x), -1), y)
        model = black_box(lambda x: forest.predict_proba(x.reshape(len(x), -1)), num_classes=10)
        attacks = [Square(8 / 255, queries=200), RayS(8 / 255, queries=200)]
        robust_tf.evaluate(model, (x_test, y_test), attacks)

    Args:
      predict: float32 images (B, H, W, C) in [0, 1] to scores (B, C), logits or probabilities,
        the largest of which is the prediction; or to labels, integer (B,), for RayS alone. Of two
        classes it may give (B,), positive for class 1, as scikit-learn's decision_function does. It
        is never called without images.
      num_classes: C, >= 2.
      batch_size: most images in one call of `predict`; None: whatever the attack gives.

    Raises:
      ValueError: an argument outside its range; when called, an answer of another shape.
      TypeError: a predict that cannot be called.
    """
    return BlackBox(predict, num_classes, batch_size)


class _Scores:
    """Images to logits, in NumPy; both float32."""

    def __init__(self, predict: Predict, num_classes: int, batch_size: int | None):
        self.predict, self.num_classes, self.batch_size = predict, num_classes, batch_size
        self.gives_labels = False

    def __call__(self, x: np.ndarray) -> np.ndarray:
        size = self.batch_size or max(len(x), 1)
        parts = [self._part(x[begin : begin + size]) for begin in range(0, len(x), size)]
        return np.concatenate([np.zeros((0, self.num_classes), np.float32), *parts])

    def _part(self, x: np.ndarray) -> np.ndarray:
        found = np.asarray(self.predict(x))
        if found.shape == (len(x), self.num_classes) and found.dtype.kind in "fiub":
            return found.astype(np.float32)
        if found.shape == (len(x),) and found.dtype.kind == "f" and self.num_classes == 2:
            return np.stack([-found / 2, found / 2], axis=1).astype(np.float32)
        if found.shape == (len(x),) and found.dtype.kind in "iu":
            if found.min() >= 0 and found.max() < self.num_classes:
                self.gives_labels = True
                return np.eye(self.num_classes, dtype=np.float32)[found]
            raise ValueError(
                f"black_box: predict gave labels in [{found.min()}, {found.max()}]; expected "
                f"0..{self.num_classes - 1}, as num_classes says."
            )
        raise ValueError(
            f"black_box: predict gave {found.dtype} of shape {found.shape} for {len(x)} images; "
            f"expected scores {(len(x), self.num_classes)}, or integer labels ({len(x)},)."
        )
