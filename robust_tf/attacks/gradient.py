"""The one loop of projected gradient ascent, and the attack that composes it freely.

    x <- P(x + step_size * steepest(direction)),   direction by a step rule from the gradient

`Ascent` is the loop, for whatever function; `GradientAttack` runs it on a threat, an objective, a
start and a step rule, with restarts; `ProjectedGradient` takes these four as arguments, and the
attacks of `presets.py` choose them as papers do.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import tensorflow as tf

from robust_tf import registration
from robust_tf.attacks.active_set import Rows, choose, on_active_set
from robust_tf.attacks.base import Attack
from robust_tf.attacks.network import Network, input_gradient
from robust_tf.attacks.objectives import CrossEntropy, KLDivergence, Objective, is_misclassified
from robust_tf.attacks.randomness import each, fold
from robust_tf.attacks.steps import CleanStart, Start, Steepest, UniformStart
from robust_tf.attacks.threat import Bounds, Budget, Threat
from robust_tf.models.forward import check_batch_norm_mode
from robust_tf.validation import check_step_size

# What a step rule carries from step to step; each tensor's first axis is the example.
State = tuple[tf.Tensor, ...]
# With `keep='best'` an example may leave at any step, but not for each one is the state of the
# others copied.
_SHARE = 1 / 32


class Ascent(NamedTuple):
    """Projected steps in the balls around some images: what is the same at each step.

    threat: whose norm the ball has; bounds: of the balls; step_size: float32 scalar; rule: how a
    gradient becomes a direction (its own step size plays no part).
    """

    threat: Threat
    bounds: Bounds
    step_size: tf.Tensor
    rule: Steepest

    def of(self, rows: Rows) -> Ascent:
        """The same for other images, whose bounds are among these rows."""
        return self._replace(bounds=self.bounds.of(rows))

    def step(self, x: tf.Tensor, gradient: tf.Tensor, state: State) -> tuple[tf.Tensor, State]:
        """X after one step, and the rule's state."""
        return self.rule.move(self.threat, x, gradient, state, self.step_size, self.bounds)

    def repeat(
        self, gradient_at: Callable[[tf.Tensor], Any], x: tf.Tensor, steps: int | tf.Tensor
    ) -> tf.Tensor:
        """X after so many steps.

        Args:
          gradient_at: x -> (gradient, ...), as of `network.input_gradient`.
          x: where it starts.
          steps: >= 0, a number or int32 scalar.
        """

        def body(x: tf.Tensor, state: State) -> tuple[tf.Tensor, State]:
            return self.step(x, gradient_at(x)[0], state)

        variables = x, self.rule.initial(x)
        if isinstance(steps, int) and steps == 1:
            return body(*variables)[0]
        return tf.while_loop(
            lambda *_: True, body, variables, maximum_iterations=steps, parallel_iterations=1
        )[0]

    def values(
        self, gradient_at: Callable[[tf.Tensor], Any], x: tf.Tensor, steps: int
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """As `repeat`, and the values (steps, B) where each step began: `gradient_at(x)[1]`."""

        def body(k: tf.Tensor, x: tf.Tensor, state: State, values: tf.TensorArray) -> tuple:
            gradient, value, *_ = gradient_at(x)
            return k + 1, *self.step(x, gradient, state), values.write(k, value)

        values = tf.TensorArray(tf.float32, steps, element_shape=[None])
        variables = tf.constant(0), x, self.rule.initial(x), values
        _, x, _, values = tf.while_loop(
            lambda k, *_: k < steps, body, variables, parallel_iterations=1
        )
        return x, values.stack()


class GradientAttack(Attack):
    """Base of the attacks that ascend an objective inside a ball by projected steps.

    One step costs one forward and one gradient with respect to the images; `keep='best'`, and more
    than one restart, cost one more forward per restart. There an example leaves the batch with the
    first image that is misclassified, and costs nothing more (with 'best', as soon as they are more
    than 1/32 of the batch): its result is that image, though a later one might have a higher
    objective. In the modes of `batch_norm` where examples see each other none leaves.

    A subclass is a frozen dataclass with what is named here as fields or properties.

    Attributes:
      threat: the ball.
      step: the step rule.
      steps: number of steps.
      objective: what is raised.
      start: where a run starts.
      restarts: number of runs from fresh starts, each on the images that are robust so far; of an
        example that is robust after them all, the run of the highest objective is kept.
      keep: 'last' iterate, or the 'best' one: the first that is misclassified, else the one of the
        highest objective.
    """

    threat: Threat
    step: Steepest
    steps: int
    objective: Objective
    start: Start
    restarts: int = 1
    keep: str = "last"
    has_step_size: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self._put_whole(*(name for name in ("steps", "restarts") if name in self.__dict__))
        if self.keep not in ("last", "best"):
            raise ValueError(f"keep={self.keep!r}: must be 'last' or 'best'.")
        check_batch_norm_mode(self.batch_norm)

    @property
    def takes_soft_labels(self) -> bool:  # type: ignore[override]
        """Whether labels may be distributions: no iterate is judged by its class."""
        return self.objective.takes_soft_labels and self.restarts == 1 and self.keep == "last"

    def composition(self) -> ProjectedGradient:
        """The same attack as a free composition."""
        return ProjectedGradient(
            self.threat,
            self.step,
            self.steps,
            self.objective,
            self.start,
            self.restarts,
            self.keep,
            self.batch_norm,
        )

    def as_targeted(self) -> GradientAttack:
        """The same attack towards labels that it is given.

        Raises:
          ValueError: the objective has no labels.
        """
        if "targeted" in self.__dict__:
            return dataclasses.replace(self, targeted=True)  # type: ignore[type-var]
        objective = dataclasses.replace(self.objective, targeted=True)
        return dataclasses.replace(self.composition(), objective=objective)

    def run(
        self, network: Network, x: tf.Tensor, y: tf.Tensor, seed: tf.Tensor, budget: Budget
    ) -> tf.Tensor:
        bounds = self.threat.bounds(x, budget.eps)
        ascent = Ascent(self.threat, bounds, budget.step_size, self.step)
        reference = self.objective.reference(network, x)
        gradient_at = input_gradient(network, self.objective.values)
        rows = {"y": y, **bounds.rows()}
        if reference is not None:
            rows["reference"] = reference

        def judge(x: tf.Tensor, rows: Rows) -> tuple[tf.Tensor, tf.Tensor]:
            logits = network(x)
            return self.objective.values(logits, rows["y"], rows.get("reference")), logits

        def start(rows: Rows, seed: tf.Tensor) -> tf.Tensor:
            return self.start(self.threat, bounds.of(rows), seed)

        def last(rows: Rows, seed: tf.Tensor) -> tf.Tensor:
            return ascent.of(rows).repeat(
                lambda x: gradient_at(x, rows["y"], rows.get("reference")),
                start(rows, seed),
                self.steps,
            )

        def attempt(run: tf.Tensor, rows: Rows) -> Rows:
            """A whole run, of which the last iterate counts."""
            iterate = last(rows, fold(rows["seed"], run))
            return self._judged(rows, iterate, *judge(iterate, rows))

        def look(k: tf.Tensor, rows: Rows) -> Rows:
            """An iterate of a run, and the step to the next one, if there is one."""
            run, i = k // (self.steps + 1), k % (self.steps + 1)

            def fresh() -> tuple[tf.Tensor, State]:
                iterate = start(rows, fold(rows["seed"], run))
                return iterate, self.step.initial(iterate)

            def ascend() -> tuple:
                gradient, values, logits = gradient_at(iterate, rows["y"], rows.get("reference"))
                return *ascent.of(rows).step(iterate, gradient, state), values, logits

            iterate, state = tf.cond(
                tf.equal(i, 0), fresh, lambda: (rows["iterate"], _state_in(rows))
            )
            moved, state, values, logits = tf.cond(
                i < self.steps, ascend, lambda: (iterate, state, *judge(iterate, rows))
            )
            rows = {**rows, "iterate": moved, **_state_rows(state)}
            return self._judged(rows, iterate, values, logits)

        if self.restarts == 1 and self.keep == "last":
            return last(rows, fold(seed, 0))
        rows |= {"x_adv": x, "seed": each(seed, tf.shape(y)[0])}
        rows |= {"value": tf.fill(tf.shape(y), float("-inf"))}
        rows |= {"is_adversarial": tf.zeros(tf.shape(y), tf.bool)}
        alone = self.batch_norm == "running"  # else those that stay would see others than before
        if self.keep == "last":
            return on_active_set(attempt, rows, self.restarts, 0.0 if alone else 1.0)[0]
        rows |= {"iterate": x, **_state_rows(self.step.initial(x))}
        looks = self.restarts * (self.steps + 1)
        return on_active_set(look, rows, looks, _SHARE if alone else 1.0)[0]

    def _judged(self, rows: Rows, x: tf.Tensor, values: tf.Tensor, logits: tf.Tensor) -> Rows:
        """What the attack would return, after one more image of each example."""
        wrong = is_misclassified(logits, rows["y"])
        is_adversarial = tf.logical_not(wrong) if self.objective.targeted else wrong
        take = tf.logical_or(is_adversarial, values > rows["value"])
        return {
            **rows,
            "x_adv": choose(take, x, rows["x_adv"]),
            "value": tf.where(take, values, rows["value"]),
            "is_adversarial": is_adversarial,
        }


@registration.configurable
@registration.serializable
@dataclasses.dataclass(frozen=True)
class ProjectedGradient(GradientAttack):
    """Ascends an objective inside a ball by projected steps: any threat, step, objective and start.

    See `GradientAttack` for what it costs and when an example leaves the batch.

    Args:
      threat: `Linf(eps)`, `L2(eps)` or `L1(eps)`.
      step: `Steepest(step_size)`, `Momentum(step_size, decay)`, or `AdaptiveSparsity(step_size,
        share)` in L1.
      steps: number of steps, >= 1.
      objective: what to raise, `CrossEntropy()` by default.
      start: `UniformStart()` (default), `GaussianStart()` or `CleanStart()`.
      restarts: number of runs from fresh starts, >= 1.
      keep: 'last' iterate, or the 'best' one.
      batch_norm: mode of `robust_tf.models.BatchNormalization` in the attack: 'running' (default),
        'batch' or 'training'.

    Raises:
      ValueError: an argument outside its range.

    Source: Kurakin et al. (2017), Madry et al. (2018).
    """

    threat: Threat
    step: Steepest
    steps: int
    objective: Objective = CrossEntropy()
    start: Start = UniformStart()
    restarts: int = 1
    keep: str = "last"
    batch_norm: str = "running"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_step_size("ProjectedGradient", self.step.step_size, self.norm)
        if isinstance(self.objective, KLDivergence) and isinstance(self.start, CleanStart):
            raise ValueError(
                "KLDivergence with CleanStart: its gradient is zero at the clean image, so the "
                "attack would not move; use UniformStart or GaussianStart."
            )

    @property
    def eps(self) -> float:  # type: ignore[override]
        """Radius of the ball."""
        return self.threat.eps

    @property
    def step_size(self) -> float:  # type: ignore[override]
        """Of the step rule."""
        return self.step.step_size

    @property
    def norm(self) -> str:  # type: ignore[override]
        """'Linf', 'L2' or 'L1', or the name of another threat."""
        return type(self.threat).__name__


def _state_rows(state: State) -> Rows:
    return {f"state {n}": value for n, value in enumerate(state)}


def _state_in(rows: Rows) -> State:
    return tuple(value for name, value in rows.items() if name.startswith("state "))
