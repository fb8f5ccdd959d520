"""Unions of balls: what is returned, what is counted, and what they refuse."""

import json

import gin
import numpy as np
import pytest
import tensorflow as tf

from robust_tf import compat, evaluation
from robust_tf.attacks import BIM, L1, L2, MIM, MSD, PGD, AutoAttack, Linf, Square, Transfer, Union
from robust_tf.evaluation import name_of, parse_attack, parse_attacks
from robust_tf.evaluation.reproduce_command import text_of
from tests.harness_attacks import LENGTHS
from tests.tiny import CLASSES, SHAPE, Smooth, cross_entropies, images, same_bits

# Strong enough to break some of the images, not all, and not the same ones.
MEMBERS = (
    PGD(0.05, 0.025, 3),
    PGD(0.25, 0.12, 3, norm="L2"),
    PGD(0.6, 0.3, 3, norm="L1"),
)
FEW = PGD(0.03, 0.015, 3)
RADII = {"Linf": 0.05, "L2": 0.25, "L1": 0.6}
SEEDS = np.stack([np.full(20, 5), np.arange(20)], axis=1).astype("int32")


@pytest.fixture(scope="module")
def model():
    return Smooth()


@pytest.fixture(scope="module")
def examples(model):
    x = images(20)
    return x, np.argmax(model(x), axis=1).astype("int32")


@pytest.fixture(scope="module")
def candidates(model, examples):
    return [member(model, *examples, seed=SEEDS).numpy() for member in MEMBERS]


def lengths(x_adv, x):
    """By norm, in float64."""
    step = (x_adv.astype("float64") - x).reshape(len(x), -1)
    return {norm: LENGTHS[norm](step) for norm in RADII}


def test_each_candidate_is_in_its_ball(examples, candidates):
    for member, x_adv in zip(MEMBERS, candidates, strict=True):
        assert (lengths(x_adv, examples[0])[member.norm] <= member.eps).all()
        assert x_adv.min() >= 0 and x_adv.max() <= 1


def test_by_loss_it_is_the_candidate_of_the_highest_cross_entropy(model, examples, candidates):
    x, y = examples
    x_adv = Union(MEMBERS, keep="loss")(model, x, y, seed=SEEDS).numpy()
    values = np.stack([cross_entropies(model, one, y) for one in candidates])
    own = cross_entropies(model, x_adv, y)
    np.testing.assert_allclose(own, values.max(0), rtol=0, atol=1e-6)
    assert len(set(values.argmax(0))) > 1  # each is the worst for some image
    for k, which in enumerate(values.argmax(0)):
        same_bits(x_adv[k], candidates[which][k])


def test_a_whole_call_breaks_what_any_member_breaks(model, examples, candidates):
    x, y = examples
    x_adv = Union(MEMBERS)(model, x, y, seed=SEEDS)
    separate = [np.argmax(model(one), 1) == y for one in candidates]
    np.testing.assert_array_equal(np.argmax(model(x_adv), 1) == y, np.logical_and.reduce(separate))


@pytest.fixture(scope="module")
def result(model, examples):
    union = Union([FEW, MEMBERS[1]])
    return evaluation.evaluate(model, examples, [union, *union.members], checks=False)


def test_an_evaluation_is_the_and_of_separate_verdicts(result):
    whole, linf, l2 = result.robust.values()
    same_bits(whole, linf & l2)
    assert (linf & ~l2).any() and whole.any()
    name = "Union of PGD-3 eps=0.03 and PGD-3 L2 eps=0.25"
    assert list(result.outcomes) == [name, "PGD-3 eps=0.03", "PGD-3 L2 eps=0.25"]
    assert f"{'  after PGD Linf eps=0.03'.ljust(len(name))}   55.00 %" in result.table()
    stages = {"PGD Linf eps=0.03": linf.sum(), "PGD L2 eps=0.25": whole.sum()}
    assert result.outcomes[name].details["stages"] == stages
    # The second member runs on those that are left: three forwards and the verdict's one each.
    assert result.outcomes[name].gradients == 3 * (len(linf) + linf.sum())
    assert result.settings["balls"][name] == ["Linf+L2", None]
    assert set(result.curves()) == {"Linf", "L2"}


