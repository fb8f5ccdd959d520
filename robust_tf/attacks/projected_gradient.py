"""The one gradient engine: threat x objective x start x step rule."""

from __future__ import annotations

import dataclasses
from typing import Any

import gin
import tensorflow as tf

from robust_tf import compat
from robust_tf.attacks.base import Attack
from robust_tf.attacks.network import Network, input_gradient
from robust_tf.attacks.objectives import CrossEntropy, KLDivergence, Objective
from robust_tf.attacks.randomness import fold
from robust_tf.attacks.steps import CleanStart, Steepest, UniformStart
from robust_tf.attacks.survivors import choose
from robust_tf.attacks.threat import Threat
from robust_tf.models.forward import check_batch_norm_mode


@gin.configurable
@compat.serializable
@dataclasses.dataclass(frozen=True)
class ProjectedGradient(Attack):
    """Ascends an objective inside a ball by projected steps.

    One step costs one forward and one gradient with respect to the images; `keep='best'`, and more
    than one restart, cost one more forward per restart.

    Args:
      threat: `Linf(eps)` or `L2(eps)`.
      step: `Steepest(step_size)` or `Momentum(step_size, decay)`.
      steps: number of steps, >= 1.
      objective: what to raise, `CrossEntropy()` by default.
      start: `UniformStart()` (default), `GaussianStart()` or `CleanStart()`.
      restarts: number of runs from fresh starts, >= 1; each example keeps its worst run.
      keep: 'last' iterate, or the 'best' one: misclassified before not, then highest objective.
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
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}={value!r}: must be an integer >= 1.")
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
        reference = network(x) if self.objective.needs_reference else None
        size = self.step.step_size * scale

        def values(logits: tf.Tensor) -> tf.Tensor:
            return self.objective.values(logits, y, reference)

        gradient_at = input_gradient(network, values)

        def ascend(iterate: tf.Tensor, state: Any) -> tuple[tf.Tensor, Any, tf.Tensor, tf.Tensor]:
            """One step; also the objective's values and logits where the step began."""
            gradient, values, logits = gradient_at(iterate)
            direction, state = self.step.direction(gradient, state)
            moved = iterate + size * self.threat.steepest(direction)
            return self.threat.project(moved, bounds), state, values, logits

        def last(start: tf.Tensor) -> tf.Tensor:
            def body(iterate: tf.Tensor, state: Any) -> Any:
                return ascend(iterate, state)[:2]

            return _repeat(body, (start, self.step.initial(x)), self.steps)[0]

        def best(start: tf.Tensor) -> _Best:
            def body(iterate: tf.Tensor, state: Any, kept: _Best) -> Any:
                moved, state, values, logits = ascend(iterate, state)
                return moved, state, self._better(kept, iterate, values, logits, y)

            kept = _nothing(x)
            iterate, _, kept = _repeat(body, (start, self.step.initial(x), kept), self.steps)
            return judged(kept, iterate)

        def judged(kept: _Best, candidate: tf.Tensor) -> _Best:
            logits = network(candidate)
            values = self.objective.values(logits, y, reference)
            return self._better(kept, candidate, values, logits, y)

        def attempt(restart: int | tf.Tensor, kept: _Best) -> _Best:
            start = self.start(self.threat, bounds, fold(seed, restart))
            if self.keep == "last":
                return judged(kept, last(start))
            return self._merge(kept, best(start))

        if self.restarts == 1 and self.keep == "last":
            return last(self.start(self.threat, bounds, fold(seed, 0)))
        if self.restarts == 1:
            return best(self.start(self.threat, bounds, fold(seed, 0)))[0]

        def body(restart: tf.Tensor, kept: _Best) -> Any:
            return restart + 1, attempt(restart, kept)

        return _repeat(body, (tf.constant(0), _nothing(x)), self.restarts)[1][0]

    def _better(
        self, kept: _Best, x: tf.Tensor, values: tf.Tensor, logits: tf.Tensor, y: tf.Tensor
    ) -> _Best:
        hit = tf.equal(tf.argmax(logits, axis=1, output_type=tf.int32), y)
        broken = hit if self.objective.targeted else tf.logical_not(hit)
        return self._merge(kept, (x, values, broken))

    @staticmethod
    def _merge(kept: _Best, other: _Best) -> _Best:
        """For each example the broken one, and among equals the one of higher value."""
        newly = tf.logical_and(other[2], tf.logical_not(kept[2]))
        higher = tf.logical_and(tf.equal(other[2], kept[2]), other[1] > kept[1])
        take = tf.logical_or(newly, higher)
        return (
            choose(take, other[0], kept[0]),
            tf.where(take, other[1], kept[1]),
            tf.logical_or(kept[2], other[2]),
        )


# Images, their objective's values (B,), whether they are misclassified (B,).
_Best = tuple[tf.Tensor, tf.Tensor, tf.Tensor]


def _nothing(x: tf.Tensor) -> _Best:
    batch = tf.shape(x)[:1]
    return x, tf.fill(batch, float("-inf")), tf.zeros(batch, tf.bool)


def _repeat(body: Any, variables: Any, times: int) -> Any:
    """`body` applied `times` times in one graph loop, states carried as loop variables."""
    if times == 1:
        return body(*variables)
    return tf.while_loop(
        lambda *_: True, body, variables, maximum_iterations=times, parallel_iterations=1
    )
