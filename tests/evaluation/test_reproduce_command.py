"""Commands that give results again, and results that are not a run's own."""

import shlex

import numpy as np
import pytest

from robust_tf import compat, evaluation
from robust_tf.attacks import FGSM, MIM, PGD, AutoAttack, MultiTargeted, RayS, Transfer
from robust_tf.cli import evaluate
from robust_tf.evaluation import reproduce_command
from robust_tf.evaluation.attack_parser import number
from tests.inference import fakes


def result(attacks, **settings):
    """An evaluation of 10 images under these attacks."""
    right = np.ones(10, bool)
    outcomes = {name: evaluation.Outcome(right) for name in attacks}
    configs = {name: compat.serialize(attack) for name, attack in attacks.items()}
    return evaluation.Evaluation(right, outcomes, {"attacks": configs, **settings})


def options_of(line):
    """What `bin/evaluate` makes of a command."""
    words = shlex.split(line)
    assert words[0] == "bin/evaluate"
    return evaluate.parser().parse_args(words[1:])


@pytest.mark.parametrize(
    "attack, text",
    [
        (PGD(8 / 255, 2 / 255, 20), "PGD(eps=8/255, step_size=2/255, steps=20)"),
        (PGD(0.2, 0.05, 7), "PGD(eps=0.2, step_size=0.05, steps=7)"),  # 51/255 is 0.2
        (MultiTargeted(PGD(0.3, 0.1, 4)), "MultiTargeted(PGD(eps=0.3, step_size=0.1, steps=4))"),
        (MultiTargeted(PGD(0.3, 0.01, 4, targeted=True), logits=True), None),
        (AutoAttack(0.3), "AutoAttack(eps=0.3)"),
        (RayS(8 / 255), "RayS(eps=8/255)"),
        (PGD(0.3, 0.01, 40, restarts=2), None),
        (PGD(0.5, 0.1, 5, norm="L2"), None),
        (MIM(0.3, 0.1, 5), None),
        (FGSM(0.1), None),
    ],
)  # fmt: skip
def test_the_text_of_an_attack_is_that_attack(attack, text):
    said = reproduce_command.text_of(attack)
    assert text is None or said == text
    assert evaluation.parse_attack(said) == attack


def test_the_protocol_is_in_the_command():
    attacks = {"a": PGD(0.3, 0.01, 40), "b": AutoAttack(0.3)}
    settings = {"total_examples": 1000, "shard": [2, 3], "seed": 4, "batch_size": 50}
    settings |= {"search_dtype": "bfloat16", "eight_bits": True, "checks": False}
    about = {"name": "digits", "split": "validation"}
    line = reproduce_command.command(
        "runs/a b", result(attacks, **settings), about, dataset="mnist", output="new.json"
    )
    found = options_of(line)
    assert (found.run_dir, found.dataset, found.split) == ("runs/a b", "digits", "validation")
    assert list(evaluation.parse_attacks(found.attacks).values()) == list(attacks.values())
    assert (found.max_examples, found.shard, found.seed, found.batch_size) == (1000, "2/3", 4, 50)
    assert found.search_dtype == "bfloat16" and found.eight_bits and found.no_checks
    assert found.output == "new.json"
    own = result(attacks, shard=None)
    short = options_of(reproduce_command.command("r", own, {"name": "mnist"}, dataset="mnist"))
    assert (short.max_examples, short.shard, short.dataset) == (10, None, None)
    assert not short.eight_bits and not short.no_checks


def test_the_defence_is_in_the_command():
    attacks = {"a": PGD(0.3, 0.01, 40)}
    both = evaluation.oblivious_attacks(fakes.defended(), attacks)
    both |= {evaluation.ADAPTIVE + "a": attacks["a"]}
    about = {"kind": "imt+", "delta": 8 / 255, "gate": [0.25, 0.7], "adaptive": "quick"}
    found = options_of(reproduce_command.command("r", result(both), {}, about))
    assert (found.inference, found.adaptive) == ("imt+", "quick")
    assert number(found.delta) == 8 / 255
    assert [number(part) for part in found.gate.split(",")] == [0.25, 0.7]
    assert list(evaluation.parse_attacks(found.attacks).values()) == list(attacks.values())
    plain = options_of(
        reproduce_command.command("r", result(both), {}, {"kind": "imt", "delta": 0.1})
    )
    assert plain.gate is None and plain.adaptive == "full"
    assert reproduce_command.command("r", result(both), {}, {"kind": "imt"}) is None


def test_what_text_cannot_say_has_no_command():
    transfer = Transfer(PGD(0.3, 0.01, 40), fakes.defended().network)
    unheard = result({"a": PGD(0.3, 0.01, 40)})
    unheard.settings["attacks"]["a"] = {"module": "x", "class_name": "Unheard", "config": {}}
    for one in (result({"a": transfer}), unheard, result({})):
        assert reproduce_command.command("r", one, {}) is None
    with pytest.raises(ValueError, match="cannot be said|no attack"):
        reproduce_command.text_of(transfer)


def test_results_of_another_model_are_told():
    own, other = {"evaluation": {"model": "a"}}, {"evaluation": {"model": "b"}}
    assert not reproduce_command.foreign(own, "a") and not reproduce_command.foreign(own, None)
    assert not reproduce_command.foreign({"evaluation": None}, "a")
    assert not reproduce_command.foreign({**other, "inference": {"kind": "imt"}}, "a")
    assert "fingerprint b, the run's a" in reproduce_command.foreign(other, "a")
    assert "of the model best.keras" in reproduce_command.foreign(
        {**own, "model": "best.keras"}, "a"
    )
