"""Batteries by name: which attacks, at which eps, and what becomes of gin."""

import dataclasses

import gin
import numpy as np
import pytest

from robust_tf import attacks, evaluation
from robust_tf.attacks import (
    BIM,
    CW,
    FGSM,
    MIM,
    PGD,
    AutoAttack,
    MultiTargeted,
    QuickEstimate,
    RayS,
    Transfer,
)
from robust_tf.attacks.randomness import as_seed, each
from robust_tf.evaluation import battery
from tests.tiny import Smooth


def test_the_attacks_of_a_battery():
    found = battery("smoke", 8 / 255)
    assert found == {
        "FGSM eps=8/255": FGSM(8 / 255),
        "PGD-20 eps=8/255": PGD(8 / 255, 2 / 255, 20),
        "CW-20 eps=8/255": CW(8 / 255, 2 / 255, 20),
    }
    assert list(battery("autoattack", eps=0.3).values()) == [AutoAttack(0.3)]
    assert battery("quick", 0.5, "L2") == {
        "QuickEstimate eps=0.5 norm=L2": QuickEstimate(0.5, "L2")
    }
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


def step_sizes(found):
    """Of all attacks that have one; FGSM has none of its own."""
    parts = [getattr(one, "attack", one) for one in found.values()]
    return [one.step_size for one in parts if isinstance(one, (PGD, BIM, MIM, CW))]


@pytest.mark.parametrize(
    ("eps", "step_size", "steps"),
    [(8 / 255, 2 / 255, 20), (12 / 255, 2 / 255, 20), (0.3, 0.01, 40)],
)
def test_the_attacks_of_the_adr_paper(eps, step_size, steps):
    single = [kind(eps, step_size, steps) for kind in (PGD, BIM, MIM)]
    expected = [attack for one in single for attack in (one, MultiTargeted(one))]
    assert list(battery("adr", eps).values()) == expected


def test_the_attacks_of_the_atld_paper():
    eps, size, source = 8 / 255, 2 / 255, Smooth()
    first = FGSM(eps, random_start=True)
    ascents = [kind(eps, size, steps) for kind in (PGD, CW) for steps in (20, 40, 100)]
    expected = [first, *ascents, AutoAttack(eps), RayS(eps, queries=10_000)]
    assert list(battery("atld", eps).values()) == expected
    moved = [Transfer(one, source) for one in (first, PGD(eps, size, 20), CW(eps, size, 20))]
    assert list(battery("atld", eps, sources=[source]).values()) == [*expected, *moved]


@pytest.mark.parametrize("name", ["adr", "atld"])
def test_a_sweep_of_eps_keeps_the_step(name):
    for radii, kept in (
        ([0.1, 0.3, 0.325, 0.7], 0.01),
        ([2 / 255, 8 / 255, 12 / 255, 32 / 255], 2 / 255),
    ):
        sizes = step_sizes(battery(name, radii))
        assert len(sizes) == 4 * 6 and set(sizes) == {kept}
    assert set(step_sizes(battery(name, [0.5, 1.0], norm="L2"))) == {0.125, 0.25}


def test_another_step_size():
    for name in ("smoke", "adr", "atld", "full"):
        assert set(step_sizes(battery(name, [0.1, 0.2], step_size=0.004)) + [0.004]) == {0.004}
    sizes = step_sizes(battery("smoke", [0.1, 0.2]))
    assert sizes == [0.025, 0.025, 0.05, 0.05]
    assert battery("adr", 0.3, steps=7)["PGD-7 eps=0.3"] == PGD(0.3, 0.01, 7)


def small(attack):
    """The same attack with few steps and queries, what else it is made of too."""
    if isinstance(attack, (AutoAttack, FGSM, QuickEstimate)):
        return attack
    if isinstance(attack, (MultiTargeted, Transfer)):
        return dataclasses.replace(attack, attack=small(attack.attack))
    less = {"queries": 30} if isinstance(attack, RayS) else {"steps": 2}
    return dataclasses.replace(attack, **less)


@pytest.fixture(scope="module")
def model():
    return Smooth()


@pytest.mark.parametrize("name", evaluation.batteries.NAMES)
def test_every_battery_runs(name, model, examples, monkeypatch):
    """With few steps, on few images; what stays right is so by the model's own word."""

    def fewer(whole):
        def stages(attack):
            for title, one in whole(attack):
                less = {"queries": 20} if hasattr(one, "queries") else {"steps": 5}
                yield title, dataclasses.replace(one, **less)

        return stages

    for kind in (AutoAttack, QuickEstimate):
        monkeypatch.setattr(kind, "stages", fewer(kind.stages))
    sources = [Smooth(seed=1)] if name == "atld" else []
    found = battery(name, eps=0.1, sources=sources)
    assert all(isinstance(one, attacks.Attack) for one in found.values())
    named = {title: small(one) for title, one in found.items()}
    x, y = (part[:8] for part in examples)
    result = evaluation.evaluate(model, (x, y), named, checks=False, progress=False)
    assert list(result.outcomes) == list(found)
    assert all(out.robust.shape == (8,) for out in result.outcomes.values())
    right = np.argmax(model(x), 1) == y
    np.testing.assert_array_equal(result.natural, right)
    assert result.worst_case_accuracy < right.mean()  # each of them finds something
    for title, out in result.outcomes.items():
        if title.startswith("Transfer"):
            x_adv = named[title].attack(sources[0], x, y, seed=each(as_seed(0), 8))
            np.testing.assert_array_equal(out.alone, np.argmax(model(x_adv), 1) == y)


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
        (("smoke", 0.1, None, 0), r"step_size=0\): must be"),
        (("smoke", 0.1, None, 2), r"step_size=2\): .* 2/255\?"),
        (("autoattack", 0.1, None, 0.01), "step_size=0.01: .* no attack that takes one; leave it"),
        (("smoke", 0.1, None, None, None, [Smooth()]), "'smoke' names no attacks to be made on an"),
    ],
)
def test_what_is_no_battery_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        battery(*arguments)
