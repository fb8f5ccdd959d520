"""Inference with manifold transformation (IMT and IMT+): a step towards what looks natural."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from robust_tf import compat, registration
from robust_tf.attacks.active_set import per_image
from robust_tf.attacks.network import finite
from robust_tf.models import forward_mode

GATE = (0.3, 0.7)  # of IMT+
DISC_INPUTS = ("logits", "features")


@registration.configurable
@registration.serializable
class ManifoldTransformation(keras.Model):
    """A classifier that moves each image towards the natural ones first: f(T(u)).

        T(u) = clip(u + delta * sign(grad_u log D0(f(u))), 0, 1)

    D0 is the discriminator's probability that an input is natural. The sign is taken of the
    gradient of D0's logit: it is the same, and does not fade where D0 is sure. Labels play no part,
    and no example sees another: network and discriminator run as at inference, whatever
    `training` says. A prediction costs two forwards and one input gradient of the network, one of
    each of the discriminator.

    Its own gradient is the exact one, that of f at T(u), 0 for pixels that the clip has cut: the
    sign is constant almost everywhere. To be robust to attacks on f alone proves nothing; see
    `evaluation.adaptive_attacks`.

    Args:
      network: Keras model, images float32 (B, ...) in [0, 1] to logits (B, C); for
        disc_input='features' one with `forward`, such as a `SplitClassifier`.
      discriminator: Keras model such as `models.Discriminator`, which returns an object with
        `natural`, (B,) logits.
      delta: > 0, how far a pixel is moved, in units of [0, 1]; the paper takes the eps of the
        attacks.
      gate: (low, high), 0 <= low < high <= 1: where low < D0(f(u)) < high, `gated_delta` counts.
        None is IMT; (0.3, 0.7) is IMT+.
      gated_delta: in [0, delta]; None: delta / 2. Only beside a gate.
      disc_input: what the discriminator takes, 'logits' or 'features' of the network.

    Raises:
      TypeError: a network or discriminator that is not a Keras model.
      ValueError: an argument outside its range, a discriminator that does not fit.

    Source: ATLD paper, section on inference with manifold transformation, and its released program,
    whose four steps of 2 / 255 are delta = 8 / 255. Where paper and program differ, the gate is
    (0.3, 0.7) for all data, as in the paper, and delta is the whole step in FGSM's tests, too.
    """

    def __init__(
        self,
        network: keras.Model,
        discriminator: keras.Model,
        delta: float = 8 / 255,
        gate: Sequence[float] | None = None,
        gated_delta: float | None = None,
        disc_input: str = "logits",
        name: str | None = None,
    ):
        # Whatever the global policy, images are not rounded before they are moved.
        super().__init__(name=name, dtype="float32")
        for part, what in ((network, "network"), (discriminator, "discriminator")):
            if not isinstance(part, keras.Model):
                raise TypeError(
                    f"{what} is {type(part).__name__}; expected a Keras model, e.g. that of "
                    "runs.load_inference(run_dir)."
                )
        _check(delta, gate, gated_delta, disc_input)
        if disc_input == "features" and not hasattr(network, "forward"):
            raise ValueError(
                f"disc_input='features': {type(network).__name__} has no `forward` that gives "
                "them; give a SplitClassifier, or disc_input='logits'."
            )
        self.network, self.discriminator = network, discriminator
        self.delta, self.disc_input = float(delta), disc_input
        self.gate = None if gate is None else (float(gate[0]), float(gate[1]))
        self.gated_delta = self.delta / 2 if gated_delta is None else float(gated_delta)
        self.built = True
        self._check_fit()

    def build(self, input_shape: Any = None) -> None:
        """Nothing to do: both parts come built."""
        self.built = True

    @property
    def image_shape(self) -> tuple[int | None, ...]:
        """Shape of one image."""
        shape = getattr(self.network, "image_shape", None)
        return tuple(self.network.input_shape[1:] if shape is None else shape)

    def compile(self, *args: Any, jit_compile: bool = False, **kwargs: Any) -> None:
        """As in Keras, without XLA by default: on a CPU its convolutions are several times slower.

        It is for `evaluate`; the parts are trained by `methods.ATLD`.
        """
        super().compile(*args, jit_compile=jit_compile, **kwargs)

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Logits float32 (B, C) of the transformed images."""
        moved = _filled(self.transform(inputs))
        with forward_mode(batch_norm="running"):
            logits = tf.cast(self.network(moved, training=False), tf.float32)
        return logits[: tf.shape(inputs)[0]]

    def transform(self, u: tf.Tensor) -> tf.Tensor:
        """T(u), images float32 in [0, 1]; its gradient is 1, or 0 where the clip has cut."""
        u = tf.convert_to_tensor(u)
        gradient, reach = self._look(u)
        return tf.clip_by_value(u + tf.stop_gradient(reach * tf.sign(gradient)), 0.0, 1.0)

    def smooth_transform(self, u: tf.Tensor, tau: float) -> tf.Tensor:
        """T(u) with tanh(v / (tau * mean |v|)) for sign(v), differentiable through v.

        The mean is that of one image. The gradient is a double backward pass. In a network of ReLUs
        v is constant almost everywhere, but for a factor that cancels: this then has the gradient
        of `transform`.

        Args:
          u: images float32 (B, ...) in [0, 1].
          tau: > 0; the lower the nearer to the sign.
        """
        if not tau > 0:
            raise ValueError(f"tau={tau!r}: must be > 0, such as 1 or 0.1.")
        u = tf.convert_to_tensor(u)
        gradient, reach = self._look(u)
        axes = list(range(1, gradient.shape.rank))
        mean = tf.reduce_mean(tf.abs(gradient), axis=axes, keepdims=True)
        return tf.clip_by_value(
            u + reach * tf.tanh(tf.math.divide_no_nan(gradient, tau * mean)), 0.0, 1.0
        )

    def natural_probability(self, u: tf.Tensor) -> tf.Tensor:
        """D0(f(u)) float32 (B,): how likely the discriminator thinks each image is natural."""
        return tf.sigmoid(self.natural_logits(u))

    def natural_logits(self, u: tf.Tensor) -> tf.Tensor:
        """The log-odds of `natural_probability`, float32 (B,)."""
        u = tf.convert_to_tensor(u)
        with forward_mode(batch_norm="running"):
            filled = _filled(u)
            if self.disc_input == "features":
                z = self.network.forward(filled, training=False).features
            else:
                z = tf.cast(self.network(filled, training=False), tf.float32)
            natural = self.discriminator(z, training=False).natural
        return tf.cast(natural, tf.float32)[: tf.shape(u)[0]]

    def get_config(self) -> dict[str, Any]:
        """Both parts, and the arguments."""
        return {
            "name": self.name,
            "network": compat.serialize(self.network),
            "discriminator": compat.serialize(self.discriminator),
            "delta": self.delta,
            "gate": None if self.gate is None else list(self.gate),
            "gated_delta": None if self.gate is None else self.gated_delta,
            "disc_input": self.disc_input,
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: Any = None
    ) -> ManifoldTransformation:
        """Inverse of `get_config`."""
        parts = {key: compat.deserialize(config[key]) for key in ("network", "discriminator")}
        return cls(**{**config, **parts})

    def _look(self, u: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The gradient of D0's logit at u, and how far each image may go (B, 1, ...)."""
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(u)
            natural = self.natural_logits(u)
        gradient = finite(tape.gradient(natural, u, unconnected_gradients="zero"))
        reach = tf.fill(tf.shape(natural), self.delta)
        if self.gate is not None:
            probability = tf.sigmoid(natural)
            unsure = tf.logical_and(probability > self.gate[0], probability < self.gate[1])
            reach = tf.where(unsure, self.gated_delta, reach)
        return gradient, per_image(reach, u)

    def _check_fit(self) -> None:
        """Traces the way to D0, so that a discriminator of another width fails here."""
        try:
            images = tf.TensorSpec([None, *self.image_shape], tf.float32)
        except (AttributeError, TypeError) as error:
            raise ValueError(
                "the network does not say which images it takes; build it on a keras.Input."
            ) from error
        try:
            natural = tf.function(self.natural_logits).get_concrete_function(images)
            rank = natural.output_shapes.rank
        except Exception as error:  # Keras raises of every kind
            line = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ValueError(
                f"the discriminator does not take the network's {self.disc_input}: {line} Give the "
                "one that was trained with this network, and its disc_input "
                f"({' or '.join(map(repr, DISC_INPUTS))})."
            ) from error
        if rank != 1:
            raise ValueError(
                f"the discriminator's `natural` has rank {rank}; expected one logit for each image."
            )


def _filled(images: tf.Tensor) -> tf.Tensor:
    """The images, or one black image where there is none: TensorFlow's convolutions need one."""
    if images.shape[0]:
        return images
    missing = tf.cast(tf.equal(tf.shape(images)[:1], 0), tf.int32)
    black = tf.zeros(tf.concat([missing, tf.shape(images)[1:]], 0), images.dtype)
    return tf.ensure_shape(tf.concat([images, black], 0), [None, *images.shape[1:]])


def _check(delta: Any, gate: Any, gated_delta: Any, disc_input: Any) -> None:
    """Raises ValueError for an argument of `ManifoldTransformation` outside its range."""
    if not 0 < delta < float("inf"):
        raise ValueError(f"delta={delta!r}: must be > 0, in units of [0, 1]; the paper's is 8/255.")
    if gate is not None:
        pair = isinstance(gate, (tuple, list)) and len(gate) == 2
        if not pair or not 0 <= gate[0] < gate[1] <= 1:
            raise ValueError(
                f"gate={gate!r}: must be (low, high) with 0 <= low < high <= 1, such as {GATE}; "
                "None is IMT without a gate."
            )
    if gated_delta is not None and gate is None:
        raise ValueError(
            f"gated_delta={gated_delta!r} without a gate: give gate={GATE}, or leave it out."
        )
    if gated_delta is not None and not 0 <= gated_delta <= delta:
        raise ValueError(f"gated_delta={gated_delta!r}: must be in [0, delta={delta!r}].")
    if disc_input not in DISC_INPUTS:
        raise ValueError(f"disc_input={disc_input!r}: must be 'logits' or 'features'.")
