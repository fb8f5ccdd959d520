"""Transfer: adversarial images made on one network, shown to another."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from typing import Any, ClassVar

import keras
import tensorflow as tf

from robust_tf import compat, registration
from robust_tf.attacks.base import Attack, Number
from robust_tf.attacks.network import Network
from robust_tf.attacks.threat import Budget
from robust_tf.attacks.wrapped import WrappedAttack


@registration.configurable
@registration.serializable
@dataclasses.dataclass(frozen=True)
class Transfer(WrappedAttack):
    """Runs `attack` on `source` and gives the images to whatever model is attacked.

    A black-box attack: neither gradients nor scores of the model attacked are used, so that a
    defense cannot hide from it by masking them. It costs what `attack` costs, on `source`, where
    `passes` counts it; one graph serves all models attacked.

    Black-box protocol of the ATLD paper (tables 3 and 6): FGSM, PGD-20 and CW-20 of eps 8 / 255
    on sources trained without defence, by PGD, by Feature Scattering and by ATLD, each against
    every defence:

        Transfer(PGD(eps=8 / 255, step_size=2 / 255, steps=20), source)

    Attacks such as APGD, FAB and Square leave an example as soon as the source is wrong about it,
    barely across the source's boundary; those that go on, such as PGD, transfer better.

    Args:
      attack: any attack; its ball is this one's, and its mode of batch normalization, which
        concerns the source.
      source: Keras model or any callable from images (B, H, W, C) to logits, of the same classes as
        the model attacked. Two Transfers are equal if their sources are one object.

    A config holds that of the source: the architecture of a Keras model, not its weights, the path
    of an `evaluation.sources.SourceModel`. Of a source without one it says which it was.

    Attributes:
      judged_alone: an evaluation also says which of the images that it returns are classified
        correctly, whatever the model says of the clean ones: so the papers count.
    """

    attack: Attack
    source: Callable[..., Any]
    black_box: ClassVar[bool] = True
    judged_alone: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not isinstance(self.attack, Attack):
            raise ValueError(
                f"attack={self.attack!r}: must be an attack, such as PGD(eps, step_size, steps)."
            )
        if not callable(self.source):
            raise ValueError(
                f"source={self.source!r}: must be a Keras model or a callable from images to "
                "logits; load a file first, by keras.saving.load_model(path)."
            )

    def __call__(
        self,
        model: Callable[..., Any],
        x: Any,
        y: Any,
        *,
        eps: Number | None = None,
        step_size: Number | None = None,
        seed: int | tf.Tensor = 0,
        scale: Number = 1.0,
    ) -> tf.Tensor:
        """As any attack's; `model` is not looked at."""
        options: dict[str, Any] = {"eps": eps, "step_size": step_size}
        return self.attack(self.source, x, y, seed=seed, scale=scale, **options)

    def passes(self, *models: Callable[..., Any]) -> tuple[int, int]:
        """Those of the attack on the source, whatever the models."""
        return self.attack.passes(self.source)

    def run(
        self, network: Network, x: tf.Tensor, y: tf.Tensor, seed: tf.Tensor, budget: Budget
    ) -> tf.Tensor:
        return self.attack.run(self.attack.network_of(self.source), x, y, seed, budget)

    def models(self, model: Callable[..., Any]) -> list[Callable[..., Any]]:
        return [model, self.source]

    def check_access(self, model: Callable[..., Any]) -> None:
        self.attack.check_access(self.source)

    def get_config(self) -> dict[str, Any]:
        """For result files: of a source that has no configuration, a sentence that names it."""
        if hasattr(self.source, "get_config"):
            source = compat.serialize(self.source)
        else:
            name = getattr(self.source, "__qualname__", type(self.source).__qualname__)
            source = f"{self.source.__module__}.{name}, which cannot be stored"
        return {"attack": compat.serialize(self.attack), "source": source}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Transfer:
        """The attack at a source of the same configuration: a Keras model without its weights.

        Raises:
          ValueError: the source had none.
        """
        source = compat.deserialize(config["source"])
        if isinstance(source, str):
            raise ValueError(
                f"Transfer: its source was {source}; build it again: Transfer(attack, source)."
            )
        if isinstance(source, keras.layers.Layer):
            warnings.warn(
                f"Transfer: its source {source.name!r} has fresh weights, since a config holds "
                "none; load them before use.",
                stacklevel=2,
            )
        return cls(compat.deserialize(config["attack"]), source)
