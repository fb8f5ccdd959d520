"""FAB, the fast adaptive boundary attack: looks for the nearest misclassified image."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from robust_tf import registration
from robust_tf.attacks import fab_projections, randomness
from robust_tf.attacks.active_set import Rows, choose, on_active_set, per_image
from robust_tf.attacks.minimum_norm import MinimumNorm, Nearest
from robust_tf.attacks.network import Network, finite, input_gradient, num_classes_of
from robust_tf.attacks.objectives import is_misclassified
from robust_tf.attacks.threat import Budget, flat
from robust_tf.models.differentiation import differentiated
from robust_tf.models.forward import check_batch_norm_mode
from robust_tf.validation import check_norm, check_number

# (points, labels, targets) -> gradient of z_t - z_y at the points, and its value (B,).
BoundaryAt = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


@registration.configurable
@registration.serializable
@dataclasses.dataclass(frozen=True)
class FAB(MinimumNorm):
    """Steps to the boundary as it looks from here, drawn towards the clean image all the way.

    An iteration takes the boundary between two classes for the hyperplane which it is to first
    order, moves to the projections onto it of the iterate and of the clean image, mixed, a little
    beyond; where that is misclassified it goes back part of the way to the clean image.

    An iteration costs two forwards and one backward, or C - 1 backwards if not targeted. The extra
    forward asks whether the new image is misclassified, which decides where the next gradient is
    taken. As that is so every second time, a gradient taken at each new image, and once more where
    it proves wrong, would cost more. The clean images cost one forward.

    An example leaves as soon as a misclassified image within eps is found; the source asks after
    each run, with the same verdict. The others give their nearest misclassified image, or else
    their last one, projected.

    Args:
      eps: radius of the ball, also the scale of random starts; None: no ball, the nearest
        misclassified image wherever it is.
      steps: iterations of each run, >= 1.
      targeted: one run for each target, in the order of the clean image's logits; otherwise the
        class whose boundary seems nearest is chosen anew in each iteration.
      targets: how many, >= 1; at most C - 1 are there.
      norm: 'Linf', 'L2' or 'L1', the one that is minimized.
      restarts: runs (for each target), >= 1; the first starts at the clean image, the others at
        random, half as far from it as eps or the best image found.
      alpha_max: in [0, 1], the greatest weight of the projection of the clean image.
      eta: >= 1, how far beyond the boundary.
      beta: in (0, 1], how much of the way is kept on going back.
      batch_norm: mode of `robust_tf.models.BatchNormalization`: 'running', 'batch' or 'training'.

    Raises:
      ValueError: an argument outside its range.

    Source: Croce & Hein (2020), 'Minimally distorted adversarial examples with a fast adaptive
    boundary attack'. Where they differ, AutoAttack's program is followed: no final search on the
    line to the clean image.
    """

    eps: float | None = None
    steps: int = 100
    targeted: bool = True
    targets: int = 9
    norm: str = "Linf"
    restarts: int = 1
    alpha_max: float = 0.1
    eta: float = 1.05
    beta: float = 0.9
    batch_norm: str = "running"

    def __post_init__(self) -> None:
        check_norm("FAB", self.norm)
        self._put_whole("steps", "targets", "restarts")
        self._check_eps()
        paper = "the paper uses {:g}".format
        self._put(
            alpha_max=check_number("FAB", "alpha_max", self.alpha_max, 0.0, paper(0.1), high=1.0),
            eta=check_number("FAB", "eta", self.eta, 1.0, paper(1.05)),
            beta=check_number("FAB", "beta", self.beta, 0.0, paper(0.9), high=1.0, strict=True),
        )
        check_batch_norm_mode(self.batch_norm)

    def notes(self, num_classes: int) -> list[str]:
        if not self.targeted or self.targets < num_classes:
            return []
        return [f"FAB: {num_classes - 1} targets in place of {self.targets}; there are no more."]

    def search(
        self,
        network: Network,
        x: tf.Tensor,
        y: tf.Tensor,
        seed: tf.Tensor,
        budget: Budget,
        near: tf.Tensor,
    ) -> Nearest:
        logits = network(x)
        targets = min(self.targets, num_classes_of(logits) - 1) if self.targeted else 1
        iterations = targets * self.restarts * self.steps
        rows = {
            "x": x,
            "y": y,
            "seed": randomness.each(seed, tf.shape(y)[0]),
            "ranked": tf.math.top_k(logits, targets + 1).indices[:, 1:],
            "point": x,
            "x_adv": x,
            "best": tf.fill(tf.shape(y), float("inf")),
            "is_adversarial": is_misclassified(logits, y),
        }
        boundary_at = (
            self._boundary_to_target(network) if self.targeted else self._boundary(network)
        )

        def start(run: tf.Tensor, rows: Rows) -> tf.Tensor:
            if self.restarts == 1:
                return rows["x"]
            first = tf.equal(run % self.restarts, 0)
            return tf.cond(first, lambda: rows["x"], lambda: self._random_start(run, rows, budget))

        def step(k: tf.Tensor, rows: Rows) -> Rows:
            x, y, run = rows["x"], rows["y"], k // self.steps
            new = tf.equal(k % self.steps, 0)
            point = tf.cond(new, lambda: start(run, rows), lambda: rows["point"])
            target = tf.gather(rows["ranked"], run // self.restarts, axis=1)
            point = self._move(x, point, *boundary_at(point, y, target))

            wrong = is_misclassified(network(point), y)
            distance = self.ball.distance(point, x)
            closer = wrong & (distance < rows["best"])
            best = tf.where(closer, distance, rows["best"])
            keep = tf.logical_not(closer) & tf.math.is_finite(best)
            last = tf.equal(k, iterations - 1)
            return {
                **rows,
                "x_adv": choose(keep, rows["x_adv"], point),
                "best": best,
                "point": choose(wrong, x + self.beta * (point - x), point),
                "is_adversarial": (best <= near) | (last & tf.math.is_finite(best)),
            }

        return Nearest(*on_active_set(step, rows, iterations), 2 * iterations)

    def _move(
        self, x: tf.Tensor, point: tf.Tensor, gradient: tf.Tensor, gap: tf.Tensor
    ) -> tf.Tensor:
        """The next point, from the gradient of z_t - z_y at this one and its value there."""
        project = fab_projections.PROJECTIONS[self.norm]
        w, pair = flat(gradient), tf.concat([point, x], axis=0)
        gap_of_x = gap + tf.reduce_sum(w * flat(x - point), axis=1)
        move = project(flat(pair), tf.concat([w, w], axis=0), tf.concat([gap, gap_of_x], axis=0))
        length = self.ball.distance(move, tf.zeros_like(move))
        of_point, of_x = tf.split(tf.maximum(length, 1e-8), 2)
        alpha = per_image(tf.minimum(of_point / (of_point + of_x), self.alpha_max), x)
        beyond_point, beyond_x = tf.split(pair + self.eta * tf.reshape(move, tf.shape(pair)), 2)
        return tf.clip_by_value((1 - alpha) * beyond_point + alpha * beyond_x, 0.0, 1.0)

    def _random_start(self, run: tf.Tensor, rows: Rows, budget: Budget) -> tf.Tensor:
        """In a random direction, half as far as eps or the nearest image found so far."""
        x = rows["x"]
        draw = (
            functools.partial(randomness.uniform, low=-1.0, high=1.0)
            if self.norm == "Linf"
            else randomness.normal
        )
        direction = draw(randomness.fold(rows["seed"], run), tf.shape(x))
        length = self.ball.distance(direction, tf.zeros_like(direction))
        # Without eps, and before anything is found, it is the farthest corner that gives the scale.
        reach = self.ball.distance(tf.maximum(x, 1 - x), tf.zeros_like(x))
        scale = tf.minimum(tf.cast(budget.eps, x.dtype), reach)
        radius = 0.5 * tf.minimum(rows["best"], scale)
        return tf.clip_by_value(x + per_image(radius / length, x) * direction, 0.0, 1.0)

    def _boundary_to_target(self, network: Network) -> BoundaryAt:
        def gap(logits: tf.Tensor, y: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
            pick = functools.partial(tf.gather, logits, batch_dims=1)
            return pick(target) - pick(y)

        gradient_at = input_gradient(network, gap)
        return lambda point, y, target: gradient_at(point, y, target)[:2]

    def _boundary(self, network: Network) -> BoundaryAt:
        """To the class, of all but y, whose boundary seems nearest: |gap| / dual norm of gradient.

        One forward and C - 1 backwards, which are all in the graph.
        """

        # Not inlined for the reason that `input_gradient` gives.
        @functools.partial(
            tf.function, autograph=False, experimental_attributes={"_noinline": True}
        )
        def boundary_at(
            point: tf.Tensor, y: tf.Tensor, target: tf.Tensor
        ) -> tuple[tf.Tensor, tf.Tensor]:
            with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
                tape.watch(point)
                with differentiated() as counts:
                    logits = network(point)
                classes = num_classes_of(logits)
                pick = functools.partial(tf.gather, logits, batch_dims=1)
                gaps = [pick((y + k) % classes) - pick(y) for k in range(1, classes)]
            order = {"Linf": 1, "L2": 2, "L1": np.inf}[self.norm]  # of the dual norm
            best = tf.fill(tf.shape(y), float("inf")), tf.zeros_like(point), tf.zeros_like(gaps[0])
            for gap in gaps:
                for count in counts:
                    count()
                gradient = tape.gradient(
                    gap, point, unconnected_gradients=tf.UnconnectedGradients.ZERO
                )
                away = tf.abs(gap) / (1e-12 + tf.norm(flat(gradient), order, axis=1))
                gradient = finite(gradient)
                nearer = away < best[0]
                best = (
                    tf.minimum(away, best[0]),
                    choose(nearer, gradient, best[1]),
                    tf.where(nearer, gap, best[2]),
                )
            return best[1:]

        return boundary_at
