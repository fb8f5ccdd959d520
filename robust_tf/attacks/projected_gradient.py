"""The one gradient engine: threat x objective x start x step rule."""

from __future__ import annotations

import dataclasses
from typing import Any

import tensorflow as tf

from robust_tf import registration
from robust_tf.attacks.active_set import Rows, choose, on_active_set
from robust_tf.attacks.base import Attack
from robust_tf.attacks.network import Network, input_gradient
from robust_tf.attacks.objectives import CrossEntropy, KLDivergence, Objective
from robust_tf.attacks.randomness import each, fold
from robust_tf.attacks.steps import CleanStart, Steepest, UniformStart
from robust_tf.attacks.threat import Threat
from robust_tf.models.forward import check_batch_norm_mode
from robust_tf.validation import check_step_size, check_whole

# With `keep='best'` an example may leave at any step, but not for each one is the state of the
# others copied.
_SHARE = 1 / 32


@registration.configurable
@registration.serializable
@dataclasses.dataclass(frozen=True)
class ProjectedGradient(Attack):
    """Ascends an objective inside a ball by projected steps.

    One step costs one forward and one gradient with respect to the images; `keep='best'`, and more
    than one restart, cost one more forward per restart. There an example leaves the batch with the
    first image that is misclassified, and costs nothing more (with 'best', as soon as they are more
    than 1/32 of the batch): its result is that image, though a later one might have a higher
    objective. In the modes of `batch_norm` where examples see each other none leaves.

    Args:
      threat: `Linf(eps)` or `L2(eps)`.
      step: `Steepest(step_size)` or `Momentum(step_size, decay)`.
      steps: number of steps, >= 1.
      objective: what to raise, `CrossEntropy()` by default.
      start: `UniformStart()` (default), `GaussianStart()` or `CleanStart()`.
      restarts: number of runs from fresh starts, >= 1, each on what the ones before left standing;
        of an example that withstands them all, the run of the highest objective is kept.
      keep: 'last' iterate, or the 'best' one: the first that is misclassified, else the one of the
        highest objective.
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
    start: Any = UniformStart()
    restarts: int = 1
    keep: str = "last"
    batch_norm: str = "running"

    def __post_init__(self) -> None:
        for name in ("steps", "restarts"):
            whole = check_whole("ProjectedGradient", name, getattr(self, name), 1)
            object.__setattr__(self, name, whole)
        check_step_size("ProjectedGradient", self.step.step_size, type(self.threat).__name__)
        if self.keep not in ("last", "best"):
            raise ValueError(f"keep={self.keep!r}: must be 'last' or 'best'.")
        check_batch_norm_mode(self.batch_norm)
        if isinstance(self.objective, KLDivergence) and isinstance(self.start, CleanStart):
            raise ValueError(
                "KLDivergence with CleanStart: its gradient is zero at the clean image, so the "
                "attack would not move; use UniformStart or GaussianStart."
            )

    def run(
        self, network: Network, x: tf.Tensor, y: tf.Tensor, seed: tf.Tensor, scale: tf.Tensor
    ) -> tf.Tensor:
        bounds = self.threat.bounds(x, scale)
        reference = self.objective.reference(network, x)
        size = self.step.step_size * scale
        gradient_at = input_gradient(network, self.objective.values)
        rows = {"y": y, **bounds.rows()}
        if reference is not None:
            rows["reference"] = reference

        def ascend(iterate: tf.Tensor, state: _State, rows: Rows) -> tuple:
            """One step; also the objective's values and logits where the step began."""
            gradient, values, logits = gradient_at(iterate, rows["y"], rows.get("reference"))
            direction, state = self.step.direction(gradient, state)
            moved = iterate + size * self.threat.steepest(direction)
            return self.threat.project(moved, bounds.of(rows)), state, values, logits

        def judge(x: tf.Tensor, rows: Rows) -> tuple[tf.Tensor, tf.Tensor]:
            logits = network(x)
            return self.objective.values(logits, rows["y"], rows.get("reference")), logits

        def start(rows: Rows, seed: tf.Tensor) -> tuple[tf.Tensor, _State]:
            iterate = self.start(self.threat, bounds.of(rows), seed)
            return iterate, self.step.initial(iterate)

        def last(rows: Rows, seed: tf.Tensor) -> tf.Tensor:
            def body(iterate: tf.Tensor, state: _State) -> Any:
                return ascend(iterate, state, rows)[:2]

            return _repeat(body, start(rows, seed), self.steps)[0]

        def attempt(run: tf.Tensor, rows: Rows) -> Rows:
            """A whole run, of which the last iterate counts."""
            iterate = last(rows, fold(rows["seed"], run))
            return self._judged(rows, iterate, *judge(iterate, rows))

        def look(k: tf.Tensor, rows: Rows) -> Rows:
            """An iterate of a run, and the step to the next one, if there is one."""
            run, i = k // (self.steps + 1), k % (self.steps + 1)
            iterate, state = tf.cond(
                tf.equal(i, 0),
                lambda: start(rows, fold(rows["seed"], run)),
                lambda: (rows["iterate"], _state_in(rows)),
            )
            moved, state, values, logits = tf.cond(
                i < self.steps,
                lambda: ascend(iterate, state, rows),
                lambda: (iterate, state, *judge(iterate, rows)),
            )
            rows = {**rows, "iterate": moved, **_state_rows(state)}
            return self._judged(rows, iterate, values, logits)

        if self.restarts == 1 and self.keep == "last":
            return last(rows, fold(seed, 0))
        rows |= {"x_adv": x, "seed": each(seed, tf.shape(y)[0])}
        rows |= {"value": tf.fill(tf.shape(y), float("-inf"))}
        rows |= {"broken": tf.zeros(tf.shape(y), tf.bool)}
        alone = self.batch_norm == "running"  # else those that stay would see others than before
        if self.keep == "last":
            return on_active_set(attempt, rows, self.restarts, 0.0 if alone else 1.0)[0]
        rows |= {"iterate": x, **_state_rows(self.step.initial(x))}
        looks = self.restarts * (self.steps + 1)
        return on_active_set(look, rows, looks, _SHARE if alone else 1.0)[0]

    def _judged(self, rows: Rows, x: tf.Tensor, values: tf.Tensor, logits: tf.Tensor) -> Rows:
        """What the attack would return, after one more image of each example."""
        hit = tf.equal(tf.argmax(logits, axis=1, output_type=tf.int32), rows["y"])
        broken = hit if self.objective.targeted else tf.logical_not(hit)
        take = tf.logical_or(broken, values > rows["value"])
        return {
            **rows,
            "x_adv": choose(take, x, rows["x_adv"]),
            "value": tf.where(take, values, rows["value"]),
            "broken": broken,
        }


# What a step rule carries from step to step; each tensor's first axis is the example.
_State = tuple[tf.Tensor, ...]


def _state_rows(state: _State) -> Rows:
    return {f"state {n}": value for n, value in enumerate(state)}


def _state_in(rows: Rows) -> _State:
    return tuple(value for name, value in rows.items() if name.startswith("state "))


def _repeat(body: Any, variables: Any, times: int) -> Any:
    """`body` applied `times` times in one graph loop, states carried as loop variables."""
    if times == 1:
        return body(*variables)
    return tf.while_loop(
        lambda *_: True, body, variables, maximum_iterations=times, parallel_iterations=1
    )
