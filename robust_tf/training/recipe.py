"""What a run is: everything that a recipe binds under the gin name `train`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from robust_tf import data, precision, registration
from robust_tf.attacks import Attack
from robust_tf.data.augmenting import as_augmentations, mixes, names
from robust_tf.methods import Execution, RobustModel, Standard
from robust_tf.models import CNN
from robust_tf.training.optimizers import SGD, piecewise
from robust_tf.training.warm_start import start_from
from robust_tf.training.weight_average import EMA
from robust_tf.training.weight_perturbation import AWP
from robust_tf.training.xla import check_asked
from robust_tf.validation import check_number, check_whole, plain_fields


@registration.configurable_as("train")
@dataclasses.dataclass(frozen=True)
class Recipe:
    """The settings of one run.

    Args:
      network: builder, (input_shape, num_classes) -> SplitClassifier, or any built Keras model.
      method: builder, (network) -> RobustModel.
      compare_with: another method to train on the same recipe after this one, or a list of them,
        for a table of all.
      optimizer: builder, (learning_rate schedule) -> Keras optimiser.
      schedule: builder, (learning_rate, steps_per_epoch, epochs) -> schedule.
      learning_rate: at the start, > 0.
      epochs: >= 1.
      batch_size: of the whole, over all replicas, >= 1.
      weight_decay: w of w/2 ||W||^2 over kernels, >= 0.
      decay_all: the penalty is over all parameters, as PyTorch's.
      weight_perturbation: builder, (steps_per_epoch) -> WeightPerturbation: @AWP.
      weight_average: builder, (steps_per_epoch) -> WeightAverage: @EMA or @SWA. The averaged
        network is validated, evaluated and saved.
      extra: adds training examples to the data: @PseudoLabels().
      initial: run folder, .keras file, or checkpoint of PyTorch, whose weights training starts
        from, but for the last layer's where its classes are others; None: `seed`'s.
      frozen: name of a layer: it and all before it are not trained, nor are their moving averages;
        'generator': all before the features; None: all layers are trained.
      unfreeze_epoch: number of epochs after which the frozen layers are trained too; None: never.
      eps_warmup_epochs: over which the training attack grows to its eps, >= 0, fractions allowed.
      term_warmup_epochs: over which the weights of the terms beside the cross-entropies grow, >= 0.
      validation_attack: of the robust accuracy by which the best checkpoint is chosen.
      validate_every: epochs between validations, >= 1.
      select: 'last', or 'best': by the robust accuracy of the validation images (early stopping of
        Rice et al., 2020), which is the network that is evaluated and saved.
      patience: epochs without a better validation after which training ends, or None.
      evaluation_attacks: run on the test images at the end; a list, or a dict with their names.
      evaluation_examples: test images for that, or None for all.
      steps_per_call: steps in one call of the compiled loop, >= 1.
      checkpoint_minutes: between checkpoints inside an epoch, by the chief's clock; an epoch's end
        has one anyway. 0: after each call of the loop.
      guard_every: steps between checks for catastrophic overfitting; None: as often as costs 4 % of
        the training's passes, for methods whose attack has one or two steps, and never for others;
        0: never. See `training.guard`.
      guard_images: how many validation images a check attacks, at most, >= 1; training images where
        there are no others.
      on_collapse: what happens where catastrophic overfitting is found: 'warn'; 'stop' ends the
        training, and the network of the best robust validation is evaluated and saved; 'rollback'
        goes back to the last good checkpoint and trains on from there with half the step size, or
        with 1.5 times the noise where the attack has any.
      guard_rollbacks: how often, >= 0; after that the training is stopped.
      accumulate: number of parts of each batch, >= 1, whose gradients are added before the one
        update of its step, in the memory of one part. Steps, schedules and random numbers are
        those of the whole batch; batch statistics are of each part. See `docs/memory_and_speed.md`.
      remat: keep only what goes in between blocks of layers, and compute the rest again for the
        gradient: less memory, one more forward pass for each gradient.
      xla: 'off'; 'auto': compile attack, forward and backward by XLA if that is measured to be
        faster than the plain graph on this device when the run begins; 'on': compile them.
      dtype_policy: 'float32', 'mixed_float16' (for GPUs; losses are scaled), 'mixed_bfloat16'
        (faster where the processor has instructions for it, else many times slower), or 'auto':
        float32 or bfloat16, whichever is measured to be faster on this device when the run begins;
        see `robust_tf.precision`.
      seed: of weights, data order and everything random in the step.

    Raises:
      ValueError: a value outside its range.
    """

    network: Callable[..., Any] = CNN
    method: Callable[..., RobustModel] = Standard
    compare_with: Callable[..., RobustModel] | Sequence[Callable[..., RobustModel]] | None = None
    optimizer: Callable[..., Any] = SGD
    schedule: Callable[..., Any] = piecewise
    learning_rate: float = 0.01
    epochs: int = 10
    batch_size: int = 128
    weight_decay: float = 0.0
    decay_all: bool = False
    weight_perturbation: Callable[..., Any] | None = None
    weight_average: Callable[..., Any] | None = None
    extra: Callable[..., Any] | None = None
    initial: str | None = None
    frozen: str | None = None
    unfreeze_epoch: int | None = None
    eps_warmup_epochs: float = 0.0
    term_warmup_epochs: float = 0.0
    validation_attack: Attack | None = None
    validate_every: int = 1
    select: str = "last"
    patience: int | None = None
    evaluation_attacks: Mapping[str, Attack] | Sequence[Attack] = ()
    evaluation_examples: int | None = None
    steps_per_call: int = 10
    checkpoint_minutes: float = 2.0
    guard_every: int | None = None
    guard_images: int = 128
    on_collapse: str = "warn"
    guard_rollbacks: int = 3
    accumulate: int = 1
    remat: bool = False
    xla: str = "off"
    dtype_policy: str = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        plain_fields(self)
        for name in ("epochs", "batch_size", "validate_every", "steps_per_call", "accumulate"):
            check_whole("train", name, getattr(self, name), 1)
        check_whole("train", "guard_images", self.guard_images, 1)
        for name in ("seed", "guard_rollbacks"):
            check_whole("train", name, getattr(self, name), 0)
        if self.guard_every is not None:
            check_whole("train", "guard_every", self.guard_every, 0, "0 is never")
        if self.accumulate > self.batch_size:
            raise ValueError(
                f"train.accumulate={self.accumulate}: a batch of train.batch_size="
                f"{self.batch_size} images has no more parts than images."
            )
        if not isinstance(self.remat, bool):
            raise ValueError(f"train.remat={self.remat!r}: must be True or False.")
        check_asked(self.xla)
        if self.on_collapse not in ("warn", "stop", "rollback"):
            raise ValueError(
                f"train.on_collapse={self.on_collapse!r}: must be 'warn', 'stop' or 'rollback'."
            )
        for name in ("evaluation_examples", "patience", "unfreeze_epoch"):
            if getattr(self, name) is not None:
                check_whole("train", name, getattr(self, name), 1)
        if self.unfreeze_epoch is not None and self.frozen is None:
            raise ValueError(
                f"train.unfreeze_epoch={self.unfreeze_epoch}: nothing is frozen; set train.frozen."
            )
        if self.select not in ("last", "best"):
            raise ValueError(f"train.select={self.select!r}: must be 'last' or 'best'.")
        warmups = ("eps_warmup_epochs", "term_warmup_epochs")
        for name in ("weight_decay", *warmups, "checkpoint_minutes", "learning_rate"):
            check_number("train", name, getattr(self, name), strict=name == "learning_rate")
        if self.dtype_policy not in ("auto", *precision.POLICIES.values()):
            raise ValueError(
                f"train.dtype_policy={self.dtype_policy!r}: must be 'auto', 'float32', "
                "'mixed_bfloat16' or 'mixed_float16'."
            )
        optional = {
            "weight_perturbation": AWP,
            "weight_average": EMA,
        }
        for name in ("network", "method", "optimizer", "schedule", *optional):
            value = getattr(self, name)
            if not callable(value) and not (name in optional and value is None):
                example: Any = optional.get(name) or getattr(type(self), name)
                raise ValueError(
                    f"train.{name}={value!r}: must be a builder, such as @{example.__name__} (no "
                    "quotes, no brackets)."
                )
        others = self.compare_with if isinstance(self.compare_with, (list, tuple)) else ()
        for value in others or [self.compare_with]:
            if value is not None and not callable(value):
                raise ValueError(
                    f"train.compare_with={value!r}: must be a builder or a list of them, such as "
                    "[@Standard, @AdversarialTraining] (no quotes, no brackets after the names)."
                )
        if self.extra is not None and not callable(self.extra):
            raise ValueError(f"train.extra={self.extra!r}: must be @PseudoLabels(), with brackets.")
        if not isinstance(self.evaluation_attacks, (dict, list, tuple)):
            raise ValueError(
                f"train.evaluation_attacks={self.evaluation_attacks!r}: must be a list, such as "
                "[@evaluation/PGD()], or a dict with a name for each."
            )
        if self.validation_attack is not None:
            _check_attack("train.validation_attack", self.validation_attack)
        attacks = self.evaluation_attacks
        if not isinstance(attacks, Mapping):
            attacks = {str(number): attack for number, attack in enumerate(attacks)}
        for name, attack in attacks.items():
            _check_attack(f"train.evaluation_attacks[{name}]", attack)

    def attacks(self) -> dict[str, Attack | None]:
        """The attacks of validation and evaluation, by what they are for."""
        own = self.evaluation_attacks
        named = own if isinstance(own, Mapping) else {str(k): one for k, one in enumerate(own, 1)}
        found = {f"evaluation ({name})": attack for name, attack in named.items()}
        return {"validation": self.validation_attack, **found}

    def build(
        self,
        dataset: data.Data,
        strategy: tf.distribute.Strategy,
        chosen: precision.Choice | None = None,
    ) -> RobustModel:
        """The compiled model, its weights drawn from `seed`.

        Args:
          dataset: what it is trained on.
          strategy: under which.
          chosen: the precision of a run that has one; None: what `dtype_policy` is on this device.
        """
        chosen = chosen or precision.choose(self.dtype_policy)
        keras.mixed_precision.set_global_policy(chosen.policy)
        keras.utils.set_random_seed(self.seed)
        steps = data.steps_per_epoch(dataset.train, self.batch_size)
        with strategy.scope():
            network = self.network(input_shape=dataset.image_shape, num_classes=dataset.num_classes)
            if self.initial is not None:
                start_from(self.initial, network)
            model = self.method(network=network)
            if not isinstance(model, RobustModel):
                raise ValueError(
                    f"train.method built a {type(model).__name__}: must be a training method, such "
                    "as @ADR."
                )
            if mixes(mixing := as_augmentations(dataset.augmentation)[-1:]):
                model.check_soft_labels(names(mixing))
            rate = self.schedule(
                learning_rate=self.learning_rate,
                steps_per_epoch=steps * model.updates_per_batch,
                epochs=self.epochs,
            )
            optimizer = self.optimizer(learning_rate=rate)
            if getattr(optimizer, "use_ema", False):
                raise ValueError(
                    f"train.optimizer={type(optimizer).__name__}(use_ema=True): its average would "
                    "be neither validated nor saved; use train.weight_average = @EMA."
                )
            model.compile(
                optimizer,
                evaluation_attack=self.validation_attack,
                weight_decay=self.weight_decay,
                decay_all=self.decay_all,
                eps_warmup_steps=round(self.eps_warmup_epochs * steps),
                term_warmup_steps=round(self.term_warmup_epochs * steps),
                weight_perturbation=_composed(self.weight_perturbation, steps),
                weight_average=_composed(self.weight_average, steps),
                seed=self.seed,
                execution=Execution(self.accumulate, remat=self.remat),
            )
        return model


def _composed(builder: Callable[..., Any] | None, steps_per_epoch: int) -> Any:
    return None if builder is None else builder(steps_per_epoch=steps_per_epoch)


def check_dataset(dataset: data.Data) -> None:
    """Raises ValueError for data on which training would make no sense."""
    if not len(dataset.test):
        raise ValueError(f"{dataset.name} has no test images to evaluate on at the end.")
    if len(set(dataset.train.labels.tolist())) < 2:
        raise ValueError(
            f"the training images of {dataset.name} are all of class {dataset.train.labels[0]}; "
            "a classifier needs two classes or more."
        )


def _check_attack(name: str, value: Any) -> None:
    """Raises ValueError unless `value` is an untargeted attack."""
    if not isinstance(value, Attack):
        raise ValueError(
            f"{name}={value!r}: must be an attack, such as @PGD() (with brackets: it is made here)."
        )
    if value.leaves_ball:
        raise ValueError(
            f"{name}: {type(value).__name__} moves images by more than eps, to train on them; "
            "evaluate by @PGD()."
        )
    if getattr(getattr(value, "objective", None), "targeted", False):
        raise ValueError(
            f"{name}: a targeted attack has no target here; wrap it, MultiTargeted.attack = @PGD()."
        )
