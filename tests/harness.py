"""The promises that every attack and every training method keeps.

A new attack is one more line in `tests/attacks/test_every_attack.py`, a new method one more in
`tests/methods/test_every_method.py`; each promise is a function in `harness_attacks.py` or
`harness_methods.py`.
"""

from tests.harness_attacks import ATTACK_CHECKS, AttackCase, run_attack_test
from tests.harness_methods import METHOD_CHECKS, MethodCase, run_method_test

__all__ = [
    "ATTACK_CHECKS",
    "METHOD_CHECKS",
    "AttackCase",
    "MethodCase",
    "run_attack_test",
    "run_method_test",
]
