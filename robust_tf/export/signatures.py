"""What a SavedModel can do: plain TensorFlow functions, gradients and attack included."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from robust_tf import compat
from robust_tf.attacks.network import logits_of
from robust_tf.data.picture_bytes import image_of_bytes
from robust_tf.data.pictures import RESIZES
from robust_tf.evaluation.adaptive import bpda
from robust_tf.export import pgd_signature
from robust_tf.inference import ManifoldTransformation
from robust_tf.models import Classifier, SplitClassifier, forward_mode

Exportable = Classifier | ManifoldTransformation
Outputs = dict[str, tf.Tensor]

# One line for each signature, for the model card.
MEANING = {
    "serving_default": "the prediction, for float32 images in [0, 1]",
    "serve_uint8": "the prediction, for uint8 images in 0..255",
    "serve_image_bytes": "the prediction, for whole JPEG, PNG, BMP or GIF files of any size",
    "features": "the intermediate layer z of the network, of the images as they are",
    "detect": "the entropy of the prediction in nats (high for unsure); with a discriminator also "
    "its probability that an image is natural",
    "defend": "the transformed inference: the moved images, and the prediction of them",
    "transform": "the moved images alone",
    "input_gradient": "the cross-entropy of each image, and its gradient with respect to the image",
    "attack": "adversarial images by projected gradient ascent in the L-inf ball",
}

# What a division gives. In a graph TensorFlow makes of a division by a constant
# a multiplication by 1 / 255, which has other last bits than the images of data.batches.
_UNIT_INTERVAL = np.arange(256, dtype=np.float32) / np.float32(255)


class Signatures(tf.Module):
    """The functions of a model that are saved, and plain TensorFlow variables.

    The Keras objects stay outside: saved with them, a SavedModel carries their configuration, and
    loading it wants the classes. Dropout is off, batch normalisation uses its moving averages.

    Of a model behind a manifold transformation, the prediction is the defended one everywhere; its
    gradient and the attack go through the transformation by BPDA (backward pass differentiable
    approximation), with the identity in place of its Jacobian, as in an adaptive evaluation. The
    Jacobian itself is 0 for pixels that the clip has cut, and would hide them.

    Args:
      model: judges.
      detector: has the discriminator, if the model itself has none.
      class_names: by label; with them whatever gives `class` also gives its name, `label`.
      resize: what becomes of files of another size, see `decode`; None: it is not known what
        became of the training images, and files are stretched.

    Raises:
      ValueError: not as many names as classes, an unknown `resize`.

    Attributes:
      class_names, resize: as given, () where no names are known.
      classes: number of logits.
    """

    def __init__(
        self,
        model: Exportable,
        detector: ManifoldTransformation | None = None,
        class_names: Sequence[str] | None = None,
        resize: str | None = None,
    ):
        super().__init__(name="signatures")
        if resize is not None and resize not in RESIZES:
            raise ValueError(f"export(resize={resize!r}): must be one of {RESIZES}.")
        self.class_names, self.resize = tuple(class_names or ()), resize
        named = _naming(self.class_names)
        defended = isinstance(model, ManifoldTransformation)
        detector = model if defended else detector
        variables = {id(v): v for part in (model, detector) if part for v in part.variables}
        self.weights = [compat.raw(variable) for variable in variables.values()]
        target: Callable[..., Any] = bpda(model) if defended else model
        # Behind functions: as attributes, a Keras model would be saved beside the weights, and each
        # graph be made once more.
        self._target = lambda: target
        made: dict[str, Any] = {}
        self._functions = lambda: made
        shape = tuple(model.image_shape)
        images = tf.TensorSpec([None, *shape], tf.float32, name="images")
        labels = tf.TensorSpec([None], tf.int32, name="labels")
        # The others call its graph: of a deep network each of its own takes long.
        predicted = _graph(lambda x: named(predict(model, x)), images)
        made["serving_default"] = predicted
        self.classes = int(predicted.structured_outputs["logits"].shape[-1])
        if class_names and len(class_names) != self.classes:
            raise ValueError(
                f"export(class_names=...): {len(class_names)} names, but the model has "
                f"{self.classes} classes; give one for each, in the order of the labels."
            )
        if len(shape) == 3:
            pixels = tf.TensorSpec([None, *shape], tf.uint8, name="images")
            made["serve_uint8"] = _graph(lambda x: predicted(to_unit_interval(x)), pixels)
        if takes_files(shape):
            files = tf.TensorSpec([None], tf.string, name="image_bytes")
            made["serve_image_bytes"] = _graph(
                lambda x: predicted(decode(x, shape, resize or "stretch")), files
            )
        network: Any = model.network if defended else model
        if hasattr(network, "features"):
            made["features"] = _graph(lambda x: {"features": features(network, x)}, images)
        made["detect"] = _graph(
            lambda x: detect(lambda x: predicted(x)["logits"], detector, x), images
        )
        if defended:
            made["defend"] = _graph(lambda x: named(defend(model, x)), images)
            made["transform"] = _graph(lambda x: {"images": model.transform(x)}, images)
        made["input_gradient"] = _graph(
            lambda x, y: pgd_signature.gradient(target, self.classes, x, y), images, labels
        )
        made["attack"] = _graph(
            lambda *arguments: {"images": pgd_signature.attack(target, self.classes, *arguments)},
            images,
            labels,
            *pgd_signature.SPECS,
        )

    @property
    def functions(self) -> dict[str, Any]:
        """By name, of tensors, each to a dictionary of tensors."""
        return self._functions()

    @property
    def target(self) -> Callable[..., Any]:
        """Images to logits, as attacks are to see the model."""
        return self._target()


def predict(model: Any, images: tf.Tensor) -> Outputs:
    """Logits and probabilities, float32 (B, C), and class, int32 (B,)."""
    logits = logits_of(model, "running")(images)
    return {
        "logits": logits,
        "probabilities": tf.nn.softmax(logits),
        "class": tf.argmax(logits, axis=1, output_type=tf.int32),
    }


def features(network: SplitClassifier, images: tf.Tensor) -> tf.Tensor:
    """z, float32 (B, ...)."""
    with forward_mode(batch_norm="running"):
        return tf.cast(network.features(images, training=False), tf.float32)


def detect(model: Any, detector: ManifoldTransformation | None, images: tf.Tensor) -> Outputs:
    """entropy, float32 (B,) in nats, and natural_probability, float32 (B,), of a discriminator."""
    logits = logits_of(model, "running")(images)
    log_probabilities = tf.nn.log_softmax(logits)
    found = {"entropy": -tf.reduce_sum(tf.exp(log_probabilities) * log_probabilities, axis=1)}
    if detector is not None:
        found["natural_probability"] = detector.natural_probability(images)
    return found


def defend(model: ManifoldTransformation, images: tf.Tensor) -> Outputs:
    """What `predict` gives, and the images that were judged."""
    moved = model.transform(images)
    return {"images": moved, **predict(model.network, moved)}


def to_unit_interval(pixels: tf.Tensor) -> tf.Tensor:
    """The uint8 pixels as float32 in [0, 1], to the bits that training saw."""
    return tf.gather(_UNIT_INTERVAL, tf.cast(pixels, tf.int32))


def takes_files(shape: tuple[int | None, ...]) -> bool:
    """Whether a model that takes images of this shape can be given files."""
    return len(shape) == 3 and None not in shape and shape[2] in (1, 3, 4)


def decode(image_bytes: tf.Tensor, shape: Any, resize: str = "stretch") -> tf.Tensor:
    """Images float32 (B, H, W, C) in [0, 1] from whole files, to the bit what the sources read.

    Pictures are turned upright as EXIF says, made gray or color as the model wants them, and
    brought to its size; one of this size keeps its pixels.

    Args:
      image_bytes: strings (B,), each a JPEG, PNG, BMP or GIF (the first frame).
      shape: (H, W, C) of the model.
      resize: 'pad', 'crop' or 'stretch', see `data.pictures.fit`.
    """
    shape = tuple(shape)
    with tf.device("CPU:0"):  # as pictures are read: another device rounds otherwise
        pixels = tf.map_fn(
            lambda content: image_of_bytes(content, shape, resize),
            image_bytes,
            fn_output_signature=tf.TensorSpec(shape, tf.uint8),
        )
        return to_unit_interval(pixels)


def _naming(class_names: Sequence[str]) -> Callable[[Outputs], Outputs]:
    """Adds `label`, string (B,), the name of `class`; nothing without names."""
    if not class_names:
        return lambda outputs: outputs
    names = list(class_names)
    return lambda outputs: {**outputs, "label": tf.gather(tf.constant(names), outputs["class"])}


def _graph(run: Callable[..., Outputs], *specs: tf.TensorSpec) -> Any:
    """The concrete function of these arguments."""
    # AutoGraph would read the source of functions that hold no Python control flow to convert.
    return tf.function(run, input_signature=specs, autograph=False).get_concrete_function()


def network_of(model: Any) -> Exportable:
    """The part of `model` that is exported.

    Raises:
      TypeError: there is none.
    """
    if not isinstance(model, Exportable):
        model = getattr(model, "final_network", model)
    if not isinstance(model, Exportable):
        kind = type(model).__name__
        hint = " give models.split(model), or models.WholeClassifier(model)."
        if not isinstance(model, keras.Model):
            hint = " a SavedModel cannot be exported again; give the model that it was made of."
        raise TypeError(f"export takes a SplitClassifier, got {kind};{hint}")
    return model
