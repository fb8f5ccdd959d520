"""The inner problem of squeeze training: two points of the ball, as far apart as can be."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import tensorflow as tf

from robust_tf import losses, registration
from robust_tf.attacks.active_set import choose
from robust_tf.attacks.base import Attack
from robust_tf.attacks.network import Network, finite, input_gradient, pull
from robust_tf.attacks.randomness import fold
from robust_tf.attacks.steps import GaussianStart, Start, UniformStart
from robust_tf.attacks.threat import Bounds, Budget, Linf
from robust_tf.models.differentiation import differentiated
from robust_tf.models.forward import check_batch_norm_mode
from robust_tf.validation import check_eps, check_step_size, check_whole

LINF = Linf(1.0)  # whose radius here is always that of a budget
STARTS: dict[str, Start] = {"gaussian": GaussianStart(), "uniform": UniformStart()}


@registration.configurable
@registration.serializable
@dataclasses.dataclass(frozen=True)
class SqueezeAttack(Attack):
    """Searches an adversarial and a collaborative example together, in an L-inf ball.

    Of three candidates for each example, the clean image and the two images of the step before, the
    one with the smallest p_y becomes the adversarial member, the one with the largest p_y the
    collaborative member; then both take a step of steepest ascent of R between their predictions.
    A member is its image and its gradient: where roles are swapped, or the clean image takes one,
    both go along. (The released program leaves the gradient behind where no example of the batch
    chose its clean image.)

    A step costs two forwards and two gradients, the least there is for two moving images, and
    before the first step one forward of the clean images. Where an example chooses its clean image
    the gradient there costs more: without batch statistics, a forward and a gradient of those
    examples alone; with them, one gradient of the batch, as the clean forward is kept.

    Args:
      eps: radius of the ball, >= 0.
      step_size: of each step, > 0.
      steps: number of steps, >= 1.
      start: 'gaussian' (0.001; ST) or 'uniform' (ST with RST), drawn anew for either member.
      regularizer: R, 'symmetric_kl' (program), 'js' or 'l2'; see `losses.squeeze_regularizer`.
      detach_targets: of the symmetric KL.
      batch_norm: mode of `robust_tf.models.BatchNormalization` in the attack: 'batch' (program),
        'running' or 'training'. With 'running' examples do not see each other, and both images go
        through the model in one pass.

    Raises:
      ValueError: an argument outside its range.

    Source: Li et al. (2023), arXiv 2205.11156, and `losses.py` of its program. The program does not
    cut the starts to [0, 1].
    """

    eps: float
    step_size: float
    steps: int
    start: str = "gaussian"
    regularizer: str = "symmetric_kl"
    detach_targets: bool = True
    batch_norm: str = "batch"
    has_step_size: ClassVar[bool] = True
    renamed: ClassVar[dict[str, str]] = {"regulariser": "regularizer"}

    def __post_init__(self) -> None:
        self._put(
            eps=check_eps("SqueezeAttack", self.eps),
            step_size=check_step_size("SqueezeAttack", self.step_size),
            steps=check_whole("SqueezeAttack", "steps", self.steps, 1),
        )
        if self.start not in STARTS:
            raise ValueError(
                f"SqueezeAttack(start={self.start!r}): must be one of {tuple(STARTS)}."
            )
        losses.squeeze_regularizer(self.regularizer)
        check_batch_norm_mode(self.batch_norm)

    def apart(self, candidates: Sequence[tf.Tensor], y: tf.Tensor) -> tf.Tensor:
        """R between the two extreme ones of these logits (B, C), (B,); gradients to those two."""
        upper, lower = losses.squeeze_pair(candidates, y)
        distance = losses.squeeze_regularizer(self.regularizer, self.detach_targets)
        return distance(pick(candidates, upper), pick(candidates, lower))

    def members(
        self,
        model: Callable[..., Any],
        x: Any,
        y: Any,
        *,
        seed: int | tf.Tensor = 0,
        scale: float | tf.Tensor = 1.0,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Adversarial and collaborative images; arguments and errors as in a call of the attack."""
        return self.enter("search", model, x, y, seed, self.budget(scale=scale))

    def run(
        self, network: Network, x: tf.Tensor, y: tf.Tensor, seed: tf.Tensor, budget: Budget
    ) -> tf.Tensor:
        return self.search(network, x, y, seed, budget)[0]

    def starts(self, bounds: Bounds, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Adversarial and collaborative images before the first step."""
        start = STARTS[self.start]
        return start(LINF, bounds, fold(seed, 0)), start(LINF, bounds, fold(seed, 1))

    def search(
        self, network: Network, x: tf.Tensor, y: tf.Tensor, seed: tf.Tensor, budget: Budget
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """`members` as graph code, like `run`."""
        bounds = LINF.bounds(x, budget.eps)
        clean, at_clean = self._clean(network, x)
        together = network if self._independent else _one_by_one(network)

        def values(logits: tf.Tensor, clean: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
            return self.apart([clean, *tf.split(logits, 2)], y)

        gradient_at = input_gradient(together, values)

        def body(x_adv: tf.Tensor, x_col: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            moving, _, logits = gradient_at(tf.concat([x_col, x_adv], 0), clean, y)
            candidates = [clean, *tf.split(logits, 2)]
            upper, lower = losses.squeeze_pair(candidates, y)
            gradients = [at_clean(candidates, y, (upper == 0) | (lower == 0)), *tf.split(moving, 2)]
            images = [x, x_col, x_adv]

            def member(role: tf.Tensor) -> tf.Tensor:
                image, gradient = pick(images, role), pick(gradients, role)
                return LINF.step(image, gradient, budget.step_size, bounds)

            return member(upper), member(lower)

        return tf.while_loop(
            lambda *_: True,
            body,
            self.starts(bounds, seed),
            maximum_iterations=self.steps,
            parallel_iterations=1,
        )

    @property
    def _independent(self) -> bool:
        """Whether examples of a batch do not see each other."""
        return self.batch_norm == "running"

    def _clean(self, network: Network, x: tf.Tensor) -> tuple[tf.Tensor, Callable[..., tf.Tensor]]:
        """Logits of the clean images, and (candidates, y, chosen) -> the gradient of R there."""
        with tf.GradientTape(watch_accessed_variables=False, persistent=True) as forward:
            if not self._independent:
                forward.watch(x)
            with differentiated() as counts:
                logits = network(x)
        gradient_at = input_gradient(network, lambda out, up: tf.reduce_sum(out * up, axis=1))

        def of_the_chosen(upstream: tf.Tensor, chosen: tf.Tensor) -> tf.Tensor:
            rows = tf.where(chosen)
            gradient, *_ = gradient_at(tf.gather_nd(x, rows), tf.gather_nd(upstream, rows))
            return tf.scatter_nd(rows, gradient, tf.shape(x, tf.int64))

        def of_all(upstream: tf.Tensor) -> tf.Tensor:
            for count in counts:
                count()
            return finite(pull(forward, logits, x, upstream))

        def at_clean(candidates: Sequence[tf.Tensor], y: tf.Tensor, chosen: tf.Tensor) -> tf.Tensor:
            with tf.GradientTape() as tape:
                own = tf.identity(candidates[0])
                tape.watch(own)
                value = self.apart([own, *candidates[1:]], y)
            upstream = tape.gradient(value, own)
            return tf.cond(
                tf.reduce_any(chosen),
                lambda: of_the_chosen(upstream, chosen) if self._independent else of_all(upstream),
                lambda: tf.zeros_like(x),
            )

        return logits, at_clean


def pick(candidates: Sequence[tf.Tensor], index: tf.Tensor) -> tf.Tensor:
    """For each example that of the candidates (B, ...) whose position is `index` (B,)."""
    picked = candidates[0]
    for position, candidate in enumerate(candidates[1:], start=1):
        picked = choose(tf.equal(index, position), candidate, picked)
    return picked


def _one_by_one(network: Network) -> Network:
    """Two batches in one tensor through the network apart, each with statistics of its own."""
    return lambda both: tf.concat([network(batch) for batch in tf.split(both, 2)], 0)
