"""The loop of AutoPGD: projected gradient ascent that chooses its own step sizes."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from robust_tf.attacks.active_set import Rows, choose, on_active_set, per_image
from robust_tf.attacks.apgd_l1 import SparseAscent
from robust_tf.attacks.base import Attack
from robust_tf.attacks.network import Network, input_gradient
from robust_tf.attacks.objectives import is_misclassified, margin
from robust_tf.attacks.randomness import each, fold
from robust_tf.attacks.threat import Bounds, Budget, Threat, threat_of
from robust_tf.models.forward import check_batch_norm_mode
from robust_tf.validation import check_eps, check_norm, check_number

_KEEP = 0.75  # of the new step; the rest is the one before (momentum)
# All restarts and targets are one loop, so that what is adversarial late would be carried along
# for long; it leaves sooner than is usual.
_SHARE = 1 / 32


class AutoPGD(Attack):
    """The loop, `restarts` times at each aim; a subclass says what is raised, at which aims.

    An iteration costs `eot` forwards and as many gradients with respect to the images; a run has
    steps + 1 of them, the first of which is the start's. The clean images cost `eot` forwards. An
    example leaves, for all further runs, with the first image that is misclassified; one that is
    robust to the end keeps the image of the lowest margin.
    """

    eps: float
    steps: int
    norm: str
    restarts: int
    rho: float
    eot: int

    def __post_init__(self) -> None:
        owner = type(self).__name__
        check_norm(owner, self.norm)
        self._put(
            eps=check_eps(owner, self.eps, self.norm),
            rho=check_number(owner, "rho", self.rho, 0.0, "the paper uses 0.75", high=1.0),
        )
        whole = ("steps", "restarts", "eot", "targets")
        self._put_whole(*(name for name in whole if hasattr(self, name)))
        check_batch_norm_mode(self.batch_norm)

    def _values(self, logits: tf.Tensor, y: tf.Tensor, aim: tf.Tensor) -> tf.Tensor:
        """(B,), to be raised."""
        raise NotImplementedError

    def _aims(self, logits: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        """(B, number of aims) int32 classes, from the logits of the clean images."""
        raise NotImplementedError

    def run(
        self, network: Network, x: tf.Tensor, y: tf.Tensor, seed: tf.Tensor, budget: Budget
    ) -> tf.Tensor:
        ball = threat_of(self.norm, self.eps)
        bounds = ball.bounds(x, budget.eps)
        ascent: HalvingAscent | SparseAscent
        if self.norm == "L1":
            ascent = SparseAscent(ball, self.steps)
        else:
            ascent = HalvingAscent(ball, self.steps, self.rho, 2 * tf.cast(budget.eps, tf.float32))
        gradient_at = _mean(input_gradient(network, self._values), self.eot)
        (logits,) = _mean(lambda x: (network(x),), self.eot)(x)
        aims = self._aims(logits, y)

        def step(k: tf.Tensor, rows: Rows) -> Rows:
            run, i = k // ascent.length, k % ascent.length  # image 0 of a run is its start
            own = bounds.of(rows)
            image = ascent.image(i, rows, own, fold(rows["seed"], run))
            aim = tf.gather(rows["aims"], run // self.restarts, axis=1)
            gradient, value, logits = gradient_at(image, rows["y"], aim)
            rows = _judged(rows, image, logits, ascent.counts(i))
            return ascent.noted(i, rows, own, image, gradient, value)

        rows = {
            **bounds.rows(),
            **ascent.initial(x),
            "y": y,
            "x_adv": x,
            "margin": margin(logits, y),
            "is_adversarial": is_misclassified(logits, y),
            "aims": aims,
            "seed": each(seed, tf.shape(y)[0]),
        }
        return on_active_set(step, rows, aims.shape[1] * self.restarts * ascent.length, _SHARE)[0]


def checkpoints(steps: int, rho: float) -> list[int]:
    """For each iteration 0..steps, the rises up to which a step is too long; -1: no checkpoint.

    The first period is 0.22 of the steps, each further one 0.03 shorter, down to 0.06.
    """
    allowed = [-1] * (steps + 1)
    period, at = max(int(0.22 * steps), 1), 0
    while at + period <= steps:
        at += period
        allowed[at] = int(rho * period)
        period = max(period - max(int(0.03 * steps), 1), int(0.06 * steps), 1)
    return allowed


def _mean(function: Callable[..., tuple], times: int) -> Callable[..., tuple]:
    """`function` called so many times, and the mean of each tensor that it returns."""
    if times == 1:
        return function

    def mean(*arguments: tf.Tensor) -> tuple:
        def add(*total: tf.Tensor) -> tuple:
            return tuple(a + b for a, b in zip(total, function(*arguments), strict=True))

        total = tf.while_loop(
            lambda *_: True,
            add,
            function(*arguments),
            maximum_iterations=times - 1,
            parallel_iterations=1,
        )
        return tuple(value / times for value in total)

    return mean


def _judged(
    rows: Rows, image: tf.Tensor, logits: tf.Tensor, counts: bool | tf.Tensor = True
) -> Rows:
    """What the attack would return, after one more image, if that counts."""
    reached, is_adversarial = margin(logits, rows["y"]), is_misclassified(logits, rows["y"])
    is_adversarial = tf.logical_and(is_adversarial, counts)
    take = tf.logical_or(is_adversarial, tf.logical_and(reached < rows["margin"], counts))
    return {
        **rows,
        "x_adv": choose(take, image, rows["x_adv"]),
        "margin": tf.where(take, tf.minimum(reached, rows["margin"]), rows["margin"]),
        "is_adversarial": is_adversarial,
    }


class HalvingAscent:
    """The images at which a run looks, in L-inf and L2: momentum, and steps that are halved.

    Args:
      ball: the threat.
      steps: of a run.
      rho: see `APGD`.
      first_step: scalar.

    Attributes:
      length: images at which a run looks.
    """

    def __init__(self, ball: Threat, steps: int, rho: float, first_step: tf.Tensor):
        self.ball, self.length, self.first_step = ball, steps + 1, first_step
        self.allowed = tf.constant(checkpoints(steps, rho))

    def initial(self, x: tf.Tensor) -> Rows:
        """The state before the first run; its start sets what is 0 here."""
        number = tf.zeros(tf.shape(x)[:1], tf.float32)
        return {
            "iterate": x,
            "before": x,
            "gradient": tf.zeros_like(x),
            "value": number,
            "best": x,
            "best_gradient": tf.zeros_like(x),
            "best_value": number,
            "best_at_checkpoint": number,
            "rises": tf.zeros(tf.shape(x)[:1], tf.int32),
            "reduced": tf.ones(tf.shape(x)[:1], tf.bool),
            "step_size": number,
        }

    def counts(self, i: tf.Tensor) -> bool:
        """Whether image i of a run may be what the attack returns."""
        return True

    def image(self, i: tf.Tensor, rows: Rows, bounds: Bounds, seed: tf.Tensor) -> tf.Tensor:
        """Image i of a run."""
        return tf.cond(
            tf.equal(i, 0),
            lambda: _start(self.ball, bounds, seed),
            lambda: _moved(self.ball, bounds, rows, tf.where(i > 1, _KEEP, 1.0)),
        )

    def noted(
        self,
        i: tf.Tensor,
        rows: Rows,
        bounds: Bounds,
        image: tf.Tensor,
        gradient: tf.Tensor,
        value: tf.Tensor,
    ) -> Rows:
        """The state after image i."""
        fresh = tf.equal(i, 0)
        rows = _noted(rows, image, gradient, value, fresh)
        rows["step_size"] = tf.where(fresh, self.first_step, rows["step_size"])
        return _adapted(rows, self.allowed[i])


def _start(ball: Threat, bounds: Bounds, seed: tf.Tensor) -> tf.Tensor:
    """A random point at distance eps, then cut to [0, 1]."""
    noise = ball.random(bounds.center, seed)
    length = tf.maximum(ball.distance(noise, tf.zeros_like(noise)), 1e-12)
    return ball.project(bounds.center + bounds.radius * noise / per_image(length, noise), bounds)


def _moved(ball: Threat, bounds: Bounds, rows: Rows, keep: tf.Tensor) -> tf.Tensor:
    """A projected step, of which `keep` is taken, and the rest of the step before."""
    x = rows["iterate"]
    new = ball.step(x, rows["gradient"], per_image(rows["step_size"], x), bounds)
    return ball.project(x + keep * (new - x) + (1 - keep) * (x - rows["before"]), bounds)


def _noted(
    rows: Rows, moved: tf.Tensor, gradient: tf.Tensor, value: tf.Tensor, fresh: tf.Tensor
) -> Rows:
    """The ascent's record, after one more image; where it is a run's start, a new record."""
    higher = tf.logical_or(fresh, value > rows["best_value"])
    rises = rows["rises"] + tf.cast(value > rows["value"], tf.int32)
    return {
        **rows,
        "before": rows["iterate"],
        "iterate": moved,
        "gradient": gradient,
        "value": value,
        "best": choose(higher, moved, rows["best"]),
        "best_gradient": choose(higher, gradient, rows["best_gradient"]),
        "best_value": tf.where(higher, value, rows["best_value"]),
        "best_at_checkpoint": tf.where(fresh, value, rows["best_at_checkpoint"]),
        "rises": tf.where(fresh, 0, rises),
        # So that the first checkpoint looks at the rises alone.
        "reduced": tf.logical_or(fresh, rows["reduced"]),
    }


def _adapted(rows: Rows, allowed: tf.Tensor) -> Rows:
    """At a checkpoint: half the step, from the best point, where the steps are too long."""
    due = allowed >= 0
    unchanged = rows["best_value"] <= rows["best_at_checkpoint"]
    stuck = tf.logical_and(unchanged, tf.logical_not(rows["reduced"]))
    reduce = tf.logical_and(due, tf.logical_or(rows["rises"] <= allowed, stuck))
    return {
        **rows,
        "step_size": tf.where(reduce, rows["step_size"] / 2, rows["step_size"]),
        "iterate": choose(reduce, rows["best"], rows["iterate"]),
        "gradient": choose(reduce, rows["best_gradient"], rows["gradient"]),
        "best_at_checkpoint": tf.where(due, rows["best_value"], rows["best_at_checkpoint"]),
        "rises": tf.where(due, 0, rows["rises"]),
        "reduced": tf.where(due, reduce, rows["reduced"]),
    }
