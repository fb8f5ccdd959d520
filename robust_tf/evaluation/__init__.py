"""Evaluation: how many images a classifier still gets right when somebody tries to break it."""

from robust_tf.evaluation.adaptive import Averaged, Defended
from robust_tf.evaluation.columns import columns_table, three_columns
from robust_tf.evaluation.defended_attacks import (
    ADAPTIVE,
    OBLIVIOUS,
    adaptive_attacks,
    oblivious_attacks,
    straight_through,
)
from robust_tf.evaluation.describe import name_of, named
from robust_tf.evaluation.evaluator import evaluate
from robust_tf.evaluation.loss_profile import LossProfile, loss_profile
from robust_tf.evaluation.protocol import Protocol
from robust_tf.evaluation.record import Record, load_adversarial
from robust_tf.evaluation.results import Evaluation, Outcome, attacks_from_json
from robust_tf.evaluation.shards import merge
from robust_tf.evaluation.spec import parse_attack, parse_attacks

__all__ = [
    "ADAPTIVE",
    "OBLIVIOUS",
    "Averaged",
    "Defended",
    "Evaluation",
    "LossProfile",
    "Outcome",
    "Protocol",
    "Record",
    "adaptive_attacks",
    "attacks_from_json",
    "columns_table",
    "evaluate",
    "load_adversarial",
    "loss_profile",
    "merge",
    "name_of",
    "named",
    "oblivious_attacks",
    "parse_attack",
    "parse_attacks",
    "straight_through",
    "three_columns",
]
