"""RayS: the nearest decision boundary on rays to the cube's corners, from predicted labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import ClassVar

import tensorflow as tf

from robust_tf import registration
from robust_tf.attacks.active_set import Rows, on_active_set, per_image
from robust_tf.attacks.base import MinimalDistance
from robust_tf.attacks.minimum_norm import MinimumNorm
from robust_tf.attacks.network import Network
from robust_tf.attacks.objectives import is_misclassified
from robust_tf.attacks.threat import Budget
from robust_tf.models.forward import check_batch_norm_mode
from robust_tf.validation import check_number, check_whole

Ask = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


@registration.configurable
@registration.serializable
@dataclasses.dataclass(frozen=True)
class RayS(MinimumNorm):
    """Looks for the closest misclassified image along rays to the corners {-1, +1}^n.

    The best ray so far is tried with the signs of one block turned: first all n pixels (all
    channels; the first channel comes first), then each half, each quarter, ..., each pixel, and
    again. One query asks for the image at the best radius; if it is misclassified, the interval
    from 0 to there is halved until it is not above `tolerance`, at one query each time, at least
    once. It is deterministic.

    `run` lets an example leave when an image inside the ball is misclassified, at the end of a
    block; the others return their closest misclassified image, projected to the ball.
    `minimal_distance` lets none leave; its mean over a data set is the average decision boundary
    distance (ADBD).

    Args:
      eps: radius of the L-inf ball; the leaderboard of RayS takes 0.031 on CIFAR-10. None: no ball,
        the nearest misclassified image wherever it is.
      queries: most forwards for an example, >= 1; the clean images cost one more. The leaderboard
        takes 40,000.
      norm: 'Linf'; there is no other.
      tolerance: > 0, of the radius, which is measured in L2: ||x_adv - x||_2 before it is cut to
        [0, 1], sqrt(n) times the L-inf distance.
      batch_norm: mode of `robust_tf.models.BatchNormalization` in the attack: 'running' (default),
        'batch' or 'training'.

    Raises:
      ValueError: an argument outside its range.

    Source: Chen & Gu (2020) and their program RayS. The program looks at the limit of queries
    between blocks and may pass it by a search; here it ends a search, and holds. Images that are
    misclassified to begin with are not searched.
    """

    eps: float | None = None
    queries: int = 10_000
    norm: str = "Linf"
    tolerance: float = 1e-3
    batch_norm: str = "running"
    black_box: ClassVar[bool] = True
    hard_labels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.norm != "Linf":
            raise ValueError(
                f"RayS(norm={self.norm!r}): must be 'Linf', the only norm in which the corners of "
                "the cube are the farthest points; use Square or FAB for L2."
            )
        self._check_eps()
        program = "the program uses 0.001"
        self._put(
            queries=check_whole("RayS", "queries", self.queries, 1),
            tolerance=check_number("RayS", "tolerance", self.tolerance, 0.0, program, strict=True),
        )
        check_batch_norm_mode(self.batch_norm)

    def run(
        self, network: Network, x: tf.Tensor, y: tf.Tensor, seed: tf.Tensor, budget: Budget
    ) -> tf.Tensor:
        bounds, limited = self.ball.bounds(x, budget.eps), tf.math.is_finite(budget.eps)

        def step(_: tf.Tensor, rows: Rows) -> Rows:
            rows = self._one_block(network, rows)
            within = (rows["x_adv"] >= rows["low"]) & (rows["x_adv"] <= rows["high"])
            inside = tf.reduce_all(within, axis=range(1, x.shape.rank)) & _found(rows) & limited
            # Those out of queries leave too, with what they have.
            return {**rows, "is_adversarial": inside | (rows["queries"] >= self.queries)}

        rows = {**_initial(network, x, y), "low": bounds.low, "high": bounds.high}
        x_adv, _ = on_active_set(step, rows, self.queries, share=0.0)
        return self.ball.project(x_adv, bounds)

    def closest(
        self, network: Network, x: tf.Tensor, y: tf.Tensor, seed: tf.Tensor, budget: Budget
    ) -> MinimalDistance:
        """The graph code of `minimal_distance`: all queries of all examples."""
        rows = tf.while_loop(
            lambda rows: tf.reduce_any(self._open(rows)),
            lambda rows: (self._one_block(network, rows),),
            (_initial(network, x, y),),
            parallel_iterations=1,
        )[0]
        distance = self.ball.distance(rows["x_adv"], x)
        known = rows["is_adversarial"] | _found(rows)
        distance = tf.where(known, distance, float("inf"))
        return MinimalDistance(distance, rows["x_adv"], rows["queries"])

    def _open(self, rows: Rows) -> tf.Tensor:
        return ~rows["is_adversarial"] & (rows["queries"] < self.queries)

    def _one_block(self, network: Network, rows: Rows) -> Rows:
        """The next block turned, for the rows that are open."""
        x, y, radius = rows["x"], rows["y"], rows["radius"]
        size = tf.reduce_prod(tf.shape(x)[1:])
        end = tf.minimum(rows["first"] + rows["length"], size)
        number = _numbered(x)
        turned = (number >= per_image(rows["first"], x)) & (number < per_image(end, x))
        sign = tf.where(turned, -rows["sign"], rows["sign"])

        def ask(which: tf.Tensor, at: tf.Tensor) -> tf.Tensor:
            """(n,): whether the image at this radius is misclassified; False where not asked."""
            index = tf.where(which)
            own = index[:, 0]
            image = _along(tf.gather(x, own), tf.gather(sign, own), tf.gather(at, own))
            wrong = is_misclassified(network(image), tf.gather(y, own))
            return tf.tensor_scatter_nd_update(tf.zeros_like(which), index, wrong)

        asked = self._open(rows)
        hit, queries = ask(asked, radius), rows["queries"] + tf.cast(asked, tf.int32)
        # sqrt(size) reaches the corner of the cube from any image, as infinity does.
        reach = tf.where(hit, tf.minimum(radius, tf.sqrt(tf.cast(size, tf.float32))), radius)
        reach, queries = self._nearest(ask, hit, reach, queries)
        closer = reach < radius
        image, last = per_image(closer, x), tf.equal(end, size)
        return {
            **rows,
            "x_adv": tf.where(image, _along(x, sign, reach), rows["x_adv"]),
            "sign": tf.where(image, sign, rows["sign"]),
            "radius": tf.where(closer, reach, radius),
            "queries": queries,
            "first": tf.where(last, 0, end),
            # Half of a block is half, rounded up, so that this is ceil(size / 2^level).
            "length": tf.where(last, (rows["length"] + 1) // 2, rows["length"]),
        }

    def _nearest(
        self, ask: Ask, hit: tf.Tensor, reach: tf.Tensor, queries: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """By bisection, where `hit`: a shorter radius that is misclassified; and the queries."""

        def halve(going: tf.Tensor, low: tf.Tensor, high: tf.Tensor, queries: tf.Tensor) -> tuple:
            middle = (low + high) / 2
            wrong = ask(going, middle)
            high = tf.where(wrong, middle, high)
            low = tf.where(going & ~wrong, middle, low)
            queries += tf.cast(going, tf.int32)
            return (
                going & (high - low > self.tolerance) & (queries < self.queries),
                low,
                high,
                queries,
            )

        start = hit & (queries < self.queries), tf.zeros_like(reach), reach, queries
        _, _, high, queries = tf.while_loop(
            lambda going, *_: tf.reduce_any(going), halve, start, parallel_iterations=1
        )
        return high, queries


def _initial(network: Network, x: tf.Tensor, y: tf.Tensor) -> Rows:
    """Nothing found yet, in the direction of all ones."""
    number = tf.zeros_like(y)
    return {
        "x": x,
        "y": y,
        "x_adv": x,
        "is_adversarial": is_misclassified(network(x), y),
        "sign": tf.ones_like(x),
        "radius": tf.zeros(tf.shape(y)) + float("inf"),
        "queries": number,
        "first": number,
        "length": number + tf.reduce_prod(tf.shape(x)[1:]),
    }


def _found(rows: Rows) -> tf.Tensor:
    return tf.math.is_finite(rows["radius"])


def _numbered(x: tf.Tensor) -> tf.Tensor:
    """int32, of the shape of one image: 0, 1, ... along columns, then rows, then channels."""
    shape = tf.shape(x)[1:]
    number = tf.range(tf.reduce_prod(shape))
    if x.shape.rank != 4:
        return tf.reshape(number, shape)
    channels_first = tf.reshape(number, tf.gather(shape, [2, 0, 1]))
    return tf.ensure_shape(tf.transpose(channels_first, [1, 2, 0]), x.shape[1:])


def _along(x: tf.Tensor, sign: tf.Tensor, radius: tf.Tensor) -> tf.Tensor:
    """The image at this L2 distance along each ray, cut to [0, 1]."""
    size = tf.cast(tf.reduce_prod(tf.shape(x)[1:]), tf.float32)
    return tf.clip_by_value(x + per_image(radius, x) * (sign / tf.sqrt(size)), 0.0, 1.0)
