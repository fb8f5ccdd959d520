"""Losses on logits and labels, and the input checks that all losses share."""

import tensorflow as tf

from robust_tf.validation import check_number


def as_float32(values: tf.Tensor, name: str) -> tf.Tensor:
    """Casts floating values of any width to float32, in which every loss is computed.

    Args:
        values: tensor of any shape and of a floating type (bfloat16, float16, float32, float64).
        name: what the error calls the tensor.

    Returns:
        The same values as float32; gradients pass through the cast.

    Raises:
        ValueError: the values are not of a floating type.
    """
    values = tf.convert_to_tensor(values)
    if not values.dtype.is_floating:
        raise ValueError(
            f"{name} has type {values.dtype.name}, but a loss needs floating values; "
            f"convert first, for images tf.cast({name}, tf.float32) / 255."
        )
    return tf.cast(values, tf.float32)


def as_logits(logits: tf.Tensor, name: str = "logits") -> tf.Tensor:
    """Casts logits to float32 and checks that they are (B, C).

    Raises:
        ValueError: not floating, or known not to be of rank 2.
    """
    logits = as_float32(logits, name)
    if logits.shape.rank not in (None, 2):
        raise ValueError(
            f"{name} has shape {tuple(logits.shape)}, but (batch, classes) is needed; "
            "flatten or pool all other axes first."
        )
    return logits


def as_labels(y: tf.Tensor, batch: int | None = None, name: str = "y") -> tf.Tensor:
    """Casts class ids to int64 and checks that they are integers of shape (B,).

    Args:
        y: class ids.
        batch: static batch size that y has to have, where it is known.
        name: what the error calls the tensor.

    Raises:
        ValueError: one-hot or otherwise not of rank 1, not of an integer type, or of another batch
            size.
    """
    y = tf.convert_to_tensor(y)
    if y.shape.rank not in (None, 1):
        raise ValueError(
            f"{name} has shape {tuple(y.shape)}, but integer class ids of shape (batch,) are "
            f"needed; one-hot labels become class ids by tf.argmax({name}, axis=-1), "
            f"a column of ids by tf.squeeze({name}, axis=-1)."
        )
    if not y.dtype.is_integer:
        raise ValueError(
            f"{name} has type {y.dtype.name}, but class ids of an integer type are needed; "
            f"use tf.cast({name}, tf.int64)."
        )
    if batch is not None and y.shape.rank == 1 and y.shape[0] not in (None, batch):
        raise ValueError(
            f"{name} has {y.shape[0]} labels for a batch of {batch} examples; give one each."
        )
    return tf.cast(y, tf.int64)


def cross_entropy(logits: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Cross-entropy of the true class, per example (ADR, arXiv 2007.05123, Eq. 4).

    Args:
        logits: (B, C), any floating type.
        y: (B,) integer class ids in [0, C).

    Returns:
        (B,) float32, -log p_y in nats, >= 0. A class id out of range is TensorFlow's
            InvalidArgumentError on a CPU and NaN on a GPU.

    Raises:
        ValueError: logits not (B, C), or labels one-hot, not integer, or of another batch size.
    """
    logits = as_logits(logits)
    y = as_labels(y, logits.shape[0] if logits.shape.rank else None)
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits)


def smooth_labels(y: tf.Tensor, num_classes: int, smoothing: float) -> tf.Tensor:
    """Label distributions that leave `smoothing` to the other classes, in equal parts.

    Args:
        y: (B,) integer class ids in [0, num_classes).
        num_classes: C, 2 or more.
        smoothing: d in [0, 1 - 1 / C); the true class gets 1 - d, each other one d / (C - 1). ATLD
            and Feature Scattering take 0.5.

    Returns:
        (B, C) float32, rows of sum 1.

    Raises:
        ValueError: smoothing outside its range; labels one-hot or not integer.
    """
    check_smoothing(smoothing, "smooth_labels", num_classes)
    rest = smoothing / (num_classes - 1)
    return tf.one_hot(as_labels(y), num_classes, on_value=1.0 - smoothing, off_value=rest)


def check_smoothing(smoothing: float, owner: str, num_classes: int) -> None:
    """Raises ValueError unless the true class keeps more than each other: d < 1 - 1 / C."""
    check_number(
        owner,
        "label_smoothing",
        smoothing,
        0.0,
        f"so that of {num_classes} classes the true one keeps most; 0 keeps the labels hard",
        high=1 - 1 / num_classes,
        strict_high=True,
    )


def soft_cross_entropy(logits: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Cross-entropy against a distribution over the classes, per example.

    Args:
        logits: (B, C), any floating type.
        targets: (B, C) distributions; no gradient passes to them.

    Returns:
        (B,) float32, -sum_c t_c log p_c in nats, >= 0.

    Raises:
        ValueError: logits not (B, C), or targets of another shape.
    """
    logits, targets = as_logits(logits), as_logits(targets, "targets")
    logits.shape.assert_is_compatible_with(targets.shape)
    return tf.nn.softmax_cross_entropy_with_logits(tf.stop_gradient(targets), logits)


def label_cross_entropy(logits: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Cross-entropy of class ids (B,), or of distributions over the classes, float32 (B, C).

    Of the label s y + (1 - s) y' it is s CE(y) + (1 - s) CE(y'), as mixup (Zhang et al., 2018)
    takes it.
    """
    if tf.convert_to_tensor(y).shape.rank == 2:
        return soft_cross_entropy(logits, y)
    return cross_entropy(logits, y)


def class_ids(y: tf.Tensor) -> tf.Tensor:
    """int32 (B,): class ids as they are, of distributions (B, C) the most probable class."""
    if y.shape.rank == 2:
        return tf.argmax(y, axis=1, output_type=tf.int32)
    return tf.cast(y, tf.int32)


def conditional_entropy(logits: tf.Tensor) -> tf.Tensor:
    """Entropy of the predicted distribution, per example (ADR, arXiv 2007.05123, Eq. 5).

    ADR takes it of adversarial examples. The gradient passes through both factors of p log p, as in
    the released code, so that minimising it makes predictions sharp.

    Args:
        logits: (B, C), any floating type.

    Returns:
        (B,) float32, -sum_c p_c log p_c in nats, in [0, log C].

    Raises:
        ValueError: logits not (B, C).
    """
    log_p = tf.nn.log_softmax(as_logits(logits))
    return -tf.reduce_sum(tf.exp(log_p) * log_p, axis=-1)
