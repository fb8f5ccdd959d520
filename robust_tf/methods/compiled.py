"""How a model is trained: its optimiser, its warm-ups, and what is composed with its method."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from robust_tf import compat
from robust_tf.attacks import Attack
from robust_tf.models import SplitClassifier


class Compiled(keras.Model):
    """The part of a method that `compile` sets, and that `.keras` files carry."""

    network: SplitClassifier
    # The network of averaged weights, where `compile` was given a `weight_average`.
    averaged: SplitClassifier | None = None
    evaluation_attack: Attack | None = None
    weight_perturbation: Any = None
    weight_average: Any = None
    weight_decay: float = 0.0
    decay_all: bool = False
    eps_warmup_steps: int = 0
    term_warmup_steps: int = 0
    seed: int = 0

    def compile(
        self,
        optimizer: Any = "sgd",
        evaluation_attack: Attack | None = None,
        weight_decay: float = 0.0,
        decay_all: bool = False,
        eps_warmup_steps: int = 0,
        term_warmup_steps: int = 0,
        weight_perturbation: Any = None,
        weight_average: Any = None,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        """Sets how the model is trained and evaluated.

        Args:
          optimizer: Keras optimiser, or its name.
          evaluation_attack: makes `evaluate` and validation report `robust_accuracy`.
          weight_decay: w of the penalty w/2 ||W||^2 over kernels (no biases, no batch-norm
            parameters), >= 0.
          decay_all: the penalty is over all parameters of the network, as in PyTorch's SGD.
          eps_warmup_steps: number of steps over which eps and step size of the training attack rise
            linearly to their values, >= 0.
          term_warmup_steps: number of steps over which the weights of the terms beside the
            cross-entropies rise linearly to their values, >= 0.
          weight_perturbation: `training.WeightPerturbation`, which takes each gradient at weights
            that an adversary has moved; or None.
          weight_average: `training.WeightAverage`, whose network is the one that is evaluated and
            saved; or None.
          seed: of everything random in the step.
          **kwargs: `run_eagerly`, `steps_per_execution`, `jit_compile` of Keras.

        Raises:
          ValueError: a negative number; `loss` or `metrics` given (they are the method's).
        """
        for name in ("loss", "metrics", "loss_weights", "weighted_metrics"):
            if kwargs.pop(name, None):
                raise ValueError(
                    f"compile({name}=...): {type(self).__name__} has its own loss and metrics."
                )
        if not weight_decay >= 0:
            raise ValueError(f"weight_decay={weight_decay!r}: must be >= 0.")
        warmups = {"eps_warmup_steps": eps_warmup_steps, "term_warmup_steps": term_warmup_steps}
        for name, steps in warmups.items():
            if not steps >= 0:
                raise ValueError(f"{name}={steps!r}: must be >= 0.")
        kwargs.setdefault("jit_compile", False)  # XLA's convolutions are slow on a CPU
        super().compile(optimizer=optimizer, **kwargs)
        self.evaluation_attack = evaluation_attack
        self.weight_decay, self.seed = float(weight_decay), int(seed)
        self.decay_all = bool(decay_all)
        self.eps_warmup_steps = int(eps_warmup_steps)
        self.term_warmup_steps = int(term_warmup_steps)
        self.weight_perturbation, self.weight_average = weight_perturbation, weight_average
        self.averaged = None
        if weight_average is not None:
            self.averaged = compat.deserialize(compat.serialize(self.network))
            weight_average.begin(self.averaged, self.network)
        compat.build_optimizer(self.optimizer, self.network.trainable_variables)
        for optimizer, variables in self.auxiliary_optimizers().values():
            compat.build_optimizer(optimizer, variables)

    def auxiliary_optimizers(self) -> dict[str, tuple[keras.optimizers.Optimizer, list[Any]]]:
        """Other players by name: an optimiser each, and the variables that it moves.

        Their moves are made by `play`. What belongs to them is saved with the model.
        """
        return {}

    def auxiliary_models(self) -> dict[str, keras.Model]:
        """Models beside the network that its use or evaluation needs, by the name of their file."""
        return {}

    @property
    def final_network(self) -> SplitClassifier:
        """What is evaluated and saved: the network, or that of its averaged weights."""
        return self.network if self.averaged is None else self.averaged

    def get_compile_config(self) -> dict[str, Any]:
        """The arguments of `compile`, for `.keras` files."""
        if getattr(self, "optimizer", None) is None:
            return {}
        return {
            "optimizer": compat.serialize(self.optimizer),
            "evaluation_attack": compat.serialize(self.evaluation_attack),
            "weight_decay": self.weight_decay,
            "decay_all": self.decay_all,
            "eps_warmup_steps": self.eps_warmup_steps,
            "term_warmup_steps": self.term_warmup_steps,
            "weight_perturbation": compat.serialize(self.weight_perturbation),
            "weight_average": compat.serialize(self.weight_average),
            "seed": self.seed,
        }

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Inverse of `get_compile_config`."""
        if config:
            self.compile(**{name: compat.deserialize(value) for name, value in config.items()})

    def warmup_factor(self, steps: int) -> tf.Tensor | float:
        """How far a warm-up over so many steps has come, in (0, 1]."""
        if not steps:
            return 1.0
        return tf.minimum((tf.cast(self.optimizer.iterations, tf.float32) + 1) / steps, 1.0)

    def penalty(self) -> tf.Tensor | float:
        """w/2 ||W||^2 over the kernels of the network, or all its parameters."""
        if not self.weight_decay:
            return 0.0
        variables = self.network.trainable_variables
        if not self.decay_all:
            variables = [v for v in variables if v.name.split(":")[0].endswith("kernel")]
        return self.weight_decay * tf.add_n([tf.nn.l2_loss(compat.raw(v)) for v in variables])
