"""Results that version 0.1 wrote are read, rebuilt and repeated."""

import dataclasses
import json
import pathlib
import shlex

import numpy as np
import pytest

from robust_tf import attacks, evaluation
from robust_tf.cli import evaluate as command
from robust_tf.evaluation import reproduce_command

DATA = pathlib.Path(__file__).parent / "data"

# What `bin/evaluate` of that version printed beside them.
PRINTED = {
    "natural": 78.12,
    "AutoAttack eps=0.1": 28.12,
    "PGD-5 multi-targeted eps=0.1": 43.75,
    "CW-3 L2 eps=0.5": 71.88,
}


def report_of(name):
    return json.loads((DATA / f"version_01_{name}.json").read_text())


@pytest.fixture(scope="module")
def report():
    return report_of("autoattack")


@pytest.fixture(scope="module")
def result(report):
    return evaluation.Evaluation.from_json(report["evaluation"])


def test_the_verdicts_are_those_that_were_printed(result):
    found = {"natural": result.natural_accuracy}
    found |= {name: result.accuracy(name) for name in result.robust}
    assert {name: round(100 * value, 2) for name, value in found.items()} == PRINTED
    assert round(100 * result.worst_case_accuracy, 2) == 28.12
    assert result.outcomes["AutoAttack eps=0.1"].eight_bits.mean() == 0.3125
    for name, verdict in result.outcomes["AutoAttack eps=0.1"].stages.items():
        assert result.outcomes["AutoAttack eps=0.1"].details["stages"][name] == verdict.sum()
    assert "natural                                           78.12 %" in result.table()
    assert "  AutoAttack eps=0.1             28.12 %" in repr(result).splitlines()


def test_black_box_attacks_are_told_from_white_box_ones(result):
    access = {
        name.split(": ")[-1]: kind["access"] for name, kind in result.settings["kinds"].items()
    }
    assert access["Square"] == "black_box"
    assert {access[name] for name in ("APGD-CE", "APGD-T", "FAB-T")} == {"white_box"}
    assert result.review() == []
    name = "AutoAttack eps=0.1"
    stages = {**result.outcomes[name].stages, "Square": np.zeros(32, bool)}
    stronger = {name: dataclasses.replace(result.outcomes[name], stages=stages)}
    [flag] = evaluation.Evaluation(result.natural, stronger, result.settings).review()
    assert flag.name == "black_box_stronger"


def test_the_attacks_are_rebuilt_and_named_as_then(report):
    rebuilt = evaluation.attacks_from_json(report["evaluation"])
    assert rebuilt["AutoAttack eps=0.1"] == attacks.AutoAttack(0.1)
    multi = rebuilt["PGD-5 multi-targeted eps=0.1"]
    assert multi.attack == attacks.PGD(0.1, 0.02, 5).composition()
    assert rebuilt["CW-3 L2 eps=0.5"] == attacks.CW(0.5, 0.1, 3, norm="L2").composition()
    assert evaluation.named(rebuilt.values()) == rebuilt
    line = reproduce_command.command(
        "run", evaluation.Evaluation.from_json(report["evaluation"]), report["data"]
    )
    options = command.parser().parse_args(shlex.split(line)[1:])
    again = evaluation.parse_attacks(options.attacks)
    assert list(again) == list(PRINTED)[1:]
    assert again["PGD-5 multi-targeted eps=0.1"] == attacks.MultiTargeted(attacks.PGD(0.1, 0.02, 5))
    assert (options.max_examples, options.search_dtype, options.eight_bits) == (
        32,
        "bfloat16",
        True,
    )


def test_what_is_read_is_written_again(result):
    again = evaluation.Evaluation.from_json(json.loads(json.dumps(result.to_json())))
    assert again.to_json() == result.to_json()


def test_a_defence_at_inference():
    report = report_of("inference")
    result = evaluation.Evaluation.from_json(report["evaluation"])
    assert evaluation.adaptive_summary(result) == report["columns"]
    line = reproduce_command.command("run", result, report["data"], report["inference"])
    options = command.parser().parse_args(shlex.split(line)[1:])
    assert (options.inference, options.adaptive, options.no_checks) == ("imt+", "quick", True)
    assert list(evaluation.parse_attacks(options.attacks)) == ["PGD-3 eps=0.1"]
