"""QuickEstimate and its parts: never below the truth, blind to the logits' scale, in order."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from robust_tf import attacks, registration
from robust_tf.attacks.objectives import margin
from robust_tf.attacks.randomness import as_seed, each
from robust_tf.evaluation import evaluate
from tests.harness import ATTACK_CHECKS, AttackCase, run_attack_test
from tests.tiny import SHAPE, Smooth, images

EPS = 0.05


@registration.serializable
@dataclasses.dataclass(frozen=True)
class Short(attacks.QuickEstimate):
    """Its stages, with few steps."""

    def stages(self):
        fewer = {"steps": 6, "short_steps": 4, "runs": 3, "queries": 120}
        for name, attack in super().stages():
            less = {key: value for key, value in fewer.items() if hasattr(attack, key)}
            yield name, dataclasses.replace(attack, **less)


# Its parts keep every promise by lines of their own (test_every_attack.py).
WHOLE = ("check_ball", "check_seeds", "check_eps_zero", "check_raises_loss", "check_config")


@pytest.fixture(scope="module")
def case():
    return AttackCase(Short, exact=False)


@pytest.mark.parametrize("check", [c for c in ATTACK_CHECKS if c.__name__ in WHOLE])
def test_promises(check, case):
    run_attack_test(case, [check])


class Linear:
    """Four classes, w_j (x - 0.5) times a scale, from images that the box leaves alone."""

    def __init__(self, scale=1.0):
        self.w = np.random.default_rng(1).normal(0, 1, (64, 4)).astype("float32")
        self.scale = tf.Variable(scale)

    def __call__(self, x):
        return self.scale * (tf.reshape(x - 0.5, [-1, 64]) @ self.w)

    def lead(self, x, y, order):
        """(z_y - z_j) / ||w_y - w_j||, the least over j: robust if and only if it is above eps."""
        z, rows = self(x).numpy() / self.scale.numpy(), np.arange(len(y))
        norms = np.linalg.norm(self.w.T[y][:, None] - self.w.T[None], order, axis=2)
        norms[rows, y] = np.inf
        gaps = np.where(np.isinf(norms), np.inf, (z[rows, y][:, None] - z) / norms)
        return gaps.min(1)


def linear_case(norm):
    """A model, images whose leads are about eps, their labels, and the leads."""
    model = Linear()
    x = np.random.default_rng(2).uniform(0.3, 0.7, (60, *SHAPE)).astype("float32")
    y = np.argmax(model(x), axis=1).astype("int32")
    return model, x, y, model.lead(x, y, 1 if norm == "Linf" else 2)


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_linear_models_are_judged_exactly_at_any_scale_of_the_logits(norm):
    """No image is broken that cannot be, and none stands that can, whatever the logits' scale."""
    model, x, y, lead = linear_case(norm)
    eps = float(np.median(lead))
    clear = np.abs(lead - eps) > 0.02 * eps  # beyond rounding, and what few steps in L2 leave
    attack, verdicts = Short(eps, norm), []
    for scale in (1.0, 100.0, 1000.0):
        model.scale.assign(scale)
        found = np.argmax(model(attack(model, x, y)), axis=1) == y
        np.testing.assert_array_equal(found[clear], lead[clear] > eps)
        assert not found[~clear].any() or (lead[found] > eps * (1 - 0.02)).all()
        verdicts.append(found)
    np.testing.assert_array_equal(verdicts[0][clear], verdicts[2][clear])
    assert 0 < clear.sum() and 10 < verdicts[0].sum() < 50


def test_the_stages_and_what_they_are():
    stages = dict(attacks.QuickEstimate(0.25, "L2", "batch").stages())
    whole = dict(attacks.AutoAttack(0.25, "L2", batch_norm="batch").stages())
    # The first is AutoAttack's own, with its seed, so that the luck of the start is the same.
    assert stages["APGD-CE"] == whole["APGD-CE"] and next(iter(stages)) == "APGD-CE"
    square = dataclasses.asdict(stages["raced Square"])
    assert square == dataclasses.asdict(whole["Square"]) and list(stages)[-1] == "raced Square"
    assert {(one.eps, one.norm, one.batch_norm) for one in stages.values()} == {
        (0.25, "L2", "batch")
    }


def test_square_is_that_of_autoattack_on_images_that_it_does_not_give_up():
    """The same draws: what it breaks Square breaks, and by the same image."""
    model, x = Smooth(3), images(40, seed=3)
    y = np.argmax(model(x), axis=1).astype("int32")
    raced, whole = (
        kind(EPS, queries=300)(model, x, y, seed=each(as_seed(0), 40)).numpy()
        for kind in (attacks.RacedSquare, attacks.Square)
    )
    broken, all_broken = (np.argmax(model(one), axis=1) != y for one in (raced, whole))
    assert broken.any() and not broken.all() and (broken <= all_broken).all()
    np.testing.assert_allclose(raced[broken], whole[broken], rtol=0, atol=1e-6)


def test_what_is_far_costs_little_and_what_is_near_is_tried_to_the_end():
    """Margins that no square moves, and margins that each one moves a little."""
    x, y = np.full((5, *SHAPE), 0.5, "float32"), np.zeros(5, "int32")

    def flat(x):
        return tf.one_hot(tf.zeros_like(x[:, 0, 0, 0], tf.int32), 2) + 0.0 * x[:, 0, 0, :1]

    attack = attacks.RacedSquare(EPS, queries=400)
    attack(flat, x, y)
    assert attack.passes(flat)[0] <= 5 * (100 + 2)

    def falling(x):  # low, but never below zero
        lead = tf.where(tf.reduce_any(x != 0.5, axis=[1, 2, 3]), 1e-3, 1.0)
        return tf.stack([lead, tf.zeros_like(lead)], axis=1)

    attack(falling, x, y)
    assert attack.passes(falling)[0] > 5 * 390


