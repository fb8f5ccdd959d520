"""Evaluation: how many images a classifier still gets right when somebody tries to break it."""

from robust_tf.evaluation.describe import name_of, named
from robust_tf.evaluation.evaluator import evaluate
from robust_tf.evaluation.protocol import Protocol
from robust_tf.evaluation.record import Record, load_adversarial
from robust_tf.evaluation.results import Evaluation, Outcome, attacks_from_json
from robust_tf.evaluation.shards import merge
from robust_tf.evaluation.spec import parse_attack, parse_attacks

__all__ = [
    "Evaluation",
    "Outcome",
    "Protocol",
    "Record",
    "attacks_from_json",
    "evaluate",
    "load_adversarial",
    "merge",
    "name_of",
    "named",
    "parse_attack",
    "parse_attacks",
]
