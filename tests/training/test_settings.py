"""A recipe's settings, and what is refused before there is a folder."""

import functools

import numpy as np
import pytest

from robust_tf import data
from robust_tf.attacks import PGD
from robust_tf.methods import ADR
from tests.training.runs import moons, points_recipe, trainer

WRONG = {
    "epochs": [0, -1, 1.5, "3", True],
    "batch_size": [0, "32"],
    "learning_rate": [0, -0.1, "fast", float("inf"), float("nan")],
    "weight_decay": [-1, float("nan")],
    "eps_warmup_epochs": [-1, "x"],
    "validate_every": [0],
    "steps_per_call": [0],
    "checkpoint_minutes": [-1],
    "evaluation_examples": [0],
    "guard_every": [-1, 1.5],
    "guard_images": [0],
    "guard_rollbacks": [-1],
    "on_collapse": ["restart", None],
    "seed": [-1, 1.5],
    "dtype_policy": ["float16"],
    "accumulate": [0, 1.5, 17],  # batches have 16 images
    "remat": ["yes", 1],
    "xla": ["yes", True],
    "network": ["CNN"],
    "method": [None],
    "compare_with": ["ADR"],
    "validation_attack": ["PGD", PGD, PGD(0.1, 0.1, 1, targeted=True)],
    "evaluation_attacks": [
        "PGD",
        [PGD],
        {"PGD": PGD},
        {"PGD": PGD(0.1, 0.1, 1, targeted=True)},
    ],
    "term_warmup_epochs": [-1],
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_settings_are_named(name):
    for value in WRONG[name]:
        with pytest.raises(ValueError, match=rf"train(\.{name}|\({name}=)"):
            points_recipe(**{name: value})


def test_wrong_data_and_attack_are_refused_before_there_is_a_folder(tmp_path):
    folder = tmp_path / "run"
    single = moons()
    labels = np.zeros(len(single.train), "int32")
    single = data.Data(
        "single", data.Split(single.train.images, labels), single.validation, single.test, 2
    )
    with pytest.raises(ValueError, match="are all of class 0"):
        trainer(folder, points_recipe(), single)
    with pytest.raises(ValueError, match="batch_size is 97.*96"):
        trainer(folder, points_recipe(batch_size=97), moons())
    with pytest.raises(ValueError, match="labels"):
        data.Data("wrong", moons().train, moons().validation, moons().test, num_classes=1)
    for attack in (PGD, None, PGD(0.1, 0.1, 1, targeted=True)):
        with pytest.raises(ValueError, match=r"ADR\(attack="):
            trainer(folder, points_recipe(method=functools.partial(ADR, attack=attack)), moons())
    with pytest.raises(ValueError, match="train.method built"):
        trainer(folder, points_recipe(method=lambda network: network), moons())
    assert not folder.exists()
