"""The presets are one kind of thing: frozen dataclasses, equal, hashable, stored and read again."""

import dataclasses
import json

import numpy as np
import pytest

from robust_tf import attacks, compat
from tests.tiny import Smooth, images, same_bits

ALIKE = {
    attacks.FGSM: {},
    attacks.FGSMRS: {},
    attacks.NFGSM: {},
    attacks.BIM: {"step_size": 0.1, "steps": 2},
    attacks.PGD: {"step_size": 0.1, "steps": 2},
    attacks.MIM: {"step_size": 0.1, "steps": 2},
    attacks.CW: {"step_size": 0.1, "steps": 2},
    attacks.TRADESAttack: {"step_size": 0.1, "steps": 2},
    attacks.Collaborative: {"step_size": 0.1, "steps": 2},
    attacks.ManifoldAttack: {},
    attacks.ScatteringAttack: {},
    attacks.SqueezeAttack: {"step_size": 0.1, "steps": 2},
    attacks.APGD: {},
    attacks.APGDTargeted: {},
    attacks.FAB: {},
    attacks.Square: {},
    attacks.RayS: {},
    attacks.AutoAttack: {},
}


@pytest.mark.parametrize("kind", ALIKE, ids=lambda kind: kind.__name__)
def test_all_look_alike(kind):
    attack = kind(eps=0.1, **ALIKE[kind])
    assert isinstance(attack, attacks.Attack) and attack.eps == 0.1
    assert repr(attack).startswith(f"{kind.__name__}(eps=0.1")
    with pytest.raises(dataclasses.FrozenInstanceError):
        attack.eps = 0.2
    other = dataclasses.replace(attack, eps=0.2)
    assert other == kind(eps=0.2, **ALIKE[kind]) != attack
    assert len({attack, other, kind(eps=0.1, **ALIKE[kind])}) == 2
    stored = json.loads(json.dumps(compat.serialize(attack)))
    assert compat.deserialize(stored) == attack == kind.from_config(attack.get_config())


@pytest.mark.parametrize("kind", ALIKE, ids=lambda kind: kind.__name__)
def test_numpy_scalars_become_python_numbers(kind):
    numbers = {"eps": np.float32(0.25)}
    if "steps" in ALIKE[kind]:
        numbers |= {"step_size": np.float64(0.5), "steps": np.int64(2)}
    attack = kind(**numbers)
    assert attack == kind(**{name: value.item() for name, value in numbers.items()})
    assert json.loads(json.dumps(compat.serialize(attack)))
    with pytest.raises(ValueError, match=rf"{kind.__name__}\(eps=True\): must be in"):
        kind(**{**numbers, "eps": True})
    with pytest.raises(ValueError, match=rf"{kind.__name__}\(eps=8\): .*: 8/255\?"):
        kind(**{**numbers, "eps": 8})


@pytest.mark.parametrize(
    ("preset", "parts"),
    [
        (
            attacks.PGD(0.3, 0.1, 2, 3, "best"),
            (attacks.CrossEntropy(), attacks.UniformStart(), attacks.Steepest(0.1)),
        ),
        (
            attacks.FGSM(0.3),
            (attacks.CrossEntropy(), attacks.CleanStart(), attacks.Steepest(0.3)),
        ),
        (
            attacks.MIM(0.3, 0.1, 2, decay=0.5, targeted=True),
            (attacks.CrossEntropy(True), attacks.CleanStart(), attacks.Momentum(0.1, 0.5)),
        ),
        (
            attacks.CW(0.3, 0.1, 2, confidence=5.0),
            (attacks.Margin(confidence=5.0), attacks.UniformStart(), attacks.Steepest(0.1)),
        ),
        (
            attacks.TRADESAttack(0.3, 0.1, 2, norm="L2"),
            (attacks.KLDivergence(), attacks.GaussianStart(0.001), attacks.Steepest(0.1)),
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_is_a_composition(preset, parts):
    """The parts that papers name, and the same bits as when they are put together by hand."""
    objective, start, step = parts
    composed = attacks.ProjectedGradient(
        preset.threat, step, preset.steps, objective, start, preset.restarts, preset.keep
    )
    assert preset.composition() == composed
    model, x = Smooth(), images(3)
    y = np.array([0, 1, 2], "int32")
    same_bits(preset(model, x, y, seed=2), composed(model, x, y, seed=2))


# As version 0.1 wrote them into .keras files and results.
OLD = {
    "PGD": (
        "ProjectedGradient",
        {
            "threat": ("Linf", {"eps": 0.3}),
            "step": ("Steepest", {"step_size": 0.1}),
            "steps": 2,
            "objective": ("CrossEntropy", {"targeted": False}),
            "start": ("UniformStart", {}),
            "restarts": 1,
            "keep": "last",
            "batch_norm": "running",
        },
        attacks.PGD(0.3, 0.1, 2).composition(),
    ),
    "manifold": (
        "ProjectedGradient",
        {
            "threat": ("Linf", {"eps": 0.3}),
            "step": ("Steepest", {"step_size": 0.3}),
            "steps": 1,
            "objective": ("ManifoldLoss", {"targeted": False, "class_weight": 0.0}),
            "start": ("UnclippedStart", {}),
            "restarts": 1,
            "keep": "last",
            "batch_norm": "training",
        },
        attacks.ManifoldAttack(0.3).composition(),
    ),
    "squeeze": (
        "SqueezeAttack",
        {"eps": 0.3, "step_size": 0.1, "steps": 2, "regulariser": "js"},
        attacks.SqueezeAttack(0.3, 0.1, 2, regularizer="js"),
    ),
    "scattering": (
        "ScatteringAttack",
        {"eps": 0.3, "step_size": None, "regulariser": 0.02},
        attacks.ScatteringAttack(0.3, regularizer=0.02),
    ),
}


def serialized(value):
    if not isinstance(value, tuple):
        return value
    name, config = value
    return {
        "module": "robust_tf.attacks",
        "class_name": name,
        "config": {key: serialized(part) for key, part in config.items()},
        "registered_name": f"robust_tf>{name}",
    }


@pytest.mark.parametrize("name", OLD)
def test_configs_of_version_0_1_still_load(name):
    kind, config, expected = OLD[name]
    assert compat.deserialize(serialized((kind, config))) == expected
