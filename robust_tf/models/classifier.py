"""What training methods and attacks need of a network, and any Keras model behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from robust_tf import argument_types, compat, registration
from robust_tf.models import conversion, remat
from robust_tf.models.forward import forward_mode
from robust_tf.models.logits import looks_like_probabilities
from robust_tf.models.weights_source import WeightsSource


class Outputs(NamedTuple):
    """Of one forward pass: logits float32 (B, C); features (B, ...), in the network's dtype.

    Features are None of a network that has none.
    """

    logits: tf.Tensor
    features: tf.Tensor | None


class Classifier(WeightsSource, keras.Model):
    """A network of images to logits; a subclass says how, by `forward` and the properties."""

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of one image."""
        raise NotImplementedError

    @property
    def num_classes(self) -> int:
        """Number of logits."""
        raise NotImplementedError

    @property
    def inner_models(self) -> list[keras.Model]:
        """The Keras models that a forward pass calls, one after the other, as far as is known."""
        return []

    @property
    def has_batch_norm(self) -> bool:
        """Whether examples of a batch see each other in a training forward."""
        return conversion.has_batch_norm(self)

    def build(self, input_shape: Any = None) -> None:
        """Nothing to do: what it is made of comes built."""
        self.built = True

    def forward(self, x: tf.Tensor, training: bool = False) -> Outputs:
        """Logits and features in one forward pass."""
        raise NotImplementedError

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Logits float32 (B, num_classes)."""
        return self.forward(inputs, training).logits


@registration.serializable
class WholeClassifier(Classifier):
    """Any Keras model as a classifier that is not cut: there are no features.

    For models whose graph is not known, such as subclassed ones, and for those that cannot be cut.

    Args:
      model: Keras model, images float32 (B, H, W, C) in [0, 1] -> logits (B, C). A class of your
        own needs `@keras.saving.register_keras_serializable()` and `get_config` to be saved, as for
        Keras.
      image_shape: (H, W, C); None: as the model says that it was built for.
      output: which output, where the model gives several: a key, or a number.

    Raises:
      ValueError: the shape of images is not known; outputs that are not logits (B, C), C >= 2.
    """

    def __init__(
        self,
        model: keras.Model,
        image_shape: Sequence[int] | None = None,
        output: str | int | None = None,
        **kwargs: Any,
    ):
        argument_types.check("WholeClassifier", "model", model, keras.Model)
        sides = Sequence[int | None] | None
        argument_types.check("WholeClassifier", "image_shape", image_shape, sides)
        kwargs.setdefault("name", model.name)
        super().__init__(**kwargs)
        shape = image_shape_of(model) if image_shape is None else tuple(image_shape)
        if shape is None:
            raise ValueError(
                f"the model {model.name!r} is not built, so the shape of its images is not known: "
                "call it on images once, model(tf.zeros((1, height, width, channels))), or give "
                "models.WholeClassifier(model, image_shape=(height, width, channels))."
            )
        self.model, self.output_key = model, output
        self._image_shape = tuple(None if side is None else int(side) for side in shape)
        logits = self._probed()
        check_probe(logits, model.name)
        self._classes = int(logits.shape[-1])
        self.built = True

    def _probed(self) -> tf.Tensor:
        """The logits of an image of the shape."""
        try:
            return self._logits(_probe(self._image_shape), training=False)
        except Exception as error:  # a model may raise anything
            if isinstance(error, (ValueError, TypeError)) and "\n" not in str(error):
                raise
            raise ValueError(
                f"the model {self.model.name!r} fails on images of shape {self._image_shape}, "
                "image_shape or that it was built for; give models.WholeClassifier(model, "
                "image_shape=(height, width, channels)), of images that it takes."
            ) from error

    @property
    def image_shape(self) -> tuple[int, ...]:
        return self._image_shape  # type: ignore[return-value]  # sides may be free

    @property
    def num_classes(self) -> int:
        return self._classes

    @property
    def inner_models(self) -> list[keras.Model]:
        return [self.model]

    def forward(self, x: tf.Tensor, training: bool = False) -> Outputs:
        return Outputs(tf.cast(self._logits(x, training), tf.float32), None)

    def _logits(self, x: tf.Tensor, training: bool) -> tf.Tensor:
        return choose_output(remat.call(self.model, x, training), self.output_key, self.model.name)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "name": self.name,
            "model": compat.serialize(self.model),
            "image_shape": list(self._image_shape),
            "output": self.output_key,
            **self.source_config(),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> WholeClassifier:
        """Inverse of `get_config`."""
        config = {**config, "model": compat.deserialize(config["model"])}
        source = config.pop("weights_source", None)
        made = cls(**config)
        made.weights_source = source
        return made


def image_shape_of(model: Any) -> tuple[int, ...] | None:
    """The shape of one image, as far as the model knows it."""
    shape = getattr(model, "image_shape", None)
    if shape is not None:
        return tuple(shape)
    if compat.is_graph(model):
        return tuple(model.inputs[0].shape[1:])
    config = model.get_build_config() if hasattr(model, "get_build_config") else None
    built = (config or {}).get("input_shape")
    if not isinstance(built, (list, tuple, tf.TensorShape)) or len(built) < 2:
        return None
    return tuple(built)[1:]


def choose_output(outputs: Any, key: str | int | None, name: str) -> Any:
    """The output of this key or number; of a model that has one, that one.

    Raises:
      ValueError: there are several and none is named; no such output.
    """
    if not isinstance(outputs, (dict, list, tuple)):
        if key is None:
            return outputs
        raise ValueError(f"output={key!r}: the model {name!r} has a single output; leave it out.")
    keys = list(outputs) if isinstance(outputs, dict) else list(range(len(outputs)))
    if key is None and len(keys) == 1:
        return outputs[keys[0]]
    if key in keys:
        return outputs[key]  # type: ignore[index,call-overload]
    one = "logits" if "logits" in keys else keys[0]
    unknown = "" if key is None else f", and output={key!r} is none of them"
    raise ValueError(
        f"the model {name!r} gives several outputs, {keys}{unknown}: name that of the logits, "
        f"models.split(model, output={one!r}); for an attack or an evaluation alone, "
        f"lambda x: model(x)[{one!r}] will do."
    )


def probe(model: Classifier) -> None:
    """Raises ValueError where test images give something else than logits."""
    with forward_mode(batch_norm="running"):
        check_probe(model(_probe(model.image_shape), training=False), model.name)


def check_probe(logits: Any, name: str) -> None:
    """Raises ValueError unless these outputs for test images are (B, C), C >= 2, and logits."""
    shape = getattr(logits, "shape", None)
    if shape is None or len(shape) != 2 or shape[-1] is None or shape[-1] < 2:
        found = type(logits).__name__ if shape is None else tuple(shape)
        raise ValueError(
            f"the model {name!r} gives {found} for {PROBE} images; a classifier gives logits, "
            "(batch, classes), for two classes or more."
        )
    if looks_like_probabilities(np.asarray(tf.cast(logits, tf.float32))):
        raise ValueError(
            f"the model {name!r} gives probabilities (none is negative, and they add up to 1) "
            "from a part that models.split cannot take apart: end it before the softmax, so that "
            "it gives logits."
        )


PROBE = 4


def _probe(shape: Sequence[int | None]) -> tf.Tensor:
    """Images of noise; sides that are free are 64."""
    sides = [64 if side is None else side for side in shape]
    return tf.random.stateless_uniform([PROBE, *sides], [0, 0])
