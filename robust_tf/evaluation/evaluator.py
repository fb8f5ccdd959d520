"""Runs attacks on a classifier and counts, image by image, what they broke."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gin
import keras
import numpy as np
import tensorflow as tf

from robust_tf import compat
from robust_tf.attacks import Attack
from robust_tf.attacks.arguments import check_labels, check_logits, check_values
from robust_tf.attacks.network import logits_of
from robust_tf.attacks.randomness import as_seed, each, fold
from robust_tf.data import Split
from robust_tf.evaluation.progress import Progress
from robust_tf.evaluation.results import Evaluation
from robust_tf.evaluation.spec import as_attacks
from robust_tf.version import __version__

Attacks = Mapping[str, Attack] | Sequence[Attack] | str


@gin.configurable("evaluate")
def evaluate(
    model: Callable[..., Any],
    split: Any,
    attacks: Attacks,
    *,
    batch_size: int = 500,
    max_examples: int | None = None,
    seed: int = 0,
    progress: bool | None = None,
) -> Evaluation:
    """Natural accuracy, and robust accuracy under each attack and under all of them.

    Each attack starts anew from all images that are classified correctly. Its stages (one for each
    target of a multi-targeted attack) run one after the other on those that still stand. An image
    counts as robust to the attack if no stage broke it, and as robust if no attack did: the
    per-example worst case is the headline. The verdict is the model's own prediction on the
    attack's result, never what the attack believes.

    Args:
      model: Keras model or any callable, from float32 images (B, H, W, C) in [0, 1] to logits
        (B, C).
      split: `data.Split`, or images (uint8 in 0..255, or float32 in [0, 1]) and integer labels.
      attacks: by name; or attacks without names; or text as for `parse_attacks`.
      batch_size: images attacked at once, >= 1; it changes time, memory and which random numbers
        an image gets.
      max_examples: evaluate only the first so many, >= 1; None: all.
      seed: of the attacks' randomness. The result of an attack depends on no other attack.
      progress: True: a bar on stderr; None: a bar on a terminal, else one line per attack; False:
        nothing.

    Returns:
      The verdicts.

    Raises:
      TypeError, ValueError: images, labels, model and attacks that do not fit, before any work.
    """
    images, labels = _examples(split, max_examples)
    attacks = as_attacks(attacks)
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"batch_size={batch_size!r}: must be an integer >= 1.")
    _check_image_shape(model, images.shape[1:])
    first = _to_float(images[: min(64, batch_size)])
    num_classes = check_logits(logits_of(model, "running")(first))
    if num_classes < 2:
        raise ValueError("the model has one logit; expected one for each class, two or more.")
    check_values(first, labels, num_classes)
    stages = {name: _stages(name, attack) for name, attack in attacks.items()}

    predict = _predictor(model, images.shape[1:])
    natural = np.zeros(len(labels), bool)
    for part in _chunks(np.arange(len(labels)), batch_size):
        natural[part] = predict(_to_float(images[part])).numpy() == labels[part]

    robust, seconds = {}, {}
    for name, steps in stages.items():
        began = time.perf_counter()
        standing = np.flatnonzero(natural)
        with Progress(name, len(labels), len(standing), len(steps), progress) as report:
            for index, attack in enumerate(steps):
                survivors = []
                stage_seed = fold(as_seed(seed), index)
                for part in _chunks(standing, batch_size):
                    x, y = _to_float(images[part]), tf.constant(labels[part])
                    x_adv = attack(model, x, y, seed=each(stage_seed, tf.constant(part)))
                    stands = predict(x_adv).numpy() == labels[part]
                    survivors.append(part[stands])
                    report.done(len(part), int((~stands).sum()), len(steps) - index - 1)
                standing = np.concatenate(survivors) if survivors else standing
        robust[name] = np.zeros(len(labels), bool)
        robust[name][standing] = True
        seconds[name] = time.perf_counter() - began
    settings = {
        "seed": seed,
        "batch_size": batch_size,
        "num_classes": num_classes,
        "data_hash": _hash(images, labels),
        "versions": {
            "robust_tf": __version__,
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
        },
        "attacks": {name: compat.serialize(attack) for name, attack in attacks.items()},
    }
    return Evaluation(natural, robust, seconds, settings)


def _examples(split: Any, max_examples: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Images and int32 labels, checked."""
    if max_examples is not None and (
        isinstance(max_examples, bool) or not isinstance(max_examples, int) or max_examples < 1
    ):
        raise ValueError(
            f"max_examples={max_examples!r}: must be an integer >= 1, or None for all."
        )
    if not isinstance(split, Split):
        if not isinstance(split, (tuple, list)) or len(split) != 2:
            raise TypeError(
                f"the examples are {type(split).__name__}; expected data.Split or (images, labels)."
            )
        images, labels = split
        check_labels(tf.convert_to_tensor(labels))
        split = Split(np.asarray(images), np.asarray(labels))
    if not len(split):
        raise ValueError("there are no examples to evaluate on: the split is empty.")
    split = split if max_examples is None else split.take(max_examples)
    return split.images, split.labels


def _check_image_shape(model: Any, shape: tuple[int, ...]) -> None:
    """Raises where the model says that it takes images of another shape."""
    network = getattr(model, "network", model)
    expected = getattr(network, "image_shape", None)
    if expected is None and isinstance(getattr(network, "input_shape", None), tuple):
        expected = network.input_shape[1:]
    if expected is None:
        return
    fits = len(expected) == len(shape) and all(
        want in (None, have) for want, have in zip(expected, shape, strict=True)
    )
    if not fits:
        raise ValueError(
            f"the model takes images of shape {tuple(expected)}, these are {tuple(shape)}: "
            "is this the dataset that it was trained on?"
        )


def _stages(name: str, attack: Attack) -> list[Attack]:
    stages = [stage for _, stage in attack.stages()]
    for stage in stages:
        if getattr(getattr(stage, "objective", None), "targeted", False):
            raise ValueError(
                f"{name}: a targeted attack has no target here; wrap it, MultiTargeted(attack), to "
                "run it at every wrong class."
            )
    return stages


def _predictor(model: Callable[..., Any], shape: tuple[int, ...]) -> Callable[..., tf.Tensor]:
    """Compiled: images (B, ...) -> predicted class (B,), -1 where a logit is not a number."""
    network = logits_of(model, "running")

    @tf.function(input_signature=[tf.TensorSpec([None, *shape], tf.float32)])
    def predict(x: tf.Tensor) -> tf.Tensor:
        logits = network(x)
        broken = tf.reduce_any(tf.math.is_nan(logits), axis=1)
        return tf.where(broken, -1, tf.argmax(logits, axis=1, output_type=tf.int32))

    return predict


def _chunks(indices: np.ndarray, size: int) -> list[np.ndarray]:
    return [indices[begin : begin + size] for begin in range(0, len(indices), size)]


def _to_float(images: np.ndarray) -> tf.Tensor:
    """float32 in [0, 1], to the bit what the training pipeline feeds."""
    scale = 255.0 if images.dtype == np.uint8 else 1.0
    return tf.cast(tf.constant(images), tf.float32) / scale


def _hash(images: np.ndarray, labels: np.ndarray) -> str:
    """16 hex digits of SHA-256 over pixels and labels."""
    digest = hashlib.sha256(f"{images.dtype.str}{images.shape}".encode())
    for array in (images, labels):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]
