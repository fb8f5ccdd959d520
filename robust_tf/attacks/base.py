"""What every attack is: a callable `attack(model, x, y) -> x_adv`, compiled once for a model."""

from __future__ import annotations

import types
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from robust_tf import compat
from robust_tf.models import forward

Network = Callable[[tf.Tensor], tf.Tensor]


class Attack:
    """Base of all attacks; a subclass is a frozen dataclass that defines `run`."""

    batch_norm: str = "running"

    def run(
        self, network: Network, x: tf.Tensor, y: tf.Tensor, seed: tf.Tensor, scale: tf.Tensor
    ) -> tf.Tensor:
        """The attack as graph code; `network` gives float32 logits (B, C)."""
        raise NotImplementedError

    def stages(self, num_classes: int) -> Iterator[tuple[Attack, int]]:
        """The attacks of which this one is the worst case, each with the offset of its labels.

        An evaluator runs them one after the other on the images still standing; stage (a, k) gets
        the labels (y + k) mod C.
        """
        yield self, 0

    def __call__(
        self,
        model: Callable[..., Any],
        x: Any,
        y: Any,
        *,
        seed: int | tf.Tensor = 0,
        scale: float | tf.Tensor = 1.0,
    ) -> tf.Tensor:
        """Adversarial images for `model`.

        Inside a `tf.function` this adds the attack to the graph. Called eagerly it checks the data,
        compiles the attack once for this model and shape of image, and runs it.

        Args:
          model: Keras model or any callable from images (B, H, W, C) to logits (B, C).
          x: float32 images in [0, 1].
          y: integer labels (B,), of the target class if the attack is targeted.
          seed: int, or int32 (2,); the same seed gives the same bits.
          scale: in [0, 1], multiplies eps and the step size (warm-up of a training attack).

        Returns:
          Images of the shape and dtype of x, inside the ball and [0, 1], without gradient.

        Raises:
          TypeError: images that are not float32, labels that are not integers.
          ValueError: images outside [0, 1], labels that are one-hot, outside 0..C-1 or not one for
            each image, a model whose output is not (B, C).
        """
        x, y = check_batch(x, y)
        seed = as_seed(seed)
        scale = tf.cast(scale, tf.float32)
        if tf.inside_function():
            return tf.stop_gradient(self.run(logits_of(model, self.batch_norm), x, y, seed, scale))
        num_classes, compiled = _compiled(self, model, x)
        check_values(x, y, num_classes)
        return tf.stop_gradient(compiled(x, y, seed, scale))

    def get_config(self) -> dict[str, Any]:
        """For Keras files and result files."""
        names = self.__dataclass_fields__  # type: ignore[attr-defined]
        return {name: compat.serialize(getattr(self, name)) for name in names}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Attack:
        """Inverse of `get_config`."""
        return cls(**{name: compat.deserialize(value) for name, value in config.items()})


def as_seed(seed: int | tf.Tensor) -> tf.Tensor:
    """int32 (2,) from an int or a tensor."""
    if isinstance(seed, int):
        return tf.constant([seed % (2**31), 0], tf.int32)
    return tf.ensure_shape(tf.cast(seed, tf.int32), [2])


def fold(seed: tf.Tensor, data: int | tf.Tensor) -> tf.Tensor:
    """A new seed from a seed and an integer."""
    return tf.random.experimental.stateless_fold_in(seed, data)


def logits_of(model: Callable[..., Any], batch_norm: str) -> Network:
    """`model` as a function from images to float32 logits, dropout off, in this mode."""
    arguments = {"training": False} if isinstance(model, keras.layers.Layer) else {}

    def network(x: tf.Tensor) -> tf.Tensor:
        with forward.forward_mode(batch_norm=batch_norm):
            return tf.cast(model(x, **arguments), tf.float32)

    return network


