"""Transfer: the attack on its source, whatever the target."""

import json

import numpy as np
import pytest

from robust_tf import attacks, compat
from tests.harness import ATTACK_CHECKS, AttackCase, run_attack_test
from tests.tiny import Smooth, images, same_bits, tiny_network, weights_of

X = images()
PGD = attacks.PGD(0.3, 0.2, 4)
SOURCE = Smooth()

# The others need a target that is near the source, or a source that a config can hold.
CHECKS = [
    check
    for check in ATTACK_CHECKS
    if check.__name__ not in ("check_linear", "check_bfloat16", "check_config", "check_batch_norm")
]


def make(eps, **arguments):
    inner = attacks.PGD(eps=eps, step_size=0.7 * eps or 0.1, steps=4, **arguments)
    return attacks.Transfer(inner, SOURCE)


@pytest.fixture(scope="module")
def case():
    return AttackCase(make, exact=False)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__[6:])
def test_promises(check, case):
    run_attack_test(case, [check])


def test_is_the_attack_on_the_source_and_asks_the_target_nothing():
    source, target = tiny_network(), Smooth()
    y = np.argmax(source(X), axis=1).astype("int32")
    transfer = attacks.Transfer(PGD, source)
    same_bits(transfer(target, X, y, seed=3), PGD(source, X, y, seed=3))
    assert target.calls == 0
    assert transfer.passes(target) == PGD.passes(source) == (2 * 4 * len(X), 2 * 4 * len(X))
    assert transfer.notes(2) == [] and [name for name, _ in transfer.stages()] == [""]


def test_batch_norm_is_the_attacks_and_of_the_source():
    source, target = tiny_network(batch_norm=True), tiny_network(batch_norm=True)
    y = np.argmax(source(X), axis=1).astype("int32")
    for mode, moves in (("running", False), ("training", True)):
        transfer = attacks.Transfer(attacks.PGD(0.3, 0.2, 2, batch_norm=mode), source)
        assert transfer.batch_norm == mode
        before = weights_of(source), weights_of(target)
        transfer(target, X, y)
        changed = [
            any((old != new).any() for old, new in zip(weights, weights_of(model), strict=True))
            for weights, model in zip(before, (source, target), strict=True)
        ]
        assert changed == [moves, False]


def test_config_of_a_keras_source_has_its_architecture():
    source = tiny_network()
    config = json.loads(json.dumps(compat.serialize(attacks.Transfer(PGD, source))))
    with pytest.warns(UserWarning, match=r"'.*' has fresh weights, .* load them before use"):
        again = compat.deserialize(config)
    assert again.attack == PGD and isinstance(again.source, type(source))
    again.source.set_weights(weights_of(source))
    same_bits(again.source(X), source(X))


def test_config_of_another_source_names_it():
    for source, name in ((make, "make"), (SOURCE.__call__, "Smooth.__call__"), (SOURCE, "Smooth")):
        config = json.loads(json.dumps(compat.serialize(attacks.Transfer(PGD, source))))
        assert f"{name}, which" in config["config"]["source"]
        with pytest.raises(ValueError, match=rf"{name}, which cannot be stored; build it again"):
            compat.deserialize(config)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((SOURCE, SOURCE), "must be an attack, such as PGD"),
        (
            (PGD, "runs/source.keras"),
            r"'runs/source.keras': must be a Keras model or .*load_model\(path",
        ),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        attacks.Transfer(*arguments)
