"""The model under evaluation: checks that it takes the images, and copies in other precisions."""

from __future__ import annotations

import copy
import hashlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from robust_tf import compat, files, precision
from robust_tf.attacks import Attack, Transfer
from robust_tf.attacks.arguments import check_logits
from robust_tf.attacks.network import OutputError, logits_of, traced
from robust_tf.attacks.objectives import predicted_class
from robust_tf.evaluation.attack_names import stages_of
from robust_tf.evaluation.sources import SourceModel
from robust_tf.evaluation.state import EvaluationState
from robust_tf.precision import POLICIES


class TargetModel:
    """A model under evaluation.

    Args:
      model: Keras model or callable, images (B, ...) to logits (B, C).
      x: a few of the images, float32 in [0, 1].
      search_dtype: see `Protocol`.

    Attributes:
      model: gives the verdicts.
      search: what attacks work on, the same model or a copy in bfloat16.
      predict: images to predicted classes (B,), -1 where a logit is not a number.
      num_classes: of the model.
      fingerprint: of its weights if it is a Keras model, else of its logits on images of noise;
        None if they are random.

    Raises:
      ValueError: the model does not take such images, or does not give two logits or more.
      TypeError: it cannot be traced.
    """

    def __init__(self, model: Callable[..., Any], x: tf.Tensor, search_dtype: str | None = None):
        _check_image_shape(model, tuple(x.shape[1:]))
        self.num_classes = check_logits(_logits(model, x), model)
        if self.num_classes < 2:
            raise ValueError("the model has one logit; expected one for each class, two or more.")
        self.fingerprint = fingerprint_of(model, x)
        self.model = model if search_dtype is None else copy_in(model, "float32")
        self.search = copy_in(model, "bfloat16") if search_dtype == "bfloat16" else self.model
        self.predict = _predictor(self.model, x.shape[1:])
        self._claim = _predictor(self.search, x.shape[1:]) if self.searches else self.predict

    @property
    def searches(self) -> bool:
        """Whether attacks work on another model than the one that gives the verdicts."""
        return self.search is not self.model

    def agrees(self, x: Any, labels: np.ndarray) -> np.ndarray:
        """Whether the model that attacks work on gives these labels, bool (B,)."""
        return self._claim(x).numpy() == labels


def sources_of(attacks: dict[str, Attack], x: tf.Tensor, classes: int) -> dict[str, str | None]:
    """Fingerprints of the models that `Transfer` attacks, by the attacks' names; x as above.

    Raises:
      ValueError: one of them does not take such images, or has not so many classes.
    """
    sources, known = {}, {}
    for name, attack in attacks.items():
        for title, stage in stages_of(name, attack).items():
            if isinstance(stage, Transfer):
                source = stage.source
                try:
                    if id(source) not in known:
                        known[id(source)] = _source_fingerprint(source, x, classes)
                except ValueError as error:
                    raise ValueError(f"{title}, whose source is meant: {error}") from error
                sources[title] = known[id(source)]
    return sources


def _source_fingerprint(source: Callable[..., Any], x: tf.Tensor, classes: int) -> str | None:
    _check_image_shape(source, tuple(x.shape[1:]))
    found = check_logits(_logits(source, x[:8]))
    if found != classes:
        raise ValueError(
            f"the model has {found} classes, the one that is evaluated has {classes}: take one "
            "that was trained on the same classes."
        )
    return fingerprint_of(source.model if isinstance(source, SourceModel) else source, x)


def _logits(model: Callable[..., Any], x: tf.Tensor) -> tf.Tensor:
    """The logits of these images, with a clear error where the model fails."""
    try:
        return logits_of(model, "running")(x)
    except OutputError:
        raise
    except Exception as error:  # a model may raise anything
        line = (str(error).strip().splitlines() or [""])[0]
        line = re.sub(r"\{\{.*?\}\} ?| ?\[Op:.*", "", line).rstrip(".")  # of TensorFlow's inside
        raise ValueError(
            f"the model fails on float32 images of shape {tuple(x.shape)}: "
            f"{type(error).__name__}: {line}. Does it take such images, with this many channels?"
        ) from error


