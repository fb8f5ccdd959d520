"""Square Attack: random search by squares that shrink, from scores alone."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import numpy as np
import tensorflow as tf

from robust_tf import registration
from robust_tf.attacks.active_set import Rows, choose, on_active_set
from robust_tf.attacks.base import Attack
from robust_tf.attacks.network import Network
from robust_tf.attacks.objectives import is_misclassified, margin
from robust_tf.attacks.randomness import each, fold, uniform
from robust_tf.attacks.square_moves import MOVES, Moves
from robust_tf.attacks.threat import Budget, threat_of
from robust_tf.models.forward import check_batch_norm_mode
from robust_tf.validation import check_eps, check_norm, check_number

_BLOCK = 500  # queries, for which random numbers are drawn together
_HALVED_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # iterations


@registration.configurable
@registration.serializable
@dataclasses.dataclass(frozen=True)
class Square(Attack):
    """Random search on the margin z_y - max_{j != y} z_j, without gradients.

    L-inf: starts at vertical stripes of +-eps; each query sets a square of the best image so far to
    +-eps, one sign for each channel. L2 and L1: starts at a grid of bumps; each query moves the
    mass of one square into another. The query is accepted if the margin falls or the image is
    misclassified. The squares cover a share p of the image, which falls from `p_init` by halves.

    A query is one forward of one image; a restart has `queries` of them, the first of which is the
    start's. The clean images cost one more. An example leaves with the first image that is
    misclassified; one that is robust to the end keeps the image of the lowest margin. Random
    numbers are drawn for 500 queries together, which takes 2000 * (2 + channels) bytes for each
    example of a batch (L2, L1: 2000 * (5 + channels)).

    Images of shape (H, W, C), of any sides, or (H, W). What has one axis, as points (n,) and
    signals of one channel (L, 1), is an image of height 1: its squares are intervals, which cover
    the same share p, and its stripes are single values.

    Args:
      eps: radius of the ball.
      queries: in each restart, >= 1.
      p_init: in (0, 1], share of the image that the first squares cover.
      norm: 'Linf', 'L2' or 'L1'.
      restarts: number of runs from fresh starts, >= 1, each on the images robust so far.
      batch_norm: mode of `robust_tf.models.BatchNormalization` in the attack: 'running' (default),
        'batch' or 'training'.
      rescale_schedule: stretches the schedule of p, made for 10,000 queries, to `queries`. False
        (default) as in AutoAttack.

    Raises:
      ValueError: an argument outside its range, images of more than three axes.

    Source: Andriushchenko et al. (2020) and AutoAttack's program. Here squares and signs are drawn
    for each example, which the program shares in a batch, and a square may touch each border, as in
    the paper; the program leaves the last row and column out. For L2, the mass of two squares is
    that of each channel, as in the paper's Algorithm 3; AutoAttack's program adds up the channels.
    L1 is that program's, but that the bumps of its start fill the ball. The program counts its
    start apart from `queries`, and knows no images of one axis.
    """

    eps: float
    queries: int = 5000
    p_init: float = 0.8
    norm: str = "Linf"
    restarts: int = 1
    batch_norm: str = "running"
    rescale_schedule: bool = False
    black_box: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_norm("Square", self.norm)
        self._put_whole("queries", "restarts")
        paper = "the paper uses 0.8"
        self._put(
            eps=check_eps("Square", self.eps, self.norm),
            p_init=check_number("Square", "p_init", self.p_init, 0.0, paper, high=1.0, strict=True),
        )
        check_batch_norm_mode(self.batch_norm)

    def run(
        self, network: Network, x: tf.Tensor, y: tf.Tensor, seed: tf.Tensor, budget: Budget
    ) -> tf.Tensor:
        shape = _image_shape(x)
        bounds = threat_of(self.norm, self.eps).bounds(tf.reshape(x, [-1, *shape]), budget.eps)
        areas = self._shares() * shape[0] * shape[1]
        moves: Moves = MOVES[self.norm](shape, areas)
        block = min(self.queries, _BLOCK)
        draws = math.ceil(self.queries / block) + 1  # of a restart; the last is for its start

        def judge(images: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            logits = network(tf.reshape(images, [-1, *x.shape[1:]]))
            return margin(logits, y), is_misclassified(logits, y)

        def numbers(rows: Rows, draw: tf.Tensor, shape: list[int]) -> tf.Tensor:
            return uniform(fold(rows["seed"], draw), [tf.shape(rows["y"])[0], *shape])

        def step(k: tf.Tensor, rows: Rows) -> Rows:
            restart, query = k // self.queries, k % self.queries
            first, draw = tf.equal(query, 0), restart * draws + query // block
            drawn = tf.cond(
                tf.equal(query % block, 0),
                lambda: numbers(rows, draw, [block, moves.numbers]),
                lambda: rows["numbers"],
            )
            own = bounds.of(rows)
            image = tf.cond(
                first,
                lambda: moves.start(
                    numbers(rows, restart * draws + draws - 1, [moves.start_numbers]), own
                ),
                lambda: moves.candidate(drawn[:, query % block], query - 1, rows["image"], own),
            )
            reached, is_adversarial = judge(image, rows["y"])
            take = first | is_adversarial | (reached < rows["image_margin"])
            best = is_adversarial | (reached < rows["margin"])
            return {
                **rows,
                "numbers": drawn,
                "image": choose(take, image, rows["image"]),
                "image_margin": tf.where(take, reached, rows["image_margin"]),
                "x_adv": choose(best, image, rows["x_adv"]),
                "margin": tf.where(best, reached, rows["margin"]),
                "is_adversarial": is_adversarial | self._gives_up(query, rows),
            }

        margins, is_adversarial = judge(bounds.center, y)
        rows = {
            **bounds.rows(),
            "y": y,
            "seed": each(seed, tf.shape(y)[0]),
            "numbers": tf.zeros([tf.shape(y)[0], block, moves.numbers]),
            "image": bounds.center,
            "image_margin": margins,
            "x_adv": bounds.center,
            "margin": margins,
            "clean_margin": margins,
            "is_adversarial": is_adversarial,
        }
        x_adv = on_active_set(step, rows, self.restarts * self.queries, share=0.0)[0]
        return tf.reshape(x_adv, tf.shape(x))

    def _gives_up(self, query: tf.Tensor, rows: Rows) -> tf.Tensor:
        """Whether an example is left as robust before this query is its last; for a subclass."""
        return tf.zeros_like(rows["is_adversarial"])

    def _shares(self) -> np.ndarray:
        """Of the image that the square of each query covers, after the start's."""
        stretch = 10_000 / self.queries if self.rescale_schedule else 1
        iterations = np.floor(np.arange(max(self.queries - 1, 1)) * stretch)
        return self.p_init / 2.0 ** np.searchsorted(_HALVED_AFTER, iterations)


def _image_shape(x: tf.Tensor) -> tuple[int, int, int]:
    """H, W, C, of which (H, W) lacks the last and (n,) the first and the last; H is not W = 1."""
    axes = tuple(x.shape[1:])
    if len(axes) > 3 or None in axes:
        raise ValueError(
            f"Square: images of shape {axes}; expected (H, W, C), (H, W) or (n,), sizes known: "
            "reshape them before the attack, and back in the model."
        )
    height, width, channels = (*axes, 1, 1)[:3]
    return (1, height, channels) if width == 1 else (height, width, channels)
