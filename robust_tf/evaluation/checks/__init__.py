"""Signs that a robust accuracy is too high, looked for before the attacks and in their verdicts."""

from robust_tf.evaluation.checks.flags import Flag
from robust_tf.evaluation.checks.forward import collapsed_class
from robust_tf.evaluation.checks.inspection import EXAMPLES, inspect
from robust_tf.evaluation.checks.review import REVIEWED, kind_of, review, weak_battery

__all__ = [
    "EXAMPLES",
    "REVIEWED",
    "Flag",
    "collapsed_class",
    "inspect",
    "kind_of",
    "review",
    "weak_battery",
]
