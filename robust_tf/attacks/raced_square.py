"""Square Attack that leaves images whose margin falls too slowly to reach zero in time."""

from __future__ import annotations

import dataclasses
import math

import tensorflow as tf

from robust_tf import registration
from robust_tf.attacks.active_set import Rows
from robust_tf.attacks.square import Square

_FROM = 100  # queries before any image is left
# Of the clean margin. Of 300 robust and broken images of two networks (docs/quick.md), the broken
# ones were below 0.65 after 100 queries, 0.38 after 300, 0.17 after 1000, 0.07 after 1500.
_ALLOWED = 0.75


@registration.configurable
@registration.serializable
@dataclasses.dataclass(frozen=True)
class RacedSquare(Square):
    """`Square`, which gives an image up where the margin would not reach zero by its last query.

    The margin of an image that Square breaks falls about in proportion to the logarithm of the
    queries. After 100 queries an image is given up whose lowest margin is above 0.75 of its clean
    margin, after q above 0.75 (1 - log(q / 100) / log(queries / 100)) of it. An image far from the
    boundary so costs little more than 100 queries. No rescaling of the logits changes this. In the
    modes of batch normalization where examples see each other no image is given up.

    Arguments, errors and source are those of `Square`; giving up is ours.
    """

    def _gives_up(self, query: tf.Tensor, rows: Rows) -> tf.Tensor:
        if self.batch_norm != "running" or self.queries <= _FROM:
            return super()._gives_up(query, rows)
        passed = tf.math.log(tf.cast(query + 1, tf.float32) / _FROM)
        allowed = _ALLOWED * (1.0 - passed / math.log(self.queries / _FROM))
        return (query + 1 >= _FROM) & (rows["margin"] > allowed * rows["clean_margin"])
