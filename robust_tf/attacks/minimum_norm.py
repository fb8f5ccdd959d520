"""Minimum-norm attacks: how far each image is from the nearest misclassified one.

A subclass says how it looks for that image (`search`). With `eps=None` its call returns the image
itself, wherever it is; with an eps it is an attack like any other, which succeeds where the image
is at most so far away. `minimal_distance` gives the distances in either case.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from robust_tf.attacks import randomness
from robust_tf.attacks.active_set import Rows, choose, on_active_set, per_image
from robust_tf.attacks.base import Attack, MinimalDistance
from robust_tf.attacks.network import Network, input_gradient
from robust_tf.attacks.objectives import is_misclassified
from robust_tf.attacks.threat import Budget, Threat, flat, threat_of
from robust_tf.validation import check_eps

# The order of the norm that belongs to a norm, in which a gradient says how far a plane is.
_DUAL = {"Linf": 1, "L2": 2, "L1": math.inf}


class Nearest(NamedTuple):
    """What a search has found.

    x_adv: the nearest misclassified images (B, ...), the clean ones among them; where there is
      none, whatever the search has come to, in [0, 1].
    found: bool (B,), whether they are misclassified.
    queries: int32 (B,) or a number, images that went through the model beside the clean ones, if
      none left early.
    """

    x_adv: tf.Tensor
    found: tf.Tensor
    queries: tf.Tensor | int


class MinimumNorm(Attack):
    """Base of the attacks that look for the nearest misclassified image.

    Attributes:
      eps: radius of the ball; None: there is none, and a call returns the nearest misclassified
        image that was found, or the clean one where none was.
      norm: in which images are near.
    """

    eps: float | None = None  # type: ignore[assignment]

    @property
    def measures_distance(self) -> bool:  # type: ignore[override]
        """Whether what a call returns says how far the nearest misclassified image is."""
        return self.eps is None

    @property
    def ball(self) -> Threat:
        """Around each clean image; its norm is the one that is minimized."""
        return threat_of(self.norm, 1.0 if self.eps is None else self.eps)

    def _check_eps(self) -> None:
        if self.eps is not None:
            hint = "None measures the distance; 8 / 255 is common for CIFAR-10, 0.3 for MNIST"
            self._put(eps=check_eps(type(self).__name__, self.eps, self.norm, hint))

    def search(
        self,
        network: Network,
        x: tf.Tensor,
        y: tf.Tensor,
        seed: tf.Tensor,
        budget: Budget,
        near: tf.Tensor,
    ) -> Nearest:
        """Graph code; an example may leave when it has an image at most `near` away, a scalar.

        A negative `near` lets none leave but those whose clean image is misclassified.
        """
        raise NotImplementedError

    def run(
        self, network: Network, x: tf.Tensor, y: tf.Tensor, seed: tf.Tensor, budget: Budget
    ) -> tf.Tensor:
        bounds, limited = self.ball.bounds(x, budget.eps), tf.math.is_finite(budget.eps)
        # The distance is rounded too: this much nearer and the image is inside for certain.
        near = tf.where(limited, bounds.radius * (1 - 2.0**-20), -1.0)
        x_adv, found, _ = self.search(network, x, y, seed, budget, near)
        inside = self.ball.distance(x_adv, x) <= near
        other = tf.where(limited, self.ball.project(x_adv, bounds), x)
        return choose(inside | (found & ~limited), x_adv, other)

    def minimal_distance(
        self, model: Callable[..., Any], x: Any, y: Any, *, seed: int | tf.Tensor = 0
    ) -> MinimalDistance:
        """How far each image is from the nearest misclassified one, wherever eps is.

        An upper bound of the least distance, in the attack's norm. Compiled once for a model and
        shape of image.

        Args:
          model: as for a call.
          x: float32 images in [0, 1].
          y: integer labels (B,).
          seed: as for a call.

        Raises:
          TypeError, ValueError: as a call.
        """
        return self.enter("closest", model, x, y, seed, self.budget())

    def closest(
        self, network: Network, x: tf.Tensor, y: tf.Tensor, seed: tf.Tensor, budget: Budget
    ) -> MinimalDistance:
        """The graph code of `minimal_distance`; no example leaves before the end."""
        near = tf.constant(-1.0, x.dtype)
        x_adv, found, queries = self.search(network, x, y, seed, budget, near)
        x_adv = choose(found, x_adv, x)
        distance = tf.where(found, self.ball.distance(x, x_adv), float("inf"))
        # An example that is misclassified from the start is left alone, at distance 0.
        return MinimalDistance(distance, x_adv, tf.where(distance > 0, queries, 0))


class GradientSearch(MinimumNorm):
    """Base of DDN and FMN: steps along a gradient, cut to a radius that closes in on the boundary.

        point <- P_radius(point + step * g / ||g||_2)

    A misclassified point makes the radius smaller, another one larger; the nearest misclassified
    point of all is the result. A step costs one forward and one backward. The first point is the
    clean image; the one after the last step costs one forward more and counts, too. No other one
    is made: the clean images cost nothing beside.

    A subclass is a frozen dataclass with `steps`, and the methods up to `cut`.
    """

    steps: int

    def step_length(self, k: tf.Tensor) -> tf.Tensor:
        """The L2 norm of step k."""
        raise NotImplementedError

    def values(self, logits: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        """What the steps raise, (B,), from logits (B, C) and labels."""
        raise NotImplementedError

    def next_radius(self, k: tf.Tensor, rows: Rows, wrong: tf.Tensor, away: tf.Tensor) -> tf.Tensor:
        """The radius (n,) that the next point is cut to; beyond the farthest corner it is that.

        Args:
          k: number of the step, from 0, an int32 scalar.
          rows: 'radius', the one before; 'distance' of the point, and 'best', that of the nearest
            misclassified point, this one included; inf: none yet.
          wrong: bool (n,), whether the point is misclassified.
          away: (n,), how far the boundary seems: |value| / dual norm of the gradient; inf where
            that is 0.
        """
        raise NotImplementedError

    def cut(self, step: tf.Tensor, x: tf.Tensor, radius: tf.Tensor, found: tf.Tensor) -> tf.Tensor:
        """The next point, in [0, 1], from its step away from x and its radius (n,).

        `found`, bool (n,), says whether there has been a misclassified point.
        """
        raise NotImplementedError

    def search(
        self,
        network: Network,
        x: tf.Tensor,
        y: tf.Tensor,
        seed: tf.Tensor,
        budget: Budget,
        near: tf.Tensor,
    ) -> Nearest:
        gradient_at = input_gradient(network, self.values)
        unknown = tf.fill(tf.shape(y), float("inf"))
        rows = {
            "x": x,
            "y": y,
            "seed": randomness.each(seed, tf.shape(y)[0]),
            "point": x,
            "x_adv": x,
            "radius": tf.zeros_like(unknown),
            "distance": unknown,
            "best": unknown,
            "is_adversarial": tf.zeros(tf.shape(y), tf.bool),
        }

        def judged(rows: Rows, wrong: tf.Tensor) -> Rows:
            distance = self.ball.distance(rows["point"], rows["x"])
            closer = wrong & (distance < rows["best"])
            best = tf.where(closer, distance, rows["best"])
            keep = ~closer & tf.math.is_finite(best)
            x_adv = choose(keep, rows["x_adv"], rows["point"])
            return {**rows, "x_adv": x_adv, "distance": distance, "best": best}

        def step(k: tf.Tensor, rows: Rows) -> Rows:
            def ascend() -> Rows:
                gradient, value, logits = gradient_at(rows["point"], rows["y"])
                wrong = is_misclassified(logits, rows["y"])
                seen, x, slope = judged(rows, wrong), rows["x"], flat(gradient)
                away = tf.abs(value) / _length(slope, _DUAL[self.norm])
                radius = self.next_radius(k, seen, wrong, away)
                # Past the farthest corner of the box the ball holds all of it.
                reach = self.ball.distance(tf.maximum(x, 1 - x), tf.zeros_like(x))
                radius = tf.where(tf.math.is_finite(radius), tf.minimum(radius, reach), reach)
                unit = tf.reshape(_unit(slope, rows["seed"], k), tf.shape(x))
                step = seen["point"] + self.step_length(k) * unit - x
                point = self.cut(step, x, radius, tf.math.is_finite(seen["best"]))
                return {**seen, "point": point, "radius": radius}

            def last() -> Rows:
                return judged(rows, is_misclassified(network(rows["point"]), rows["y"]))

            moved = tf.cond(k < self.steps, ascend, last)
            best = moved["best"]
            done = (best <= near) | (best <= 0) | ((k >= self.steps) & tf.math.is_finite(best))
            return {**moved, "is_adversarial": done}

        # In other modes of batch normalization those that stay would see others than before.
        share = 0.125 if self.batch_norm == "running" else 1.0
        return Nearest(*on_active_set(step, rows, self.steps + 1, share), self.steps)


def annealed(k: tf.Tensor, steps: int, first: float, last: float) -> tf.Tensor:
    """From `first` at step k = 0 towards `last` at k = steps, along half a period of a cosine."""
    turn = math.pi * tf.cast(k, tf.float32) / steps
    return last + (first - last) * (1 + tf.cos(turn)) / 2


def scaled_to(step: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    """The step (n, ...), made to have this L2 norm (n,)."""
    own = tf.maximum(tf.norm(flat(step), axis=1), 1e-12)
    return step * per_image(length / own, step)


def _length(slope: tf.Tensor, order: float) -> tf.Tensor:
    """The norm of gradients (n, m), also of those whose squares are 0."""
    largest = tf.reduce_max(tf.abs(slope), axis=1, keepdims=True)
    return largest[:, 0] * tf.norm(tf.math.divide_no_nan(slope, largest), order, axis=1)


def _unit(slope: tf.Tensor, seed: tf.Tensor, k: tf.Tensor) -> tf.Tensor:
    """Gradients (n, m) made to have L2 norm 1; a random direction where one is 0."""
    largest = tf.reduce_max(tf.abs(slope), axis=1, keepdims=True)
    lost = tf.logical_not(largest > 0)

    def replaced() -> tf.Tensor:
        noise = randomness.normal(randomness.fold(seed, k), tf.shape(slope))
        return tf.where(lost, noise, slope)

    slope = tf.cond(tf.reduce_any(lost), replaced, lambda: slope)
    # First by the largest entry: squares of small numbers are 0.
    slope = slope / tf.reduce_max(tf.abs(slope), axis=1, keepdims=True)
    return slope / tf.norm(slope, axis=1, keepdims=True)
