"""What every attack is: a callable `attack(model, x, y) -> x_adv`, compiled once for a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import tensorflow as tf

from robust_tf import compat
from robust_tf.attacks.arguments import check_batch, check_values
from robust_tf.attacks.compiled import compiled, passes_of
from robust_tf.attacks.network import Network, logits_of
from robust_tf.attacks.randomness import as_seed


class Attack:
    """Base of all attacks; a subclass is a frozen dataclass that defines `run`."""

    batch_norm: str = "running"
    # Whether it does without the gradients of the model that it attacks.
    black_box: ClassVar[bool] = False
    # Whether it sees labels alone: then only those of the model in full precision will do, as
    # there is no margin that would tell rounding from a boundary.
    hard_labels: ClassVar[bool] = False

    def _put(self, **values: Any) -> None:
        """Sets fields of this frozen dataclass to what their checks gave back."""
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def run(
        self, network: Network, x: tf.Tensor, y: tf.Tensor, seed: tf.Tensor, scale: tf.Tensor
    ) -> tf.Tensor:
        """The attack as graph code; `network` gives float32 logits (B, C)."""
        raise NotImplementedError

    def stages(self) -> Iterator[tuple[str, Attack]]:
        """The attacks, by name, of which this one is the worst case.

        An evaluator runs them one after the other, each on the images still standing.
        """
        yield "", self

    def notes(self, num_classes: int) -> list[str]:
        """What the attack does otherwise than its source, for so many classes; for the result."""
        return []

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
          seed: int, int32 (2,), or int32 (B, 2) with one for each example, which makes an example's
            result independent of the others in its batch. The same seed gives the same bits.
          scale: in [0, 1], multiplies eps and the step size (warm-up of a training attack).

        Returns:
          Images of the shape and dtype of x, inside the ball and [0, 1], without gradient.

        Raises:
          TypeError: images that are not float32, labels that are not integers.
          ValueError: images outside [0, 1], labels that are one-hot, outside 0..C-1 or not one for
            each image, a model whose output is not (B, C).
        """
        return self.enter("run", model, x, y, seed, scale)

    def enter(
        self,
        method: str,
        model: Callable[..., Any],
        x: Any,
        y: Any,
        seed: int | tf.Tensor,
        scale: float | tf.Tensor,
    ) -> Any:
        """A call, for `run` or another method with the arguments of `run`: what it returns."""
        x, y = check_batch(x, y)
        seed, scale = as_seed(seed), tf.cast(scale, tf.float32)
        if tf.inside_function():
            network = logits_of(model, self.batch_norm)
            results = getattr(self, method)(network, x, y, seed, scale)
            return tf.nest.map_structure(tf.stop_gradient, results)
        graph = compiled(self, model, x, seed, method)
        check_values(x, y, graph.num_classes)
        return tf.nest.map_structure(tf.stop_gradient, graph.function(x, y, seed, scale))

    def passes(self, *models: Callable[..., Any]) -> tuple[int, int]:
        """Images that its eager calls have sent through these models: forwards, and backwards."""
        counts = [passes_of(self, model) for model in models]
        return sum(forwards for forwards, _ in counts), sum(gradients for _, gradients in counts)

    def get_config(self) -> dict[str, Any]:
        """For Keras files and result files."""
        names = [field.name for field in dataclasses.fields(self)]  # type: ignore[arg-type]
        return {name: compat.serialize(getattr(self, name)) for name in names}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Attack:
        """Inverse of `get_config`."""
        return cls(**{name: compat.deserialize(value) for name, value in config.items()})
