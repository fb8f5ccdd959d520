"""What every training method shares: the step, its metrics, and evaluation under attack."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from robust_tf import compat, losses
from robust_tf.attacks import Attack
from robust_tf.attacks.randomness import fold
from robust_tf.methods.batch import AdversarialBatch, Batch, Terms, correct, unpack
from robust_tf.methods.compiled import Compiled
from robust_tf.models import Outputs, SplitClassifier, forward_mode


class Scored(NamedTuple):
    """A batch with its loss on this replica, the values of its terms, and the gradients."""

    batch: Batch
    loss: tf.Tensor
    values: dict[str, tf.Tensor]
    gradients: list[tf.Tensor]


class RobustModel(Compiled):
    """A network together with the way to train it: plain Keras to compile, fit, evaluate and save.

    A step makes adversarial images, forwards, sums the terms, applies the gradient, and takes the
    auxiliary step. A subclass says how it makes its images (`attack`, or `generate_adversarial`)
    and which terms it has (`terms`, each a function of no arguments that gives one value per
    example, with its weight in `weights`);
    where it needs them, how it forwards (`forward`) and what else learns (`auxiliary_optimizers`,
    `auxiliary_models`, `auxiliary_step`).
    Terms of weight 0 are never built. Everything random is drawn from (seed, step, replica).

    Args:
      network: `SplitClassifier`.
      attack: training adversary, or None for a method that trains on clean images only.
      weights: weight of each term by name; weights of 0 are dropped.
      name: of the Keras model. Constructors take no `**kwargs`, so that gin knows a wrong name.
    """

    # Which forwards the terms need.
    needs_clean, needs_adv = True, True
    # Terms beside the cross-entropies, which `term_warmup_steps` lets in slowly.
    warmup_terms: tuple[str, ...] = ()

    def __init__(
        self,
        network: SplitClassifier,
        attack: Attack | None,
        weights: dict[str, float],
        name: str | None = None,
    ):
        super().__init__(name=name)
        if not isinstance(network, SplitClassifier):
            raise TypeError(
                f"{type(self).__name__}: network is {type(network).__name__}; expected a "
                "SplitClassifier, e.g. models.CNN(...), or SplitClassifier(generator, classifier)."
            )
        if (
            self.needs_adv
            and attack is None
            and type(self).generate_adversarial is RobustModel.generate_adversarial
        ):
            raise ValueError(
                f"{type(self).__name__}(attack=None): give the training adversary, e.g. "
                "attacks.PGD(eps=0.3, step_size=0.01, steps=40), or train with Standard."
            )
        if getattr(getattr(attack, "objective", None), "targeted", False):
            raise ValueError(
                f"{type(self).__name__}(attack={attack!r}): it is targeted, and training gives no "
                "classes to aim at; give it with targeted=False."
            )
        for term, weight in weights.items():
            if not 0 <= weight < float("inf"):
                raise ValueError(
                    f"{type(self).__name__}({term}={weight!r}): weights must be finite and >= 0."
                )
        self.network = network
        self.attack = attack
        self.term_weights = {name: float(value) for name, value in weights.items() if value}
        self.train_names = ["loss", *self.term_weights]
        self.train_names += ["natural_accuracy"] if self.needs_clean else []
        self.train_names += ["robust_accuracy"] if self.needs_adv else []
        # Built here: Keras 3 cannot create variables once a replica context is entered.
        names = dict.fromkeys([*self.train_names, "natural_accuracy", "robust_accuracy"])
        self.step_metrics = {name: keras.metrics.Mean(name) for name in names}
        self.built = True

    def build(self, input_shape: Any = None) -> None:
        """Nothing to do: the network comes built."""
        self.built = True

    # ---- what a method defines -----------------------------------------------------------------

    def generate_adversarial(
        self, x: tf.Tensor, y: tf.Tensor, seed: tf.Tensor, scale: tf.Tensor
    ) -> tf.Tensor | AdversarialBatch:
        """Adversarial images to train on; by default `attack` on the network."""
        assert self.attack is not None  # the constructor saw to it
        return self.attack(self.network, x, y, seed=seed, scale=scale)

    def forward(
        self, x: tf.Tensor, y: tf.Tensor, adversarial: AdversarialBatch, seed: tf.Tensor
    ) -> Batch:
        """Clean and adversarial outputs: one forward pass, two where batches have statistics."""
        x_adv, extra = adversarial
        with forward_mode(seed=fold(seed, 0)):
            if self.needs_clean and self.needs_adv and not self.network.has_batch_norm:
                both = self.network.forward(tf.concat([x, x_adv], 0), training=True)
                halves = [tf.split(part, 2) for part in both]
                first, second = (Outputs(*[half[k] for half in halves]) for k in (0, 1))
                return Batch(x, y, x_adv, first, second, seed, extra)
            clean = self.network.forward(x, training=True) if self.needs_clean else None
        with forward_mode(seed=fold(seed, 1)):
            adv = self.network.forward(x_adv, training=True) if self.needs_adv else None
        return Batch(x, y, x_adv, clean, adv, seed, extra)

    def terms(self, batch: Batch) -> Terms:
        """Each term by name, as a function that gives (B,) values."""
        raise NotImplementedError

    def auxiliary_step(self, batch: Batch) -> None:
        """The moves of the other players, after the network's; by default there are none."""
        return  # AutoGraph warns of a function that is a docstring alone

    # ---- Keras ---------------------------------------------------------------------------------

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

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """Reset by Keras at the start of each epoch and of each evaluation."""
        return list(self.step_metrics.values())

    # ---- the step ------------------------------------------------------------------------------

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Crafts, scores, reduces, applies, reports; for one replica's share of the batch."""
        x, y = unpack(data, self.network.num_classes)
        seed = self._step_seed()
        adversarial = AdversarialBatch(x)
        if self.needs_adv:
            scale = tf.convert_to_tensor(self.warmup_factor(self.eps_warmup_steps))
            made = self.generate_adversarial(x, y, fold(seed, 0), scale)
            adversarial = made if isinstance(made, AdversarialBatch) else AdversarialBatch(made)

        def score(decay: bool = True) -> Scored:
            return self._score(x, y, adversarial, fold(seed, 1), decay)

        perturbation = self.weight_perturbation
        scored = score() if perturbation is None else perturbation(self, score)
        self.optimizer.apply_gradients(
            zip(scored.gradients, self.network.trainable_variables, strict=True)
        )
        self.auxiliary_step(scored.batch)
        if self.weight_average is not None:
            self.weight_average.update(self.averaged, self.network, self.optimizer.iterations)
        return self._report(scored)

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Natural cross-entropy and accuracy; robust accuracy where an evaluation attack is set."""
        network = self.final_network
        x, y = unpack(data, network.num_classes)
        logits = network(x, training=False)
        self.step_metrics["loss"].update_state(losses.cross_entropy(logits, y))
        natural = correct(logits, y)
        self.step_metrics["natural_accuracy"].update_state(natural)
        if self.evaluation_attack is not None:
            x_adv = self.evaluation_attack(network, x, y, seed=self.seed)
            robust = natural * correct(network(x_adv, training=False), y)
            self.step_metrics["robust_accuracy"].update_state(robust)
        names = ["loss", "natural_accuracy"] + ["robust_accuracy"] * bool(self.evaluation_attack)
        return {name: self.step_metrics[name].result() for name in names}

    def _score(
        self,
        x: tf.Tensor,
        y: tf.Tensor,
        adversarial: AdversarialBatch,
        seed: tf.Tensor,
        decay: bool,
    ) -> Scored:
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        variables = [compat.raw(v) for v in self.network.trainable_variables]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            for variable in variables:
                tape.watch(variable)
            batch = self.forward(x, y, adversarial, seed)
            terms = self.terms(batch)
            values = {name: terms[name]() for name in self.term_weights}
            # The mean over the global batch: replicas hold equal shares, gradients are summed.
            weights = self._weights_now()
            loss = sum(weights[name] * tf.reduce_mean(values[name]) for name in values)
            if decay:
                loss += self.penalty()
            replica_loss = loss / replicas
        return Scored(batch, loss, values, tape.gradient(replica_loss, variables))

    def _report(self, scored: Scored) -> dict[str, tf.Tensor]:
        batch = scored.batch
        self.step_metrics["loss"].update_state(scored.loss)
        for name, value in scored.values.items():
            self.step_metrics[name].update_state(value)
        for name, outputs in (("natural_accuracy", batch.clean), ("robust_accuracy", batch.adv)):
            if outputs is not None:
                self.step_metrics[name].update_state(correct(outputs.logits, batch.y))
        return {name: self.step_metrics[name].result() for name in self.train_names}

    def _step_seed(self) -> tf.Tensor:
        """int32 (2,) of (seed, step), folded with the replica."""
        seed = tf.stack(
            [tf.constant(self.seed % 2**31), tf.cast(self.optimizer.iterations, tf.int32)]
        )
        context = tf.distribute.get_replica_context()
        return fold(seed, context.replica_id_in_sync_group if context else 0)

    def _weights_now(self) -> dict[str, Any]:
        """Weight of each term at this step."""
        warmup_factor = self.warmup_factor(self.term_warmup_steps)
        return {
            name: weight * warmup_factor if name in self.warmup_terms else weight
            for name, weight in self.term_weights.items()
        }
