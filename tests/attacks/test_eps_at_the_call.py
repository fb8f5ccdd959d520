"""eps and step size given at the call: one trace for all of them, the same bits, the same ball."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from robust_tf import attacks
from tests.harness import AttackCase
from tests.harness_attacks import assert_inside
from tests.tiny import Smooth, images, same_bits

MODEL, X = Smooth(), images()
Y = np.argmax(MODEL(X), axis=1).astype("int32")
PGD = attacks.PGD(0.3, 0.1, 2)
# What handles a radius in a way of its own; the harness tries every attack at another radius.
ATTACKS = {
    "PGD": PGD,
    "PGD L2": attacks.PGD(0.3, 0.1, 2, norm="L2"),
    "FGSM": attacks.FGSM(0.3, random_start=True),
    "MultiTargeted logits": attacks.MultiTargeted(PGD, logits=True),
    "Transfer": attacks.Transfer(PGD, MODEL),
    "APGD": attacks.APGD(0.3, 3),
    "FAB": attacks.FAB(0.3, 2, restarts=2),
    "Square L2": attacks.Square(0.3, 20, norm="L2"),
    "Scattering": attacks.ScatteringAttack(0.3, steps=2),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_one_trace_serves_all_eps(name):
    """Another eps, in the attack or at the call, is no trace, and the result is the same."""
    attack = ATTACKS[name]
    case = AttackCase(lambda eps: attack.at(eps=eps), attack.norm)
    attack(MODEL, X, Y)
    traces = MODEL.traces
    for eps in (0.0, 8 / 255, np.float32(0.1), tf.constant(0.05), tf.constant(0.05, tf.float64)):
        given = attack(MODEL, X, Y, eps=eps, seed=3)
        radius = float(eps)
        assert_inside(case, X, given, radius)
        same_bits(given, attack.at(eps=radius)(MODEL, X, Y, seed=3))
    assert MODEL.traces == traces
    assert not np.array_equal(given, attack(MODEL, X, Y, seed=3))


@pytest.mark.parametrize("name", [n for n, a in ATTACKS.items() if a.has_step_size])
def test_one_trace_serves_all_step_sizes(name):
    attack = ATTACKS[name]
    if name == "FGSM":
        pytest.skip("its step size is eps; the next test")
    attack(MODEL, X, Y)
    traces = MODEL.traces
    given = attack(MODEL, X, Y, step_size=0.02)
    same_bits(given, attack.at(step_size=0.02)(MODEL, X, Y))
    same_bits(given, attack(MODEL, X, Y, step_size=tf.constant(0.02)))
    assert MODEL.traces == traces


def test_a_step_size_that_is_eps_follows_it():
    """FGSM's step is as long as the radius of the call, from the clean image to the border."""
    x = 0.5 + 0.1 * (X - 0.5)
    y = np.argmax(MODEL(x), axis=1)
    for options in ({"eps": 0.1}, {"eps": tf.constant(0.1)}):
        step = np.abs(attacks.FGSM(0.3)(MODEL, x, y, **options) - x)
        np.testing.assert_allclose(step, 0.1, rtol=1e-5)
    shorter = np.abs(attacks.FGSM(0.3)(MODEL, x, y, eps=0.1, step_size=0.04) - x)
    np.testing.assert_allclose(shorter, 0.04, rtol=1e-5)


def test_the_step_size_stays_if_eps_alone_is_given():
    given = attacks.BIM(0.3, 0.01, 1)(MODEL, X, Y, eps=0.2)
    assert 0.0099 < np.abs(given - X).max() < 0.0101


def test_inside_a_graph_they_are_tensors():
    traces = []

    @tf.function
    def attacked(eps, step_size):
        traces.append(1)
        return PGD(MODEL, tf.constant(X), tf.constant(Y), eps=eps, step_size=step_size, scale=0.5)

    case = AttackCase(lambda eps: PGD)
    for eps, step_size in ((0.1, 0.02), (0.2, 0.05)):
        x_adv = attacked(tf.constant(eps, tf.float64), tf.constant(step_size))
        assert_inside(case, X, x_adv, 0.5 * eps)
        assert (np.abs(x_adv - X).max((1, 2, 3)) > 0.2 * eps).all()
    assert len(traces) == 1


def test_autoattack_and_its_stages():
    """A sweep of the whole is one trace of the whole; nothing of a stage is kept from another."""

    class Short(attacks.AutoAttack):
        def stages(self):
            yield "APGD", attacks.APGD(self.eps, 2, norm=self.norm)
            yield "Square", attacks.Square(self.eps, 10, norm=self.norm)

    attack = dataclasses.dataclass(frozen=True)(Short)(0.3)
    case = AttackCase(lambda eps: attack)
    attack(MODEL, X, Y)
    traces = MODEL.traces
    for eps in (0.02, 0.2):
        x_adv = attack(MODEL, X, Y, eps=eps)
        assert_inside(case, X, x_adv, eps)
        assert (np.abs(x_adv - X).max((1, 2, 3)) > 0.9 * eps).all()
    assert MODEL.traces == traces


@pytest.mark.parametrize(
    ("attack", "options", "message"),
    [
        (PGD, {"eps": 8}, r"PGD\(eps=8\): must be in \[0, 1\]; .*: 8/255\?"),
        (PGD, {"eps": tf.constant(8.0)}, r"PGD\(eps=.*8.0\)*: must be in \[0, 1\]; .*: 8/255\?"),
        (PGD, {"eps": -0.1}, r"PGD\(eps=-0.1\): must be in \[0, 1\]"),
        (PGD, {"eps": [0.1, 0.2]}, r"PGD\(eps=\[0.1, 0.2\]\): must be in \[0, 1\]"),
        (PGD, {"eps": True}, r"PGD\(eps=True\): must be in \[0, 1\]"),
        (PGD, {"step_size": 2}, r"PGD\(step_size=2\): must be in \(0, 1\]; .*: 2/255\?"),
        (attacks.APGD(0.3), {"step_size": 0.1}, r"APGD\(step_size=0.1\): this attack takes no st"),
        (attacks.Transfer(attacks.RayS(0.3), MODEL), {"step_size": 0.1}, "takes no step size"),
    ],
)
def test_what_is_refused(attack, options, message):
    with pytest.raises(ValueError, match=message):
        attack(MODEL, X, Y, **options)


def test_another_radius_or_step_size_all_the_way_down():
    attack = attacks.MultiTargeted(PGD)
    assert attack.at(eps=0.1, step_size=0.02) == attacks.MultiTargeted(attacks.PGD(0.1, 0.02, 2))
    assert PGD.composition().at(eps=0.1).threat == attacks.Linf(0.1)
    assert attacks.Transfer(attack, MODEL).at(eps=0.1).source is MODEL
    assert (attack.eps, attack.step_size, attack.norm) == (0.3, 0.1, "Linf")
    with pytest.raises(ValueError, match="8/255"):
        attack.at(eps=8)
    with pytest.raises(ValueError, match="takes no step size"):
        attacks.APGD(0.3).at(step_size=0.1)
