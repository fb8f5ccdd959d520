"""Evaluation: how many images a classifier still gets right when somebody tries to break it."""

from robust_tf.evaluation.evaluator import evaluate
from robust_tf.evaluation.results import Evaluation, attacks_from_json
from robust_tf.evaluation.spec import name_of, named, parse_attack, parse_attacks

__all__ = [
    "Evaluation",
    "attacks_from_json",
    "evaluate",
    "name_of",
    "named",
    "parse_attack",
    "parse_attacks",
]
