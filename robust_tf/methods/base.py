"""What every training method shares: the step, its metrics, and evaluation under attack."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from robust_tf import argument_types, compat
from robust_tf.attacks import Attack
from robust_tf.attacks.randomness import fold
from robust_tf.methods.arguments import (
    check_attack,
    check_parts,
    check_soft_labels,
    check_weights,
    checked_network,
    gradient_steps,
    subclasses,
    turn_remat,
    unpack,
)
from robust_tf.methods.batch import (
    AdversarialBatch,
    Batch,
    Terms,
    forward_pair,
    step_seed,
)
from robust_tf.methods.execution import Execution
from robust_tf.methods.keras_model import KerasModel
from robust_tf.methods.reduction import Share
from robust_tf.methods.scoring import Scored
from robust_tf.methods.settings import CompileSettings
from robust_tf.methods.update import report, update
from robust_tf.models import Classifier


class RobustModel(KerasModel):
    """A network together with the way to train it: plain Keras to compile, fit, evaluate and save.

    A step makes adversarial images, forwards, sums the terms, applies the gradient, and takes the
    auxiliary step. A subclass says how it makes its images (`attack`, or `generate_adversarial`)
    and which terms it has (`terms`, each a function of no arguments that gives one value per
    example, with its weight in `weights`); where it needs them, how it forwards (`forward`) and
    what else learns (`auxiliary_optimizers`, `auxiliary_models`, `auxiliary_step`). What these
    methods hand on is a named tuple: `AdversarialBatch` and `Batch`, or one of the method's own.
    Terms of weight 0 are never built. Everything random is drawn from (seed, batch, replica).

    Sample weights (or class weights) multiply each example's value of every term, divided by the
    size of the global batch as in Keras; attacks and accuracies know none. The losses of the
    network's layers (regularizers, `add_loss`) are added once, those of the last training forward.

    Args:
      network: built Keras model of images float32 (B, H, W, C) in [0, 1]. A `SplitClassifier` is
        taken as it is; another one is cut before its last layer with weights, or taken whole where
        it cannot be cut (`models.as_classifier`). Its batch normalization and dropout are converted
        in place (`models.convert`).
      attack: training adversary, or None for a method that trains on clean images only.
      weights: weight of each term by name; weights of 0 are dropped.
      name: of the Keras model. Constructors take no `**kwargs`, so that gin knows a wrong name.
    """

    # Which forwards the terms need.
    needs_clean, needs_adv = True, True
    # Whether the attack or a term works on features: then the network must be one that is cut.
    needs_features = False
    # Whether training labels may also be distributions over the classes (B, C), as mixup makes
    # them: the loss is theirs, and accuracies go by the most probable class.
    takes_soft_labels = False
    # Whether `forward` or a term takes numbers of the whole batch, by `whole_batch.over_batch`.
    sees_batch = False
    # Whether it takes the gradient of a gradient of the network.
    second_order = False
    # Updates of the network that it makes on a batch, by which schedules count.
    updates_per_batch = 1
    # Terms beside the cross-entropies, whose weights rise over `term_warmup_steps`.
    warmup_terms: tuple[str, ...] = ()
    # The network of averaged weights, where `compile` was given a `weight_average`.
    averaged: Classifier | None = None

    def __init__(
        self,
        network: keras.Model,
        attack: Attack | None,
        weights: dict[str, float],
        name: str | None = None,
    ):
        owner = type(self).__name__
        network = checked_network(owner, network, self.needs_features)
        generates = type(self).generate_adversarial is not RobustModel.generate_adversarial
        if attack is not None or (self.needs_adv and not generates):
            check_attack(owner, attack)
        check_weights(owner, weights)
        term_weights = {name: float(value) for name, value in weights.items() if value}
        train_names = ["loss", *term_weights]
        train_names += ["natural_accuracy"] if self.needs_clean else []
        train_names += ["robust_accuracy"] if self.needs_adv else []
        super().__init__(train_names, network.image_shape, name)
        self.network, self.attack, self.term_weights = network, attack, term_weights

    @property
    def attack_steps(self) -> int:
        """Gradient steps of the attack that makes the training images; 0 for a method without one.

        Of an attack made of several, or that runs another one, the most steps of its parts;
        restarts are not counted. A method whose images come otherwise than from `attack` says its
        own number.
        """
        return gradient_steps(self.attack) if self.needs_adv and self.attack is not None else 0

    @property
    def passes_per_image(self) -> int:
        """Forwards and backwards of each image in a step, at least: the attack's, the updates'."""
        return 2 * self.attack_steps + 2 * self.updates_per_batch

    def set_attack(self, attack: Attack) -> None:
        """Another training attack of the same kind, for steps that are traced from now on."""
        self.attack = attack

    # ---- what a method defines -----------------------------------------------------------------

    def generate_adversarial(self, x: tf.Tensor, y: tf.Tensor, seed: Any, scale: Any) -> Any:
        """Adversarial images to train on; by default those of `attack` on the network.

        Returns:
          Images, or a named tuple with `x_adv` and whatever else `forward` and the terms need.
        """
        assert self.attack is not None  # the constructor saw to it
        return self.attack(self.network, x, y, seed=seed, scale=scale)

    def forward(self, x: tf.Tensor, y: tf.Tensor, adversarial: Any, seed: tf.Tensor) -> Any:
        """Clean and adversarial outputs: one forward pass, two where batches have statistics.

        Returns:
          `Batch`, or a named tuple of the method's own with `y`, `clean` and `adv`.
        """
        images = (x if self.needs_clean else None, adversarial.x_adv if self.needs_adv else None)
        return Batch(x, y, adversarial, *forward_pair(self.network, *images, seed), seed)

    def terms(self, batch: Any) -> Terms:
        """Each term by name, as a function that gives (B,) values, of what `forward` gave."""
        raise NotImplementedError

    def auxiliary_optimizers(self) -> dict[str, tuple[keras.optimizers.Optimizer, list[Any]]]:
        """Optimisers by name, each with the variables that it updates in `auxiliary_step`."""
        return {}

    def auxiliary_models(self) -> dict[str, keras.Model]:
        """Models beside the network that its use or evaluation needs, by the name of their file."""
        return {}

    def auxiliary_step(self, batch: Any) -> None:
        """Updates of the auxiliary optimisers, after the network's; by default there are none."""
        return  # AutoGraph warns of a function that is a docstring alone

    def check_soft_labels(self, why: str) -> None:
        """Raises ValueError unless it can train on distributions over the classes.

        Args:
          why: what makes them, 'Mixup()'.
        """
        check_soft_labels(self, why, subclasses(RobustModel))

    def of_a_part(self) -> str:
        """What goes by the other images of a part where gradients are accumulated; '' if nothing.

        A clause for a note. An image of a method that gives none, on a network without batch
        statistics, has the same loss in a part as in the whole batch.

        Raises:
          ValueError: it cannot train on parts.
        """
        return ""

    def diagnose(self, logs: dict[str, float]) -> list[str]:
        """What an epoch's means say is amiss, a sentence each; the trainer warns of them."""
        return []

    # ---- Keras ---------------------------------------------------------------------------------

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
          optimizer: Keras optimiser, or its name; one that scales losses is put around it where the
            network computes in float16.
          evaluation_attack: makes `evaluate` and validation report `robust_accuracy`; or None.
          weight_decay: w of the penalty w/2 ||W||^2 over kernels (no biases, no batch-norm
            parameters), >= 0.
          decay_all: the penalty is over all parameters, as in PyTorch's SGD.
          eps_warmup_steps: number of batches over which eps and step size of the training attack
            rise linearly to their values, >= 0.
          term_warmup_steps: number of batches over which the weights of the terms beside the
            cross-entropies rise linearly to their values, >= 0.
          weight_perturbation: `training.WeightPerturbation`, or None.
          weight_average: `training.WeightAverage`, whose network is then evaluated and saved.
          seed: of everything random in the step.
          **kwargs: `execution`, a `methods.Execution` (accumulation of gradients, XLA,
            rematerialization), and `run_eagerly`, `steps_per_execution`, `jit_compile` of Keras.

        Raises:
          ValueError: a negative number; `loss` or `metrics` given (they are the method's).
        """
        for name in ("loss", "metrics", "loss_weights", "weighted_metrics"):
            if kwargs.pop(name, None):
                owner = type(self).__name__
                raise ValueError(f"compile({name}=...): {owner} has its own loss and metrics.")
        decay, warmups = (weight_decay, decay_all), (eps_warmup_steps, term_warmup_steps)
        composed = (weight_perturbation, weight_average)
        execution = kwargs.pop("execution", None) or Execution()
        argument_types.check("compile", "execution", execution, Execution)
        settings = CompileSettings(
            evaluation_attack, *decay, *warmups, *composed, int(seed), execution
        )
        kwargs.setdefault("jit_compile", False)  # XLA's convolutions are slow on a CPU
        before = getattr(self, "optimizer", None)
        super().compile(optimizer=compat.loss_scaling(optimizer, self.network), **kwargs)
        if self.optimizer is not before:
            self.counters.batches.assign(-1)
        self.settings, self.averaged = settings, None
        if execution.accumulate > 1:
            check_parts(self)
        turn_remat(self)
        if weight_average is not None:
            self.averaged = compat.deserialize(compat.serialize(self.network))
            weight_average.begin(self.averaged, self.network)
        compat.build_optimizer(self.optimizer, self.network.trainable_variables)
        for auxiliary, variables in self.auxiliary_optimizers().values():
            compat.build_optimizer(auxiliary, variables)

    @property
    def final_network(self) -> Classifier:
        """What is evaluated and saved: the network, or that of its averaged weights."""
        return self.network if self.averaged is None else self.averaged

    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "network": compat.serialize(self.network),
            "attack": compat.serialize(self.attack),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> RobustModel:
        return cls(**{name: compat.deserialize(value) for name, value in config.items()})

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Logits float32 (B, C); with averaged weights where there are any and none is trained."""
        network = self.network if training else self.final_network
        return network(inputs, training=training)

    # ---- the step ------------------------------------------------------------------------------

    def counted(self, sizes: tf.Tensor) -> tf.Tensor:
        """Of float32 sizes of batches: on how many of their examples, the first, terms are."""
        return sizes

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """One step on a replica's share of the batch; running means of the epoch so far."""
        share = Share.of(*unpack(data, self.network, self.takes_soft_labels))
        x, y, batches = share.x, share.y, self.batches
        self.counters.batches.assign(batches)  # a number, before the optimizer's iterations move
        seed = step_seed(self.settings.seed, batches)
        with share.reduced(self.counted):
            scale = tf.convert_to_tensor(self.settings.eps_factor(batches))
            scored = self.learn(x, y, seed, scale)
            self.auxiliary_step(scored.batch)
            self.counters.batches.assign(batches + 1)
            average = self.settings.weight_average
            if average is not None:
                average.update(self.averaged, self.network, batches + 1)
            return report(self, scored)

    def learn(self, x: tf.Tensor, y: tf.Tensor, seed: tf.Tensor, scale: tf.Tensor) -> Scored:
        """Adversarial images of a batch, and the update of the network on them."""
        made: Any = AdversarialBatch(x)
        if self.needs_adv:

            def make(part: Any, share: Any) -> tuple[Any, list[Any]]:
                images, labels = part
                return self.generate_adversarial(images, labels, fold(seed, 0), scale), []

            made, _ = self.settings.execution.run(make, (x, y))
        adversarial = made if hasattr(made, "x_adv") else AdversarialBatch(made)
        return update(self, (x, y, adversarial), fold(seed, 1))
