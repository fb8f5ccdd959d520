"""The recipes of unions of balls hold the numbers of Maini et al. (2020)."""

import pytest

from robust_tf import attacks
from robust_tf.attacks.steps import CleanStart, UniformStart
from tests.test_recipes import TRAINING, attack_numbers, built

RADII = {
    "mnist": {"Linf": (0.3, 0.01), "L2": (2.0, 0.1), "L1": (10.0, 1.0)},
    "cifar10": {"Linf": (0.03, 0.003), "L2": (0.5, 0.05), "L1": (12.0, 1.0)},
}
STEPS = {"mnist": 100, "cifar10": 50}


def numbers(members, steps):
    assert {one.steps for one in members} == {steps}
    return {one.norm: attack_numbers(one)[:2] for one in members}


@pytest.mark.parametrize("place", ["mnist", "cifar10"])
@pytest.mark.parametrize("choose", ["max", "average", "msd"])
def test_attacks_and_schedule(place, choose):
    _, recipe, _, model = built(f"at_union_{choose}_{place}.gin")
    assert model.choose == choose and type(model.attack).__name__ == (
        "MSD" if choose == "msd" else "Union"
    )
    assert numbers(model.attack.members, STEPS[place]) == RADII[place]
    assert {one.start for one in model.attack.members} == {CleanStart()}
    assert model.attack.batch_norm == ("training" if place == "cifar10" else "running")
    validation = recipe.validation_attack
    assert isinstance(validation, attacks.Union) and numbers(validation.members, 10) == RADII[place]
    assert numbers(recipe.evaluation_attacks, STEPS[place]) == RADII[place]
    for one in (*validation.members, *recipe.evaluation_attacks):
        assert one.start == UniformStart() and one.batch_norm == "running"
    assert recipe.epochs == (15 if place == "mnist" else 50)
    rate = model.optimizer._learning_rate if place == "cifar10" else None
    steps = TRAINING[place] // 128
    if rate is not None:
        values = [float(rate(epoch * steps)) for epoch in (0, 10, 20, 30, 40, 45, 50)]
        assert values == pytest.approx([0, 0.05, 0.1, 0.0525, 0.005, 0.0025, 0], abs=1e-7)
