"""What every training method shares: the step, its metrics, and evaluation under attack."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from robust_tf import compat, losses
from robust_tf.attacks import Attack
from robust_tf.attacks.arguments import check_labels
from robust_tf.attacks.randomness import fold
from robust_tf.models import Outputs, SplitClassifier, forward_mode

Terms = dict[str, Callable[[], tf.Tensor]]


class Batch(NamedTuple):
    """What a method's terms are made of, for one replica.

    x, x_adv: float32 images (B, H, W, C); y: int32 (B,); clean, adv: logits and features of both
    in training mode, None where the method says that it does not need them (`needs_clean`,
    `needs_adv`); seed: int32 (2,), of this step and replica.
    """

    x: tf.Tensor
    y: tf.Tensor
    x_adv: tf.Tensor
    clean: Any
    adv: Any
    seed: tf.Tensor


class RobustModel(keras.Model):
    """A network together with the way to train it: plain Keras to compile, fit, evaluate and save.

    A subclass says how it crafts (`attack`, or its own `craft`) and which terms it has (`terms`,
    each a function of no arguments that gives one value per example, with its weight in `weights`).
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
    warmed_terms: tuple[str, ...] = ()

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
        if self.needs_adv and attack is None and type(self).craft is RobustModel.craft:
            raise ValueError(
                f"{type(self).__name__}(attack=None): give the training adversary, e.g. "
                "attacks.PGD(eps=0.3, step_size=0.01, steps=40), or train with Standard."
            )
        for term, weight in weights.items():
            if not 0 <= weight < float("inf"):
                raise ValueError(
                    f"{type(self).__name__}({term}={weight!r}): weights must be finite and >= 0."
                )
        self.network = network
        self.attack = attack
        self.evaluation_attack: Attack | None = None
        self.weight_decay, self.seed = 0.0, 0
        self.eps_warmup_steps, self.term_warmup_steps = 0, 0
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

    def craft(self, x: tf.Tensor, y: tf.Tensor, seed: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
        """Adversarial images to train on; by default `attack` on the network."""
        assert self.attack is not None  # the constructor saw to it
        return self.attack(self.network, x, y, seed=seed, scale=scale)

    def terms(self, batch: Batch) -> Terms:
        """Each term by name, as a function that gives (B,) values."""
        raise NotImplementedError

    # ---- Keras ---------------------------------------------------------------------------------

    def compile(
        self,
        optimizer: Any = "sgd",
        evaluation_attack: Attack | None = None,
        weight_decay: float = 0.0,
        eps_warmup_steps: int = 0,
        term_warmup_steps: int = 0,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        """Sets how the model is trained and evaluated.

        Args:
          optimizer: Keras optimiser, or its name.
          evaluation_attack: makes `evaluate` and validation report `robust_accuracy`.
          weight_decay: w of the penalty w/2 ||W||^2 over kernels (no biases, no batch-norm
            parameters), >= 0.
          eps_warmup_steps: number of steps over which eps and step size of the training attack rise
            linearly to their values, >= 0.
          term_warmup_steps: number of steps over which the weights of the terms beside the
            cross-entropies rise linearly to their values, >= 0.
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
        self.weight_decay = float(weight_decay)
        self.eps_warmup_steps, self.term_warmup_steps = (
            int(eps_warmup_steps),
            int(term_warmup_steps),
        )
        self.seed = int(seed)
        compat.build_optimizer(self.optimizer, self.trainable_variables)

    def get_compile_config(self) -> dict[str, Any]:
        """The arguments of `compile`, for `.keras` files."""
        if getattr(self, "optimizer", None) is None:
            return {}
        return {
            "optimizer": compat.serialize(self.optimizer),
            "evaluation_attack": compat.serialize(self.evaluation_attack),
            "weight_decay": self.weight_decay,
            "eps_warmup_steps": self.eps_warmup_steps,
            "term_warmup_steps": self.term_warmup_steps,
            "seed": self.seed,
        }

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Inverse of `get_compile_config`."""
        if config:
            self.compile(**{name: compat.deserialize(value) for name, value in config.items()})

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
        """Logits float32 (B, C)."""
        return self.network(inputs, training=training)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """Reset by Keras at the start of each epoch and of each evaluation."""
        return list(self.step_metrics.values())

    # ---- the step ------------------------------------------------------------------------------

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Crafts, scores, reduces, applies, reports; for one replica's share of the batch."""
        x, y = self._unpack(data)
        seed = self._step_seed()
        x_adv = self._adversarial(x, y, fold(seed, 0)) if self.needs_adv else x
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        variables = self.trainable_variables
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            for variable in variables:
                tape.watch(compat.raw(variable))
            batch = self._forward(x, y, x_adv, fold(seed, 1))
            terms = self.terms(batch)
            values = {name: terms[name]() for name in self.term_weights}
            # The mean over the global batch: replicas hold equal shares, gradients are summed.
            weights = self._weights_now()
            loss = sum(weights[name] * tf.reduce_mean(values[name]) for name in values)
            loss += self._penalty()
            replica_loss = loss / replicas
        gradients = tape.gradient(replica_loss, [compat.raw(v) for v in variables])
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        self.step_metrics["loss"].update_state(loss)
        for name, value in values.items():
            self.step_metrics[name].update_state(value)
        for name, outputs in (("natural_accuracy", batch.clean), ("robust_accuracy", batch.adv)):
            if outputs is not None:
                self.step_metrics[name].update_state(_correct(outputs.logits, y))
        return {name: self.step_metrics[name].result() for name in self.train_names}

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Natural cross-entropy and accuracy; robust accuracy where an evaluation attack is set."""
        x, y = self._unpack(data)
        logits = self.network(x, training=False)
        self.step_metrics["loss"].update_state(losses.cross_entropy(logits, y))
        natural = _correct(logits, y)
        self.step_metrics["natural_accuracy"].update_state(natural)
        if self.evaluation_attack is not None:
            x_adv = self.evaluation_attack(self.network, x, y, seed=self.seed)
            robust = natural * _correct(self.network(x_adv, training=False), y)
            self.step_metrics["robust_accuracy"].update_state(robust)
        names = ["loss", "natural_accuracy"] + ["robust_accuracy"] * bool(self.evaluation_attack)
        return {name: self.step_metrics[name].result() for name in names}

    def _unpack(self, data: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """Images and labels of a batch, checked; the values when the step runs."""
        if len(data) == 3 and data[2] is None:  # sample weights, as Keras 3's train_on_batch does
            data = data[:2]
        if len(data) != 2:
            raise ValueError(f"a batch has {len(data)} parts; expected (images, labels).")
        x, y = data
        if not x.dtype.is_floating:
            raise TypeError(
                f"images are {x.dtype.name}; methods take float32 in [0, 1]: "
                "tf.cast(x, tf.float32), divided by 255 if the pixels are 0..255."
            )
        check_labels(y)
        x, y = tf.cast(x, tf.float32), tf.cast(y, tf.int32)
        last, low, high = self.network.num_classes - 1, tf.reduce_min(x), tf.reduce_max(x)
        images_fit = tf.debugging.Assert(
            tf.logical_and(low >= 0.0, high <= 1.0),
            [
                "images must be in [0, 1], divided by 255 if the pixels are 0..255; range:",
                low,
                high,
            ],
        )
        low, high = tf.reduce_min(y), tf.reduce_max(y)
        labels_fit = tf.debugging.Assert(
            tf.logical_and(low >= 0, high <= last),
            [f"labels must be class ids in 0..{last}; range:", low, high],
        )
        with tf.control_dependencies([images_fit, labels_fit]):  # before a kernel meets them
            return tf.identity(x), tf.identity(y)

    def _step_seed(self) -> tf.Tensor:
        """int32 (2,) of (seed, step), folded with the replica."""
        seed = tf.stack(
            [tf.constant(self.seed % 2**31), tf.cast(self.optimizer.iterations, tf.int32)]
        )
        context = tf.distribute.get_replica_context()
        return fold(seed, context.replica_id_in_sync_group if context else 0)

    def _adversarial(self, x: tf.Tensor, y: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        return self.craft(x, y, seed, tf.convert_to_tensor(self._warmth(self.eps_warmup_steps)))

    def _weights_now(self) -> dict[str, Any]:
        """Weight of each term at this step."""
        warmth = self._warmth(self.term_warmup_steps)
        return {
            name: weight * warmth if name in self.warmed_terms else weight
            for name, weight in self.term_weights.items()
        }

    def _warmth(self, steps: int) -> tf.Tensor | float:
        """How far a warm-up over so many steps has come, in (0, 1]."""
        if not steps:
            return 1.0
        return tf.minimum((tf.cast(self.optimizer.iterations, tf.float32) + 1) / steps, 1.0)

    def _forward(self, x: tf.Tensor, y: tf.Tensor, x_adv: tf.Tensor, seed: tf.Tensor) -> Batch:
        """Clean and adversarial outputs: one forward pass, two where batches have statistics."""
        with forward_mode(seed=fold(seed, 0)):
            if self.needs_clean and self.needs_adv and not self.network.has_batch_norm:
                both = self.network.forward(tf.concat([x, x_adv], 0), training=True)
                halves = [tf.split(part, 2) for part in both]
                first, second = (Outputs(*[half[k] for half in halves]) for k in (0, 1))
                return Batch(x, y, x_adv, first, second, seed)
            clean = self.network.forward(x, training=True) if self.needs_clean else None
        with forward_mode(seed=fold(seed, 1)):
            adv = self.network.forward(x_adv, training=True) if self.needs_adv else None
        return Batch(x, y, x_adv, clean, adv, seed)

    def _penalty(self) -> tf.Tensor | float:
        """w/2 ||W||^2 over kernels."""
        if not self.weight_decay:
            return 0.0
        kernels = [v for v in self.trainable_variables if v.name.split(":")[0].endswith("kernel")]
        return self.weight_decay * tf.add_n([tf.nn.l2_loss(compat.raw(v)) for v in kernels])


def _correct(logits: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """1.0 where the prediction is y, (B,)."""
    return tf.cast(tf.equal(tf.argmax(logits, axis=1, output_type=tf.int32), y), tf.float32)
