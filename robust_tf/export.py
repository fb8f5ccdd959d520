"""Exports a network as a SavedModel that TensorFlow alone can load and serve."""

from __future__ import annotations

import os
from typing import Any

import tensorflow as tf

from robust_tf import compat, files
from robust_tf.inference import ManifoldTransformation
from robust_tf.models import SplitClassifier, forward_mode

Exportable = SplitClassifier | ManifoldTransformation


def export(network: Any, export_dir: str | os.PathLike[str], overwrite: bool = False) -> None:
    """Writes a SavedModel with two signatures, both from `images`, float32 (B, H, W, C) in [0, 1].

    * `serving_default`: `logits` and `probabilities`, float32 (B, num_classes);
    * `features`: `features`, float32 (B, ...), the intermediate layer; of a model behind a manifold
      transformation `transform` instead: `images`, what the network is shown.

    Dropout is off and batch normalisation uses its moving averages. The folder appears whole or
    not at all.

    Args:
      network: `SplitClassifier`; a `RobustModel`, whose network is taken (that of averaged weights,
        if there is one); or a `ManifoldTransformation`, with which goes its gradient.
      export_dir: a folder that does not exist or is empty.
      overwrite: replace a SavedModel that is there.

    Raises:
      TypeError: another kind of model.
      ValueError: the folder is in use.
      FileError: it cannot be written.
    """
    if not isinstance(network, Exportable):
        network = getattr(network, "final_network", network)
    if not isinstance(network, Exportable):
        raise TypeError(
            f"export takes a SplitClassifier, got {type(network).__name__}; split the network in "
            "two: SplitClassifier(generator, classifier)."
        )
    path = os.fspath(export_dir).rstrip("/")
    check_free(path, overwrite)
    module = _Served(network)
    signatures = {"serving_default": module.serve, module.second: module.inner}
    with files.atomic(path) as temporary:
        tf.saved_model.save(module, temporary, signatures=signatures)
        files.remove(path)  # empty, or a SavedModel to be replaced: `check_free` saw to that


def check_free(path: str, overwrite: bool) -> None:
    """Raises ValueError unless a SavedModel may be written to `path`.

    Never gives way to deleting something else: what is replaced must be a SavedModel itself.
    """
    if not files.exists(path):
        return
    if not files.is_folder(path):
        raise ValueError(f"{path} is a file; name a folder.")
    if not tf.io.gfile.listdir(path):
        return
    if not files.exists(os.path.join(path, "saved_model.pb")):
        raise ValueError(f"{path} is not empty and holds no SavedModel; name another folder.")
    if not overwrite:
        raise ValueError(f"{path} holds a SavedModel already; --overwrite replaces it.")


class _Served(tf.Module):
    """What is saved: two functions and plain TensorFlow variables.

    The Keras objects stay outside: saved with them, a SavedModel carries their configuration, and
    loading it wants the classes.
    """

    def __init__(self, network: Exportable):
        super().__init__()
        self.weights = [compat.raw(variable) for variable in network.variables]
        images = [tf.TensorSpec([None, *network.image_shape], tf.float32, name="images")]

        @tf.function(input_signature=images)
        def serve(images: tf.Tensor) -> dict[str, tf.Tensor]:
            with forward_mode(batch_norm="running"):
                logits = network(images, training=False)
            return {"logits": logits, "probabilities": tf.nn.softmax(logits)}

        @tf.function(input_signature=images)
        def inner(images: tf.Tensor) -> dict[str, tf.Tensor]:
            if isinstance(network, ManifoldTransformation):
                return {"images": network.transform(images)}
            with forward_mode(batch_norm="running"):
                z = network.features(images, training=False)
            return {"features": tf.cast(z, tf.float32)}

        self.serve, self.inner = serve, inner
        self.second = "transform" if isinstance(network, ManifoldTransformation) else "features"
