"""Evaluation: how many images a classifier still gets right when somebody tries to break it."""

from robust_tf.evaluation.adaptive import (
    ADAPTIVE,
    OBLIVIOUS,
    adaptive_attacks,
    adaptive_summary,
    adaptive_table,
    bpda,
    oblivious_attacks,
)
from robust_tf.evaluation.attack_names import modules_of, name_of, named
from robust_tf.evaluation.attack_parser import attacks_from_json, parse_attack, parse_attacks
from robust_tf.evaluation.batteries import battery
from robust_tf.evaluation.defended import Defended, ExpectationOverTransformation
from robust_tf.evaluation.evaluator import evaluate
from robust_tf.evaluation.loss_profile import LossProfile, loss_profile
from robust_tf.evaluation.protocol import Protocol
from robust_tf.evaluation.results import Evaluation, Outcome
from robust_tf.evaluation.sharded import evaluate_shards
from robust_tf.evaluation.shards import ShardError
from robust_tf.evaluation.state import EvaluationState, load_adversarial, merge

__all__ = [
    "ADAPTIVE",
    "OBLIVIOUS",
    "ExpectationOverTransformation",
    "Defended",
    "Evaluation",
    "LossProfile",
    "Outcome",
    "Protocol",
    "ShardError",
    "EvaluationState",
    "adaptive_attacks",
    "attacks_from_json",
    "battery",
    "adaptive_table",
    "evaluate",
    "evaluate_shards",
    "load_adversarial",
    "loss_profile",
    "merge",
    "modules_of",
    "name_of",
    "named",
    "oblivious_attacks",
    "parse_attack",
    "parse_attacks",
    "bpda",
    "adaptive_summary",
]
