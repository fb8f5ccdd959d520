"""Runs that were trained in several balls, or in one that is not L-inf."""

import functools
import json

import pytest

from robust_tf import files, runs
from robust_tf.attacks import PGD, Union
from robust_tf.cli import UserError, chosen_attacks
from robust_tf.evaluation.attack_names import balls_text
from robust_tf.export import provenance
from robust_tf.methods import AdversarialTraining, Standard, UnionTraining
from robust_tf.report.blocks import radius
from robust_tf.runs.worst_case import inside
from tests.training.runs import NO_STRATEGY, moons, points_recipe

LINF, L2 = PGD(0.3, 0.1, 2), PGD(2.0, 0.5, 3, norm="L2")


def described(tmp_path, **settings):
    recipe = points_recipe(**settings)
    record = runs.describe(recipe, recipe.build(moons(), NO_STRATEGY), moons())
    assert json.loads(json.dumps(record)) == record
    files.write_json(tmp_path / "run.json", record)
    return runs.read_run(tmp_path)


@pytest.fixture
def union_run(tmp_path):
    method = functools.partial(UnionTraining, attacks=[L2, LINF])
    return described(tmp_path, method=method, evaluation_attacks=(Union([LINF, L2]),))


def test_a_run_of_a_union_tells_all_balls(union_run):
    assert union_run.record["threat"] == {
        "norm": "Linf",
        "eps": 0.3,
        "step_size": 0.1,
        "steps": 2,
        "attack": "Union of PGD-3 L2 eps=2 and PGD-2 eps=0.3 by loss",
        "balls": [["L2", 2.0], ["Linf", 0.3]],
    }
    assert union_run.balls == (("L2", 2.0), ("Linf", 0.3))
    assert (union_run.threat, union_run.eps, union_run.linf_eps) == ("Linf", 0.3, 0.3)
    assert union_run.attack == Union([L2, LINF], keep="loss")
    assert balls_text(union_run.balls) == "L2 eps 2, Linf eps 0.3"
    assert union_run.label == "AT max"
    assert radius(union_run.balls)[0] == "L2 2, Linf 0.3"
    about = provenance.of_run(union_run)
    assert about["balls"] == [["L2", 2.0], ["Linf", 0.3]] and about["eps"] == 0.3


def test_a_battery_attacks_in_each_ball_of_the_run(union_run):
    found = chosen_attacks.of_battery("smoke", None, union_run)
    assert list(found) == [
        *("FGSM L2 eps=2", "PGD-20 L2 eps=2", "CW-20 L2 eps=2"),
        *("FGSM eps=0.3", "PGD-20 eps=0.3", "CW-20 eps=0.3"),
    ]
    for given in ({"eps": "0.1"}, {"eps": None, "step_size": "0.1"}):
        with pytest.raises(UserError, match="trained in several balls .*L2 eps 2, Linf eps 0.3"):
            chosen_attacks.of_battery("smoke", run=union_run, **given)


def test_a_run_of_one_ball_in_l2(tmp_path):
    run = described(tmp_path, method=functools.partial(AdversarialTraining, attack=L2))
    assert "balls" not in run.record["threat"]
    assert run.balls == (("L2", 2.0),) and run.linf_eps is None
    assert {one.norm for one in chosen_attacks.of_battery("smoke", None, run).values()} == {"L2"}


def test_without_a_training_attack_the_evaluations_largest_balls_count(tmp_path):
    attacks = (L2, PGD(0.1, 0.1, 2), LINF, Union([PGD(0.2, 0.1, 2), L2]))
    run = described(tmp_path, method=Standard, evaluation_attacks=attacks)
    assert run.balls == (("L2", 2.0), ("Linf", 0.3)) and run.linf_eps == 0.3


@pytest.mark.parametrize(
    ("attacked", "threat", "expected"),
    [
        ([("Linf", 0.3)], 0.3, True),
        ([("Linf", 0.31)], 0.3, False),
        ([("L2", 0.3)], 0.3, True),  # an L2 ball lies in the L-inf ball of its radius
        ([("L1", 0.3)], [("L2", 0.3)], True),
        ([("Linf", 0.1)], [("L2", 0.3)], False),
        ([("L2", 0.5)], [("Linf", 0.3), ("L2", 0.5)], True),
        ([("L2", 0.5), ("Linf", 0.3)], [("Linf", 0.3), ("L2", 0.5)], True),
        ([("L2", 0.5), ("L1", 9.0)], [("Linf", 0.3), ("L2", 0.5)], False),
        ([("Mine", 0.1)], [("Mine", 0.2)], True),
        ([("Mine", 0.1)], 0.2, False),
        ([("Linf", None)], 0.3, True),
        ([("Linf+L2", None)], 0.3, False),  # a union of another version, whose radii are not known
        ([("L2", 9.0)], None, True),
        ([("L2", 9.0)], (), True),
    ],
)
def test_which_balls_lie_in_which(attacked, threat, expected):
    assert inside(attacked, threat) is expected
