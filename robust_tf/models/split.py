"""A network cut in two: images -> generator -> features -> classifier -> logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from robust_tf import compat, registration
from robust_tf.models import remat
from robust_tf.models.classifier import Classifier, Outputs
from robust_tf.models.logits import ends_in


@registration.serializable
class SplitClassifier(Classifier):
    """An image classifier f = h(g(x)) whose intermediate layer z = g(x) can be reached.

    Args:
      generator: built Keras model, images float32 (B, H, W, C) in [0, 1] -> features z.
      classifier: built Keras model, features z -> logits (B, num_classes).

    Raises:
      ValueError: the two do not fit together, or the classifier ends in a softmax or sigmoid.
    """

    def __init__(self, generator: keras.Model, classifier: keras.Model, **kwargs: Any):
        super().__init__(**kwargs)
        if tuple(generator.output_shape[1:]) != tuple(classifier.input_shape[1:]):
            raise ValueError(
                "SplitClassifier: the generator gives features of shape "
                f"{generator.output_shape[1:]}, the classifier takes {classifier.input_shape[1:]}."
            )
        activation = ends_in(classifier.outputs[0]) if compat.is_graph(classifier) else None
        if activation is not None:
            raise ValueError(
                f"SplitClassifier: the classifier ends in a {activation}; it must return logits. "
                "models.split takes a whole model apart and the activation off."
            )
        self.generator, self.classifier = generator, classifier
        self.built = True
        compat.record_input_shape(self, (None, *self.image_shape))

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of one image."""
        return tuple(self.generator.input_shape[1:])

    @property
    def num_classes(self) -> int:
        """Number of logits."""
        return int(self.classifier.output_shape[-1])

    @property
    def inner_models(self) -> list[keras.Model]:
        return [self.generator, self.classifier]

    def features(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Features z = g(x)."""
        return remat.call(self.generator, x, training)

    def classify(self, z: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Logits float32 (B, num_classes) of features z."""
        return tf.cast(remat.call(self.classifier, z, training), tf.float32)

    def forward(self, x: tf.Tensor, training: bool = False) -> Outputs:
        """Logits and features in one forward pass."""
        z = self.features(x, training)
        return Outputs(self.classify(z, training), z)

    def get_config(self) -> dict[str, Any]:
        """The name and both halves."""
        return {
            "name": self.name,
            "generator": compat.serialize(self.generator),
            "classifier": compat.serialize(self.classifier),
            **self.source_config(),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> SplitClassifier:
        """Inverse of `get_config`."""
        halves = {key: compat.deserialize(config[key]) for key in ("generator", "classifier")}
        made = cls(name=config.get("name"), **halves)
        made.weights_source = config.get("weights_source")
        return made


def split_chain(
    layers: list[keras.layers.Layer], cut: int, input_shape: tuple[int, ...], name: str
) -> SplitClassifier:
    """A `SplitClassifier` from a chain of layers, the first `cut` of which are the generator."""
    generator = keras.Sequential([keras.Input(tuple(input_shape)), *layers[:cut]], name="generator")
    classifier = keras.Sequential(
        [keras.Input(tuple(generator.output_shape[1:])), *layers[cut:]],
        name="classifier",
    )
    return SplitClassifier(generator, classifier, name=name)


def split_pooled(
    inputs: Any, feature_map: Any, logits: keras.layers.Layer, name: str
) -> SplitClassifier:
    """A `SplitClassifier` with z = mean of `feature_map` over height and width, h = one layer."""
    z = keras.layers.GlobalAveragePooling2D(name="pool")(feature_map)
    generator = keras.Model(inputs, z, name="generator")
    classifier = keras.Sequential([keras.Input(tuple(z.shape[1:])), logits], name="classifier")
    return SplitClassifier(generator, classifier, name=name)


def split_after(
    cut: str,
    input_shape: Sequence[int],
    stages: dict[str, Callable[[Any], Any]],
    logits: keras.layers.Layer,
    builder: str,
    name: str,
) -> SplitClassifier:
    """A `SplitClassifier` of stages, a pooling and one layer, with z where `cut` says.

    Wherever that is, function and order of weights are the same.

    Args:
      cut: 'pool', see `split_pooled`; or the name of a stage that begins with 'stage', after which
        the feature map is z.
      input_shape: of an image.
      stages: by name, each a function of a feature map.
      logits: the last layer.
      builder: that has the argument `cut`, for messages.
      name: of the network.

    Raises:
      ValueError: an unknown cut.
    """
    known = ("pool", *[stage for stage in stages if stage.startswith("stage")])
    if cut not in known:
        raise ValueError(f"{builder}(cut={cut!r}): must be one of {known}.")
    inputs = x = begins = keras.Input(tuple(input_shape), name="images")
    generator = None
    for stage, layers in stages.items():
        x = layers(x)
        if stage == cut:
            generator = keras.Model(inputs, x, name="generator")
            x = begins = keras.Input(tuple(x.shape[1:]), name="features")
    if generator is None:
        return split_pooled(inputs, x, logits, name)
    pooled = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    classifier = keras.Model(begins, logits(pooled), name="classifier")
    return SplitClassifier(generator, classifier, name=name)