def test_its_result_is_read_and_said_again(result):
    value = json.loads(json.dumps(result.to_json()))
    again = evaluation.Evaluation.from_json(value)
    union = next(iter(evaluation.attacks_from_json(value).values()))
    assert union == Union([FEW, MEMBERS[1]])
    assert text_of(union) == (
        "Union([PGD(eps=0.03, step_size=0.015, steps=3), "
        "PGD(eps=0.25, step_size=0.12, steps=3, norm='L2')])"
    )
    for name, verdict in result.stages.items():
        same_bits(again.stages[name], verdict)


def test_stages_in_several_balls_are_compared_in_each_alone():
    """A black-box member in L2 gets what the L-inf one has left: no sign of masked gradients."""
    right = np.ones(20, bool)
    after = [np.arange(20) >= 8, np.arange(20) >= 8]
    kinds = {
        "u: white": {"access": "white_box", "norm": "Linf", "eps": 0.1},
        "u: black": {"access": "black_box", "norm": "L2", "eps": 1.0},
        "white in L2": {"access": "white_box", "norm": "L2", "eps": 1.0},
    }
    union = evaluation.Outcome(after[1], stages=dict(zip(("white", "black"), after, strict=True)))
    outcomes = {"u": union, "white in L2": evaluation.Outcome(right)}
    assert evaluation.Evaluation(right, outcomes, {"kinds": kinds}).review() == []
    kinds["u: black"] |= {"norm": "Linf", "eps": 0.1}
    outcomes["u"].stages["black"] = np.arange(20) >= 12
    [flag] = evaluation.Evaluation(right, outcomes, {"kinds": kinds}).review()
    assert flag.name == "black_box_stronger" and flag.figures["images"] == 4


def test_what_leaves_every_ball_does_not_count(model, examples):
    """The evaluator puts the clean image back, whose verdict then is that of the clean image."""

    class Far(Union):
        def run(self, network, x, y, seed, budget):
            return 1 - x

    far = Transfer(Far(MEMBERS), model)  # of one stage, which works in several balls
    assert far.balls == tuple(RADII.items()) and len(list(far.stages())) == 1
    found = evaluation.evaluate(model, examples, {"far": far}, checks=False)
    assert found.accuracy("far") == 1
    near = Transfer(Union(MEMBERS), model)
    attacks = {"near": near, "own": Union(MEMBERS)}
    near, own = evaluation.evaluate(model, examples, attacks, checks=False).robust.values()
    same_bits(near, own)


def test_scale_shrinks_every_ball_and_labels_may_be_distributions(model, examples):
    x, y = examples
    union = Union([BIM(0.3, 0.1, 2), BIM(1.0, 0.5, 2, norm="L2")], keep="loss")
    assert union.takes_soft_labels and not Union(MEMBERS).takes_soft_labels
    soft = tf.constant(np.eye(CLASSES, dtype="float32")[y])
    any_size = [tf.TensorSpec([None, *SHAPE]), tf.TensorSpec([None, CLASSES])]
    inside = tf.function(lambda x, y: union(model, x, y, scale=0.5), input_signature=any_size)
    found = inside(tf.constant(x), soft).numpy()
    assert ((lengths(found, x)["Linf"] <= 0.15) | (lengths(found, x)["L2"] <= 0.5)).all()
    halves = [BIM(0.15, 0.05, 2), BIM(0.5, 0.25, 2, norm="L2")]
    values = [cross_entropies(model, one(model, x, y), y) for one in halves]
    own = cross_entropies(model, found, y)
    np.testing.assert_allclose(own, np.max(values, 0), rtol=0, atol=1e-5)


def test_msd_takes_at_each_step_the_best_of_all_balls():
    """On a linear model, where each steepest step is known, in NumPy."""
    w = np.random.default_rng(1).normal(0, 0.1, 64)
    x, y = np.full((1, *SHAPE), 0.5, "float32"), np.zeros(1, "int32")

    def model(images):
        lead = tf.reshape(images - 0.5, [-1, 64]) @ w.reshape(64, 1).astype("float32")
        return tf.concat([lead, -lead], axis=1)

    for radii in ((0.1, 0.1), (0.01, 1.0)):  # L-inf is the better one, and then L2
        members = [BIM(radii[0], radii[0], 2), BIM(radii[1], radii[1], 2, norm="L2")]
        x_adv = MSD(members)(model, x, y).numpy()
        steps = -radii[0] * np.sign(w), -radii[1] * w / np.linalg.norm(w)
        best = min(steps, key=lambda step: step @ w)
        np.testing.assert_allclose((x_adv - x).ravel(), best, atol=1e-5)
        assert cross_entropies(model, x_adv, y) >= max(
            cross_entropies(model, one(model, x, y), y)[0] - 1e-6 for one in members
        )


