"""What every attack is: a callable `attack(model, x, y) -> x_adv`, compiled once for a model."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, NamedTuple, TypeAlias, TypeVar

import tensorflow as tf

from robust_tf import compat
from robust_tf.attacks.arguments import (
    check_batch,
    check_model,
    check_values,
    is_known,
    known_value,
)
from robust_tf.attacks.compiled import compiled, passes_of
from robust_tf.attacks.network import Network, logits_of
from robust_tf.attacks.randomness import as_seed
from robust_tf.attacks.steps import Steepest
from robust_tf.attacks.threat import Budget, Threat, scalar
from robust_tf.models.black_box import BlackBox, no_gradient
from robust_tf.models.conversion import check_follows
from robust_tf.validation import check_eps, check_step_size, check_whole, plain

Number: TypeAlias = float | tf.Tensor
Own = TypeVar("Own", bound="Attack")


class MinimalDistance(NamedTuple):
    """How far each image is from the nearest misclassified one that an attack found.

    distance: float32 (B,), in the norm of the attack, an upper bound of the least distance; 0 where
      the image itself is misclassified, inf where no misclassified image was found.
    x_adv: that image; the clean one where the distance is 0 or inf.
    queries: int32 (B,), images that the search sent through the model, beside the clean one.
    """

    distance: tf.Tensor
    x_adv: tf.Tensor
    queries: tf.Tensor


class Attack:
    """Base of all attacks; a subclass is a frozen dataclass that defines `run`.

    Attributes:
      eps: radius of the ball, in pixel units of images in [0, 1]; None where there is none.
      step_size: of an attack with `has_step_size`, in the same units; None: eps, or the multiple of
        it that is usual for the attack (`step_per_eps`).
      norm: 'Linf', 'L2' or 'L1'.
      batch_norm: mode of `robust_tf.models.BatchNormalization`, and of Keras' own in a model that
        `models.convert`, `models.split` or a training method has seen. On another Keras model with
        one 'batch' and 'training' are refused; in a plain function they reach what is converted.
    """

    eps: float
    step_size: float | None
    norm: str = "Linf"
    batch_norm: str = "running"
    # Fields that have another name in files of version 0.1: old -> new.
    renamed: ClassVar[dict[str, str]] = {}
    # Whether a step size may be given; other attacks choose theirs.
    has_step_size: ClassVar[bool] = False
    # The step size where none is said, in multiples of eps.
    step_per_eps: ClassVar[float] = 1.0
    # Whether it does without the gradients of the model that it attacks (black box).
    black_box: ClassVar[bool] = False
    # Whether it sees labels alone: then only those of the model in full precision will do, as
    # there is no margin that would tell rounding from a boundary.
    hard_labels: ClassVar[bool] = False
    # Whether in training labels may be distributions over the classes, float32 (B, C), too.
    takes_soft_labels: ClassVar[bool] = False
    # Whether an evaluation also attacks misclassified images, and judges what it returns alone.
    judged_alone: ClassVar[bool] = False
    # Whether what it returns says how far the nearest misclassified image is (`MinimumNorm`).
    measures_distance: ClassVar[bool] = False
    # Whether what it returns may be further away than eps, which an evaluation refuses.
    leaves_ball: ClassVar[bool] = False

    @property
    def balls(self) -> tuple[tuple[str, float | None], ...]:
        """Norm and radius of the ball that it works in, None where it has none; of a union all.

        What the attack returns lies in one of them.
        """
        eps = getattr(self, "eps", None)
        return ((self.norm, None if eps is None else float(eps)),)

    def run(
        self, network: Network, x: tf.Tensor, y: tf.Tensor, seed: tf.Tensor, budget: Budget
    ) -> tf.Tensor:
        """The attack as graph code; `network` gives float32 logits (B, C).

        Radius and step size are those of `budget`: one graph serves them all, and while it is
        traced the attack's own fields `eps` and `step_size` are 1.
        """
        raise NotImplementedError

    def network_of(self, model: Callable[..., Any]) -> Network:
        """The model as `run` sees it."""
        return logits_of(model, self.batch_norm)

    def models(self, model: Callable[..., Any]) -> list[Callable[..., Any]]:
        """What its graph calls: the model attacked, and those that the attack brings along."""
        found = [model]
        for _, stage in self.stages():
            if stage is not self:
                found += stage.models(model)[1:]
        return found

    def check_access(self, model: Callable[..., Any]) -> None:
        """Raises TypeError for a `models.black_box` that gives less than this attack needs."""
        if not isinstance(model, BlackBox):
            return
        for _, stage in self.stages():
            if stage is not self:
                stage.check_access(model)
            elif not self.black_box:
                raise TypeError(no_gradient(type(self).__name__))
            elif model.gives_labels and not self.hard_labels:
                raise TypeError(
                    f"{type(self).__name__} takes scores, and this black box gives labels; attack "
                    "it by RayS, or return scores (batch, classes)."
                )

    def stages(self) -> Iterator[tuple[str, Attack]]:
        """The attacks, by name, of which this one is the worst case."""
        yield "", self

    def seeded_stages(self, seed: tf.Tensor) -> Iterator[tuple[str, Attack, tf.Tensor]]:
        """Name, attack and seed of each stage: all have the same seed, as in AutoAttack's program.

        Each is run on the images that are robust so far, with the rows of the seed that are theirs;
        so a stage draws the same numbers in a call of the whole as in an evaluation, which runs one
        stage after the other.
        """
        for name, attack in self.stages():
            yield name, attack, seed

    def notes(self, num_classes: int) -> list[str]:
        """What the attack does otherwise than its source, for so many classes; for the result."""
        return []

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
        """Adversarial images for `model`.

        Inside a `tf.function` this adds the attack to the graph. Called eagerly it checks the data,
        compiles the attack once for this model and shape of image, and runs it. Attacks that differ
        in eps and step size alone share what is compiled. A model that has changed since, in
        other ways than the values of its variables, is compiled again: its logits on eight of the
        images are compared with the graph's (`attacks.watch.Watch` says what is seen).

        Args:
          model: Keras model or any callable from images (B, H, W, C) to logits (B, C).
          x: float32 images in [0, 1].
          y: integer labels (B,), of the target class if the attack is targeted; inside a
            `tf.function` also distributions over the classes, float32 (B, C), where it
            `takes_soft_labels`.
          eps: radius in place of the attack's own, a number or scalar tensor.
          step_size: in place of the attack's own, which stays as it is if eps alone is given.
          seed: int, int32 (2,), or int32 (B, 2) with one for each example, which makes an example's
            result independent of the others in its batch. The same seed gives the same bits.
          scale: in [0, 1], multiplies eps and the step size (warm-up of a training attack).

        Returns:
          Images of the shape and dtype of x, inside the ball and [0, 1], without gradient.

        Raises:
          TypeError: a model that cannot be called or traced, or is a `models.black_box` and the
            attack takes gradients; images that are not float32, labels that are not
            integers.
          ValueError: eps or step size out of range, images outside [0, 1], labels that are one-hot,
            outside 0..C-1 or not one for each image, a model whose output is not (B, C).
        """
        return self.enter("run", model, x, y, seed, self.budget(eps, step_size, scale))

    def budget(
        self, eps: Number | None = None, step_size: Number | None = None, scale: Number = 1.0
    ) -> Budget:
        """The tensors that `run` takes: these values, or the attack's own, times `scale`.

        Raises:
          ValueError: a value out of range, as far as it is known; a step size for an attack that
            chooses its own.
        """
        owner = type(self).__name__
        if step_size is not None and not self.has_step_size:
            raise ValueError(
                f"{owner}(step_size={step_size!r}): this attack takes no step size; leave it out."
            )
        if eps is None:
            own = getattr(self, "eps", None)
            eps = math.inf if own is None else own  # one without a ball may go anywhere
        elif is_known(eps):
            eps = check_eps(owner, known_value(eps), self.norm)
        if step_size is None:
            own = getattr(self, "step_size", None)
            step_size = self.step_per_eps * eps if own is None else own
        elif is_known(step_size):
            step_size = check_step_size(owner, known_value(step_size), self.norm)
        scale = tf.cast(plain(scale), tf.float32)
        whole = scalar(eps, tf.float64)
        radius = whole * tf.cast(scale, tf.float64)
        radius = tf.where(tf.math.is_inf(whole), whole, radius)  # 0 times that is no number
        return Budget(radius, scalar(step_size, tf.float32) * scale)

    def at(self: Own, eps: float | None = None, step_size: float | None = None) -> Own:
        """This attack with another radius or step size, its parts too.

        Raises:
          ValueError: a value out of range; a step size for an attack that chooses its own.
        """
        if eps is not None or (step_size is not None and not self.has_step_size):
            self.budget(eps, step_size)  # says so
        return _at(self, {"eps": eps, "step_size": step_size})

    def enter(
        self,
        method: str,
        model: Callable[..., Any],
        x: Any,
        y: Any,
        seed: int | tf.Tensor,
        budget: Budget,
    ) -> Any:
        """A call, for `run` or another method with the arguments of `run`: what it returns."""
        check_model(model)
        self.check_access(model)
        check_follows(model, self.batch_norm, type(self).__name__)
        x, y = check_batch(x, y, soft=self.takes_soft_labels and tf.inside_function())
        seed, code = as_seed(seed), _code(self)
        if tf.inside_function():
            results = getattr(code, method)(code.network_of(model), x, y, seed, budget)
            return tf.nest.map_structure(tf.stop_gradient, results)
        graph = compiled(code, method, model, x, seed)
        self.check_access(model)  # by now it is known whether a black box gives labels
        watch = graph.watches[0]
        check_values(x, y, watch.num_classes)
        watch.check_range(x, y)
        return tf.nest.map_structure(tf.stop_gradient, graph.function(x, y, seed, budget))

    def passes(self, *models: Callable[..., Any]) -> tuple[int, int]:
        """Images that its eager calls have sent through these models: forwards, and backwards.

        Attacks that share a graph, as they differ in eps or step size alone, are counted together.
        """
        counts = [passes_of(_code(self), model) for model in models]
        return sum(forwards for forwards, _ in counts), sum(gradients for _, gradients in counts)

    def get_config(self) -> dict[str, Any]:
        """For Keras files and result files."""
        names = [field.name for field in dataclasses.fields(self)]  # type: ignore[arg-type]
        return {name: compat.serialize(plain(getattr(self, name))) for name in names}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Attack:
        """Inverse of `get_config`."""
        values = {name: compat.deserialize(value) for name, value in config.items()}
        return cls(**{cls.renamed.get(name, name): value for name, value in values.items()})

    def _put(self, **values: Any) -> None:
        """Sets fields of this frozen dataclass to what their checks gave back."""
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def _put_whole(self, *names: str) -> None:
        """Has these fields whole numbers >= 1.

        Raises:
          ValueError: one is none.
        """
        owner = type(self).__name__
        self._put(**{name: check_whole(owner, name, getattr(self, name), 1) for name in names})


def _code(attack: Own) -> Own:
    """What is compiled: the attack with eps and step size 1, as the budget says what they are."""
    return _at(attack, {"eps": 1.0, "step_size": 1.0})


def _at(value: Any, changes: dict[str, float | None]) -> Any:
    """An attack, and what it is made of, with these values in the fields of these names."""
    if not isinstance(value, (Attack, Threat, Steepest)) or not dataclasses.is_dataclass(value):
        return value
    found = {}
    for field in dataclasses.fields(value):
        own = getattr(value, field.name)
        new = _at(own, changes) if changes.get(field.name) is None else changes[field.name]
        if new is not own:
            found[field.name] = new
    return dataclasses.replace(value, **found) if found else value  # type: ignore[arg-type]