def _predictor(model: Callable[..., Any], shape: tuple[int, ...]) -> Callable[..., tf.Tensor]:
    """Compiled: images (B, ...) -> predicted class (B,), -1 where a logit is not a number.

    Raises:
      TypeError: the model cannot be traced.
    """
    network = logits_of(model, "running")

    def predict(x: tf.Tensor) -> tf.Tensor:
        return predicted_class(network(x))

    graph = traced(predict, model, shape)
    return lambda x: graph(tf.constant(x))


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


def fingerprint_of(model: Any, x: tf.Tensor) -> str | None:
    """16 hex digits of SHA-256 over the weights of a Keras model or the logits of another.

    None where two calls give different logits.
    """
    if isinstance(model, keras.Model):
        arrays = model.get_weights()
    else:
        probe = tf.random.stateless_uniform([8, *x.shape[1:]], [0, 0])
        arrays = [np.asarray(_logits(model, probe)) for _ in range(2)]
        if not np.array_equal(arrays[0], arrays[1], equal_nan=True):
            return None
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]


def settled_dtype(asked: str | None, model: Any, state: EvaluationState) -> str | None:
    """The `search_dtype` of an evaluation: 'auto' becomes one of the others.

    Args:
      asked: see `evaluate`; 'auto:float32' or 'auto:bfloat16' where 'auto' was settled for several
        shards at once.
      model: a Keras model, or None is the answer to 'auto'.
      state: of an evaluation that may be continued, which keeps the precision that it began with.
    """
    auto, _, settled = (asked or "").partition(":")
    if auto == "auto":
        if not isinstance(model, keras.Model):
            return None
        return state.begun_with("search_dtype") or settled or precision.choose("auto").dtype
    if asked == "bfloat16":
        precision.choose("bfloat16")  # warns where it is slow
    return asked


def copy_in(model: Any, dtype: str) -> keras.Model:
    """A copy of `model` whose layers compute in `dtype`; weights and logits stay float32.

    The last layer with a kernel, and those after it, compute in float32 in any case, as a
    classifier's logits should.

    Args:
      model: Keras model; of another kind nothing is known of how it computes.
      dtype: 'float32' or 'bfloat16'.

    Raises:
      ValueError: not a Keras model, or one that cannot be built again from its configuration.
    """
    if not isinstance(model, keras.Model):
        raise ValueError(
            f"search_dtype={dtype!r} needs a Keras model, this is {type(model).__name__}; leave it "
            "out to attack the model as it is."
        )
    config = copy.deepcopy(compat.serialize(model))
    config.pop("compile_config", None)  # a loss of the user's need not be found again
    layers = list(_layers(config))
    kernels = [number for number, layer in enumerate(layers) if "kernel_initializer" in layer]
    last = kernels[-1] if kernels else len(layers)
    for number, layer in enumerate(layers):
        layer["dtype"] = "float32" if number >= last else POLICIES[dtype]
    try:
        copied = compat.deserialize(config)
        copied.set_weights(model.get_weights())
    except Exception as error:  # Keras raises of every kind
        raise ValueError(
            f"search_dtype={dtype!r}: the model cannot be built again from its configuration "
            f"({files.reason(error)}); leave it out to attack the model as it is."
        ) from error
    return copied


def _layers(value: Any) -> Iterator[dict[str, Any]]:
    """The configurations of all layers in a model's, in the order of the model.

    Not of models and inputs, nor of the tensors and operations between the layers of a functional
    model: these have a `dtype`, too, but cannot be trained.
    """
    if isinstance(value, dict):
        config = value.get("config")
        if isinstance(config, dict) and "class_name" in value:
            inner = value["class_name"] in ("InputLayer", "Functional", "Sequential")
            if not inner and {"dtype", "trainable"} <= config.keys():
                yield config
        for part in value.values():
            yield from _layers(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _layers(part)
