"""Batteries by name: which attacks, at which eps, and what becomes of gin."""

import gin
import numpy as np
import pytest

from robust_tf import attacks, evaluation
from robust_tf.attacks import CW, FGSM, PGD, AutoAttack, MultiTargeted, RayS
from robust_tf.evaluation import battery


def test_the_attacks_of_a_battery():
    found = battery("smoke", 8 / 255)
    assert found == {
        "FGSM eps=8/255": FGSM(8 / 255),
        "PGD-20 eps=8/255": PGD(8 / 255, 2 / 255, 20),
        "CW-20 eps=8/255": CW(8 / 255, 2 / 255, 20),
    }
    assert list(battery("autoattack", eps=0.3).values()) == [AutoAttack(0.3)]
    full = battery("full", eps=np.float32(0.25), step_size=0.01, steps=7).values()
    assert MultiTargeted(PGD(0.25, 0.01, 7), logits=True) in full
    assert PGD(0.25, 0.01, 40, restarts=5, keep="best") in full
    assert RayS(0.25, queries=10_000) in full


def test_several_eps_and_another_norm():
    found = battery("smoke", eps=[0.5, 1.0], norm="L2")
    assert list(found.values()) == [
        one
        for eps in (0.5, 1.0)
        for one in (
            FGSM(eps, norm="L2"),
            PGD(eps, eps / 4, 20, norm="L2"),
            CW(eps, eps / 4, 20, norm="L2"),
        )
    ]
    full = battery("full", eps=0.5, norm="L2").values()
    assert AutoAttack(0.5, "L2") in full
    assert not any(isinstance(attack, RayS) for attack in full)  # there is none in L2


@pytest.mark.parametrize("name", evaluation.batteries.NAMES)
def test_every_battery_is_there(name):
    assert all(isinstance(one, attacks.Attack) for one in battery(name, eps=0.1).values())


def test_gin_is_left_as_it_was():
    gin.parse_config("PGD.restarts = 3\nPGD.eps = 0.9")
    gin.finalize()
    before = gin.config_str()
    assert battery("smoke", eps=0.1)["PGD-20 eps=0.1"] == attacks.PGD(0.1, 0.025, 20, restarts=1)
    assert gin.config_str() == before and gin.config_is_locked()


def test_a_battery_of_the_users_own(tmp_path):
    path = tmp_path / "mine.gin"
    path.write_text("FGSM.eps = %eps\nbattery.attacks = [@FGSM()]\n")
    assert battery(str(path), 0.1) == {"FGSM eps=0.1": FGSM(0.1)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("smok", 0.1), "there is no battery 'smok'; did you mean smoke\\?"),
        (("zebra", 0.1), "known: smoke, adr"),
        (("none.gin", 0.1), "there is no recipe none.gin"),
        (("smoke", 0), r"battery\(eps=0\): must be .* > 0"),
        (("smoke", 8), r"battery\(eps=8\): .* 8/255\?"),
        (("smoke", 0.1, "L7"), "norm='L7'"),
        (("smoke", 0.1, None, -1), "step_size=-1"),
        (("smoke", 0.1, None, None, 0), "steps=0"),
    ],
)
def test_what_is_no_battery_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        battery(*arguments)
