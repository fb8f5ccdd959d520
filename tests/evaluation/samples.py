"""A small battery whose verdicts chance decides, and what it means that two evaluations agree."""

import numpy as np

from robust_tf import attacks
from robust_tf.evaluation import Evaluation

# Chance decides what one step from a random start breaks: verdicts tell whose seed was used.
WEAK = attacks.PGD(eps=0.15, step_size=0.01, steps=1)
MULTI = attacks.MultiTargeted(attacks.PGD(eps=0.2, step_size=0.05, steps=2))
BATTERY = {"weak": WEAK, "multi": MULTI}


def same(one: Evaluation, other: Evaluation) -> None:
    np.testing.assert_array_equal(one.natural, other.natural)
    assert list(one.robust) == list(other.robust)
    for name in one.robust:
        np.testing.assert_array_equal(one.robust[name], other.robust[name])