def test_targets_are_tried_by_nearness_and_the_far_leave():
    """Class 2 is nearest and cannot be reached, class 1 second and can; class 3 is far."""

    def model(x):
        up = tf.reduce_mean(x, axis=[1, 2, 3]) - 0.5
        reach = 1.0 + 0.0 * up
        return tf.stack([reach, 20 * up - 0.5, 0.9 * reach, -9.0 * reach], axis=1)

    x, y = np.full((4, *SHAPE), 0.5, "float32"), np.zeros(4, "int32")
    one, two = (attacks.RankedTargets(0.1, steps=5, runs=runs, near=9.0) for runs in (1, 2))
    assert (np.argmax(model(one(model, x, y)), axis=1) == 0).all()
    assert (np.argmax(model(two(model, x, y)), axis=1) == 1).all()
    far = attacks.RankedTargets(0.001, steps=5, runs=30, least=2, near=1e-3)
    far(model, x, y)
    assert far.passes(model) == (4 * (1 + 2 * 6), 4 * 2 * 5)


def test_long_runs_where_two_losses_disagree_and_nowhere_else():
    """Where cross-entropy has no gradient it ends elsewhere than APGD-T; on a linear model not."""
    # Both lead to about the same corner of the ball, where the class lies that is nearest.
    few = {"steps": 12, "targets": 3, "short_steps": 6, "short_targets": 2}
    attack = attacks.CheckedTargets(0.01, **few, low=0.9, high=1.1)
    model, x, y, lead = linear_case("Linf")
    x, y = x[lead > 0.02], y[lead > 0.02]
    short, long = len(y) * (2 * 7 + 7), len(y) * 3 * 13
    attack(model, x, y)
    assert attack.passes(model) == (short + 4 * len(y), short)
    model.scale.assign(3000.0)  # the softmax is 1 in float32: no gradient of the cross-entropy
    attack(model, x, y)
    assert attack.passes(model)[1] == short + short + long  # of both calls


def test_long_runs_are_those_of_apgd_t():
    """An image that gets them ends where APGD-T ends, or nearer."""
    model, x = Smooth(3), images(24, seed=3)
    y = np.argmax(model(x), axis=1).astype("int32")
    seed = each(as_seed(0), 24)
    long = {"steps": 12, "targets": 3}
    every = attacks.CheckedTargets(EPS, **long, short_steps=3, low=9.0, high=9.0)
    ours, whole = (
        attack(model, x, y, seed=seed) for attack in (every, attacks.APGDTargeted(EPS, **long))
    )
    ours, whole = (margin(model(one), tf.constant(y)).numpy() for one in (ours, whole))
    assert (ours <= whole + 1e-6)[whole > 0].all() and (ours[whole <= 0] <= 0).all()
    assert (whole <= 0).any() and (whole > 0).any()


@pytest.fixture(scope="module")
def evaluated():
    """A model, its images and labels, and the result of an evaluation in batches of 7."""
    model, x = Smooth(4), images(24, seed=5)
    y = np.argmax(model(x), axis=1).astype("int32")
    result = evaluate(model, (x, y), [Short(EPS)], batch_size=7, progress=False)
    return model, x, y, result


def test_a_call_of_the_whole_and_an_evaluation_in_batches_agree(evaluated):
    model, x, y, result = evaluated
    x_adv = Short(EPS)(model, x, y)
    robust = np.argmax(model(x_adv), axis=1) == y
    np.testing.assert_array_equal(result.worst_case, robust)
    assert 0 < robust.sum() < 24
    before, after = (margin(model(one), tf.constant(y)).numpy() for one in (x, x_adv))
    assert (after <= before).all()


def test_it_says_that_it_is_an_estimate(evaluated):
    result = evaluated[-1]
    value = result.to_json()
    (outcome,) = value["attacks"].values()
    assert "an estimate of AutoAttack's verdict" in outcome["notes"][0]
    assert [f["title"] for f in value["flags"] if f["name"] == "weak_battery"] == [
        "This robust accuracy is an estimate of AutoAttack's"
    ]
    text = result.table()  # what the command line prints
    assert "note: Short eps=0.05: an estimate of AutoAttack's verdict" in text
    assert "! This robust accuracy is an estimate of AutoAttack's" in text
    assert "estimate" in repr(result)


def test_beside_autoattack_in_the_same_ball_it_is_no_flag():
    from robust_tf.evaluation.checks import weak_battery

    quick, whole = attacks.QuickEstimate(EPS), attacks.AutoAttack(EPS)
    assert weak_battery([quick, whole]) is None
    for other in (attacks.AutoAttack(EPS / 2), attacks.AutoAttack(EPS, "L2")):
        assert "estimate" in weak_battery([quick, other]).title


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: attacks.QuickEstimate(8), "eps=8"),
        (lambda: attacks.QuickEstimate(0.1, "L7"), "norm='L7'"),
        (lambda: attacks.RankedTargets(0.1, runs=0), "runs=0"),
        (lambda: attacks.RankedTargets(0.1, near=-1), "near=-1"),
        (lambda: attacks.RacedSquare(0.1, queries=0), "queries=0"),
        (lambda: attacks.CheckedTargets(0.1, short_steps=0), "short_steps=0"),
        (lambda: attacks.CheckedTargets(0.1, low=2, high=1), "high=1"),
    ],
)
def test_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
