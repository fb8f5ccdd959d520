"""A second module, which no recipe names: one attack."""

import dataclasses

import tensorflow as tf

from robust_tf import attacks, registration


@registration.configurable
@registration.serializable
@dataclasses.dataclass(frozen=True)
class Brighten(attacks.Attack):
    """All pixels plus eps."""

    eps: float

    def run(self, network, x, y, seed, budget):
        return tf.minimum(x + tf.cast(budget.eps, x.dtype), 1.0)