def test_balls_stand_for_autoattack():
    union = Union([Linf(0.3), L2(2.0), L1(10.0)])
    assert union == Union([AutoAttack(0.3), AutoAttack(2.0, "L2"), AutoAttack(10.0, "L1")])
    assert parse_attack("Union([Linf(0.3), L2(2.0), L1(10.0)])") == union
    assert union.norm == "Linf+L2+L1" and not hasattr(union, "eps")
    names = [name for name, _ in union.stages()]
    assert names[:2] == ["AutoAttack Linf eps=0.3: APGD-CE", "AutoAttack Linf eps=0.3: APGD-T"]
    assert len(set(names)) == len(names) == 12
    assert evaluation.checks.weak_battery([union]) is None


def test_from_text_a_list_of_attacks_is_one_union_and_a_list_of_numbers_a_sweep():
    text = "Union([PGD(eps=[0.1, 0.2], step_size=0.1, steps=3), PGD(1, 0.5, 3, norm='L2')])"
    assert list(parse_attacks(text).values()) == [
        Union([PGD(eps, 0.1, 3), PGD(1, 0.5, 3, norm="L2")]) for eps in (0.1, 0.2)
    ]
    msd = parse_attack("MSD(attacks=[BIM(0.1, 0.1, 3), BIM(1, 0.5, 3, norm='L2')])")
    assert name_of(msd) == "MSD of BIM-3 eps=0.1 and BIM-3 L2 eps=1"
    twice = Union([PGD(0.1, 0.1, 3), PGD(0.1, 0.05, 3)])
    assert [name for name, _ in twice.stages()] == ["PGD Linf eps=0.1", "PGD Linf eps=0.1 (2)"]


def test_gin_binds_a_list_of_attacks():
    text = """
    Union.attacks = [@linf/PGD(), @l2/PGD()]
    PGD.steps = 3
    linf/PGD.eps = 0.3
    linf/PGD.step_size = 0.1
    l2/PGD.eps = 2.0
    l2/PGD.step_size = 0.5
    l2/PGD.norm = 'L2'
    """
    try:
        with gin.unlock_config():
            gin.parse_config(text)
        assert Union() == Union([PGD(0.3, 0.1, 3), PGD(2.0, 0.5, 3, norm="L2")])
    finally:
        gin.clear_config()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Union(MEMBERS[0]), "must be a list of attacks"),
        (lambda: Union([MEMBERS[0]]), "must be two attacks or more"),
        (lambda: Union([MEMBERS[0], "PGD"]), "must be attacks, such as PGD"),
        (lambda: Union([MEMBERS[0], PGD(0.1, 0.1, 1, targeted=True)]), "it is targeted"),
        (
            lambda: Union([MEMBERS[0], PGD(0.1, 0.1, 1, batch_norm="batch")]),
            "'running' and 'batch'",
        ),
        (lambda: Union(MEMBERS, keep="best"), "keep='best'"),
        (lambda: Union(MEMBERS).at(eps=0.1), "each member has its own eps"),
        (lambda: Transfer(Union(MEMBERS), Smooth()).at(eps=0.1), "each member has its own eps"),
        (
            lambda: evaluation.evaluate(Smooth(), (images(2), [0, 1]), Union(MEMBERS), eps=0.1),
            "own",
        ),
        (lambda: MSD(MEMBERS), "from the clean image"),
        (lambda: MSD([BIM(0.1, 0.1, 1), MIM(0.1, 0.1, 1)]), "of plain steps"),
        (lambda: MSD([BIM(0.1, 0.1, 1), Square(0.1)]), "of plain steps"),
        (lambda: MSD([BIM(0.1, 0.1, 1), BIM(0.1, 0.1, 2)]), "give all of them the same"),
    ],
)
def test_what_is_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_a_black_box_takes_members_without_gradients():
    assert Union([Square(0.1), Square(1.0, norm="L2")]).black_box
    assert not Union([Square(0.1), MEMBERS[1]]).black_box
    config = json.loads(json.dumps(compat.serialize(Union(MEMBERS, keep="loss"))))
    assert compat.deserialize(config) == Union(MEMBERS, keep="loss")