def check_batch(x: Any, y: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """Tensors of images and labels, after the checks that need no values."""
    x, y = tf.convert_to_tensor(x), tf.convert_to_tensor(y)
    if x.dtype != tf.float32:
        raise TypeError(
            f"images are {x.dtype.name}; attacks take float32 in [0, 1]: "
            "tf.cast(x, tf.float32), divided by 255 if the pixels are 0..255."
        )
    if x.shape.rank is None or x.shape.rank < 2:
        raise ValueError(f"images have shape {x.shape}; expected (batch, height, width, channels).")
    check_labels(y)
    if not x.shape[:1].is_compatible_with(y.shape):
        raise ValueError(f"{x.shape[0]} images but {y.shape[0]} labels; give one label each.")
    return x, tf.cast(y, tf.int32)


def check_labels(y: tf.Tensor) -> None:
    """Raises unless y are integer class ids of shape (B,)."""
    if y.shape.rank == 2 and y.shape[1] != 1:
        raise ValueError(
            f"labels have shape {y.shape}, which looks one-hot; give class ids of shape (batch,): "
            "tf.argmax(y, axis=1)."
        )
    if y.shape.rank != 1:
        raise ValueError(f"labels have shape {y.shape}; expected class ids of shape (batch,).")
    if not y.dtype.is_integer:
        raise TypeError(f"labels are {y.dtype.name}; expected integer class ids.")


def check_values(x: Any, y: Any, num_classes: int) -> None:
    """Raises ValueError unless images are in [0, 1] and labels in 0..num_classes-1."""
    x, y = np.asarray(x), np.asarray(y)
    if not x.size:
        return
    low, high = float(x.min()), float(x.max())
    if not (low >= 0 and high <= 1):
        hint = "divide by 255" if high > 2 else "clip or rescale them"
        raise ValueError(f"images range over [{low:g}, {high:g}]; expected [0, 1]: {hint}.")
    if y.min() < 0 or y.max() >= num_classes:
        raise ValueError(
            f"labels range over [{y.min()}, {y.max()}]; the model has {num_classes} classes, "
            f"so expected 0..{num_classes - 1}."
        )


def check_logits(logits: tf.Tensor) -> int:
    """The number of classes of a model's output; warns where it looks like probabilities."""
    if logits.shape.rank != 2:
        raise ValueError(
            f"the model returns shape {logits.shape}; expected logits (batch, classes)."
        )
    values = np.asarray(tf.cast(logits, tf.float32))
    if (
        len(values)
        and values.shape[1] > 1
        and (values >= 0).all()
        and np.allclose(values.sum(1), 1, atol=1e-2)
    ):
        warnings.warn(
            "the model returns probabilities, not logits: their gradients vanish where it is sure, "
            "so attacks are far too weak. Remove the softmax, or attack tf.math.log(model(x)).",
            stacklevel=4,
        )
    return int(values.shape[1])


# model -> {(function of it, attack, image shape): (number of classes, compiled attack)}
_CACHE: weakref.WeakKeyDictionary[Any, dict[Any, Any]] = weakref.WeakKeyDictionary()


def _compiled(attack: Attack, model: Any, x: tf.Tensor) -> tuple[int, Callable[..., tf.Tensor]]:
    """The attack as one graph for all batch sizes; lives as long as the model does."""
    method = isinstance(model, types.MethodType)
    owner, name = (model.__self__, model.__name__) if method else (model, "")
    traces = _CACHE.setdefault(owner, {})
    key = name, attack, tuple(x.shape[1:])
    if key not in traces:
        num_classes = check_logits(logits_of(model, "running")(x[:64]))
        # A strong reference from the graph to the model would keep both alive for ever.
        alive = weakref.WeakMethod(model) if method else weakref.ref(model)

        def run(x: tf.Tensor, y: tf.Tensor, seed: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
            network = logits_of(alive(), attack.batch_norm)  # type: ignore[arg-type]
            # Here too: under a caller's tape the graph of the gradient is not even built.
            return tf.stop_gradient(attack.run(network, x, y, seed, scale))

        signature = [
            tf.TensorSpec([None, *x.shape[1:]], tf.float32),
            tf.TensorSpec([None], tf.int32),
            tf.TensorSpec([2], tf.int32),
            tf.TensorSpec([], tf.float32),
        ]
        # A concrete function is called without TensorFlow's look-out for retraces, which takes many
        # attacks on one model for one that is traced again and again.
        traces[key] = num_classes, tf.function(run).get_concrete_function(*signature)
    return traces[key]
