"""Oblivious and adaptive attacks on a defended model, and the three columns."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from robust_tf import attacks, evaluation, inference
from robust_tf.attacks import CleanStart, Linf, ProjectedGradient, Steepest, Transfer
from robust_tf.evaluation import adaptive
from robust_tf.models import Outputs
from tests import tiny
from tests.inference import fakes


class Formula(keras.Model):
    """A network or a discriminator that is one line of TensorFlow."""

    def __init__(self, line):
        super().__init__()
        self.line, self.built = line, True

    def call(self, z, training=False):
        return self.line(z)


def pixels(shape, margin, natural, delta):
    """Two classes by the sign of `margin`, D0's logit `natural`, both of pixels (B, n)."""
    flatten = keras.Sequential([keras.Input(shape), keras.layers.Flatten()])

    class Network(Formula):
        image_shape = shape

        def forward(self, x, training=False):
            z = flatten(x)
            m = margin(z)
            return Outputs(tf.stack([m, -m], 1), z)

        def call(self, x, training=False):
            return self.forward(x).logits

    discriminator = Formula(lambda z: fakes.Judged(natural(z), z))
    return inference.ManifoldTransformation(
        Network(None), discriminator, delta, disc_input="features"
    )


@pytest.fixture(scope="module")
def model():
    return fakes.defended(batch_norm=True, gate=(0.3, 0.7), delta=0.1)


@pytest.fixture(scope="module")
def labelled(model):
    x = tiny.images(12, seed=1)
    return x, np.argmax(model(x), axis=1).astype("int32")


def test_oblivious_is_the_transformation_of_the_finished_images(model, labelled):
    x, y = labelled
    attack = attacks.BIM(0.1, 0.04, 3)
    path = evaluation.bpda(model)
    named = evaluation.oblivious_attacks(model, {"BIM": attack})
    found = evaluation.evaluate(path, labelled, named, checks=False, progress=False)
    x_adv = attack(model.network, x, y)
    tiny.same_bits(named["oblivious: BIM"](path, x, y), x_adv)
    verdict = np.argmax(model.network(model.transform(x_adv)), 1) == y
    tiny.same_bits(found.robust["oblivious: BIM"], verdict)
    assert found.natural.all() and 0 < verdict.sum() < len(y)


def test_bpda_is_the_model_with_the_gradient_at_the_moved_image(model, labelled):
    x = tf.constant(labelled[0])
    path = evaluation.bpda(model)
    np.testing.assert_allclose(path(x), model(x), atol=1e-6)
    found = gradient_of(path, x)
    np.testing.assert_allclose(found, gradient_of(model.network, model.transform(x)), atol=1e-6)
    own = gradient_of(model, x)
    kept = own != 0
    np.testing.assert_allclose(own[kept], found[kept], atol=1e-6)
    assert 0 < np.mean(kept) < 1


def test_the_surrogates_gradient_and_the_real_logits(model, labelled):
    x = tf.constant(labelled[0])
    path = adaptive.surrogate(model, 0.1)
    np.testing.assert_allclose(path(x), model(x), atol=1e-6)
    with tf.GradientTape() as tape:
        tape.watch(x)
        moved = model.smooth_transform(x, 0.1)
    at = gradient_of(model.network, model.transform(x))
    np.testing.assert_allclose(
        gradient_of(path, x), tape.gradient(moved, x, output_gradients=at), atol=1e-5
    )


@pytest.mark.parametrize("weight", [-1.0, 1.0, 0.0])
def test_the_joint_loss_and_its_gradient(model, labelled, weight):
    x, y = tf.constant(labelled[0]), tf.constant(labelled[1])
    path = adaptive.steered(model, weight)
    objective = adaptive.SteeredCrossEntropy()

    def joint(u):
        return objective.values(path(u), y, None)

    odds = model.natural_logits(x)
    expected = tiny.cross_entropies(model, x, labelled[1]) + weight * odds
    np.testing.assert_allclose(joint(x), expected, atol=1e-5)
    np.testing.assert_array_equal(np.argmax(path(x), 1), np.argmax(model(x), 1))

    def cross_entropy(u):
        return attacks.CrossEntropy().values(evaluation.bpda(model)(u), y, None)

    parts = gradient_of(cross_entropy, x) + weight * gradient_of(model.natural_logits, x)
    np.testing.assert_allclose(gradient_of(joint, x), parts, atol=1e-5)


def gradient_of(function, x):
    """Of the sum over all that `function` gives."""
    with tf.GradientTape() as tape:
        x = tf.convert_to_tensor(x)
        tape.watch(x)
        value = function(x)
    return tape.gradient(value, x).numpy()


def three(model, x, named):
    y = np.zeros(len(x), np.int32)
    path = evaluation.bpda(model)
    found = evaluation.evaluate(path, (x, y), named, checks=False, progress=False)
    assert found.natural_accuracy == 1
    return evaluation.adaptive_summary(found)


def test_what_knows_the_defence_breaks_what_the_paper_calls_robust():
    """f is right on (0.37, 0.73) alone; T adds 0.1. An attack on f leaves below: T mends it."""
    model = pixels(
        (1, 1, 1),
        lambda z: 1 - tf.square((z[:, 0] - 0.55) / 0.18),
        lambda z: z[:, 0],
        0.1,
    )
    x = np.linspace(0.48, 0.52, 4, dtype=np.float32).reshape(4, 1, 1, 1)
    attack = attacks.BIM(0.2, 0.05, 10)
    named = evaluation.oblivious_attacks(model, {"BIM": attack})
    found = three(model, x, {**named, "adaptive: BIM": attack})
    columns = {"oblivious": 1.0, "T(x') alone": 1.0, "adaptive": 0.0, "worst case": 0.0}
    assert found["BIM"] == columns
    assert found["all"] == found["BIM"]


def test_steering_the_discriminator_breaks_what_the_cross_entropy_cannot():
    """f sees the first pixel only; the second one says whether T raises or lowers the first."""
    model = pixels(
        (2, 1, 1),
        lambda z: 10 * (z[:, 0] - 0.5),
        lambda z: z[:, 0] * (z[:, 1] - 0.4),
        0.1,
    )
    x = np.array([[0.58, 0.5], [0.56, 0.45]], np.float32).reshape(2, 2, 1, 1)

    def bim(objective):
        return ProjectedGradient(Linf(0.15), Steepest(0.05), 10, objective, CleanStart())

    joint = bim(adaptive.SteeredCrossEntropy())
    found = three(
        model,
        x,
        {
            "adaptive: plain": bim(attacks.CrossEntropy()),
            "adaptive: steered": Transfer(joint, adaptive.steered(model, -1.0)),
        },
    )
    assert found["plain"]["adaptive"] == 1 and found["steered"]["adaptive"] == 0
    assert found["all"] == {"adaptive": 0, "worst case": 0}


def test_the_adaptive_attacks_are_all_there(model):
    full = evaluation.adaptive_attacks(model, 0.1)
    names = [name.removeprefix("adaptive: ").partition(",")[0] for name in full]
    assert names == [
        *["BPDA"] * 2,
        "exact gradient",
        "surrogate tau=1",
        "surrogate tau=0.1",
        "steered -1",
        "steered +1",
        *["from the bare network"] * 2,
        *["whole"] * 3,
    ]
    searches = [getattr(a, "attack", a) for a in full.values()]
    ascents = [a for a in searches if isinstance(a, ProjectedGradient)]
    assert len(ascents) == 7 and {a.restarts for a in ascents} == {10}
    assert {a.steps for a in ascents} == {100} and {a.step.step_size for a in ascents} == {0.025}
    sources = [a.get_config()["source"] for a in full.values() if isinstance(a, Transfer)]
    assert len(set(sources)) == 6  # the bare network twice
    json.dumps([a.get_config() for a in full.values()])
    assert not any(a.judged_alone for a in full.values() if isinstance(a, adaptive.Through))
    quick = evaluation.adaptive_attacks(model, 0.5, norm="L2", **adaptive.EFFORTS["quick"])
    assert not any("RayS" in name or "AutoAttack" in name for name in quick)
    assert all("L2" in name for name in quick), list(quick)


def test_the_papers_count_is_that_of_the_transformed_attacked_images_alone():
    """f is right below 0.75; T moves by 0.1 towards 0.8; the attack on f adds 0.1.

    The images become, transformed: 0.6 0.7 0.81 0.82 0.86 0.8; attacked: 0.6 0.7 0.81 0.82 0.86 1;
    attacked and transformed: 0.7 0.8 0.71 0.72 0.76 0.9.
    """
    model = pixels((1, 1, 1), lambda z: 0.75 - z[:, 0], lambda z: -tf.abs(z[:, 0] - 0.8), 0.1)
    x = np.array([0.5, 0.6, 0.71, 0.72, 0.76, 0.9], np.float32).reshape(6, 1, 1, 1)
    y = np.zeros(6, np.int32)
    named = evaluation.oblivious_attacks(model, {"BIM": attacks.BIM(0.1, 0.05, 3)})
    settings = {"checks": False, "progress": False, "batch_size": 3}
    path = evaluation.bpda(model)
    found = evaluation.evaluate(path, (x, y), named, **settings)
    alone = np.array([1, 0, 1, 1, 0, 0], bool)
    tiny.same_bits(found.natural, [1, 1, 0, 0, 0, 0])
    [one] = found.outcomes.values()
    tiny.same_bits(one.robust, [1, 0, 0, 0, 0, 0])
    tiny.same_bits(one.alone, alone)
    assert one.forwards == one.gradients == 3 * 6
    summary = evaluation.adaptive_summary(found)
    assert summary["BIM"] == {"oblivious": 1 / 6, "T(x') alone": 0.5, "worst case": 1 / 6}
    assert summary["all"] == summary["BIM"]
    head = evaluation.adaptive_table(found).splitlines()[0]
    assert head.split() == ["oblivious", "T(x')", "alone", "adaptive", "worst", "case"]
    assert "oblivious: BIM, attacked image alone   50.00 %" in found.table()
    again = evaluation.Evaluation.from_json(json.loads(json.dumps(found.to_json())))
    tiny.same_bits(again.outcomes["oblivious: BIM"].alone, alone)
    parts = [evaluation.evaluate(path, (x, y), named, shard=(k, 2), **settings) for k in (1, 2)]
    tiny.same_bits(evaluation.merge(parts).outcomes["oblivious: BIM"].alone, alone)


def test_the_papers_count_survives_an_interruption(model, tmp_path):
    x = tiny.images(6, seed=1)
    y = (np.argmax(model(x), axis=1).astype("int32") + 1) % 3  # all wrong
    named = evaluation.oblivious_attacks(model, {"BIM": attacks.BIM(0.2, 0.08, 4)})

    def counted():
        state = evaluation.EvaluationState(str(tmp_path / "partial"))
        path = evaluation.bpda(model)
        found = evaluation.evaluate(path, (x, y), named, checks=False, progress=False, state=state)
        return found.outcomes["oblivious: BIM"]

    first, again = counted(), counted()
    tiny.same_bits(again.alone, first.alone)
    assert again.seconds == first.seconds > 0  # read, not made again


def outcome(*robust, alone=None):
    alone = None if alone is None else np.array(alone, bool)
    return evaluation.Outcome(np.array(robust, bool), alone=alone)


@pytest.mark.parametrize("alone", [None, (1, 1, 0, 1)])
def test_the_columns_by_hand(alone):
    found = evaluation.Evaluation(
        np.array([1, 1, 1, 0], bool),
        {
            "oblivious: A": outcome(1, 1, 0, 0, alone=alone),
            "oblivious: B": outcome(1, 0, 1, 0),
            "adaptive: A": outcome(0, 1, 1, 0),
            "adaptive: C": outcome(1, 1, 1, 0),
            "other": outcome(1, 1, 1, 0),
        },
        {},
    )
    column = {} if alone is None else {"T(x') alone": 0.75}
    assert evaluation.adaptive_summary(found) == {
        "A": {"oblivious": 0.5, "adaptive": 0.5, "worst case": 0.25, **column},
        "B": {"oblivious": 0.5, "worst case": 0.5},
        "C": {"adaptive": 0.75, "worst case": 0.75},
        "all": {"oblivious": 0.25, "adaptive": 0.5, "worst case": 0.0, **column},
    }
    table = evaluation.adaptive_table(found).splitlines()
    named = ["T(x')", "alone"] if alone else []
    assert table[0].split() == ["oblivious", *named, "adaptive", "worst", "case"]
    assert table[1].split() == ["natural"] + ["75.00", "%"] * (4 if alone else 3)
    assert table[3].split() == ["B", "50.00", "%", "50.00", "%"]
    with pytest.raises(ValueError, match=r"only \['other'\]: run those of oblivious_attacks"):
        evaluation.adaptive_summary(
            evaluation.Evaluation(found.natural, {"other": found.outcomes["other"]}, {})
        )


@pytest.mark.slow
def test_every_adaptive_attack_runs(model, labelled):
    named = evaluation.adaptive_attacks(model, 0.1, steps=3, restarts=2, queries=20)
    path = evaluation.bpda(model)
    found = evaluation.evaluate(path, labelled, named, checks=False, progress=False)
    assert all(verdict.sum() <= len(found) for verdict in found.robust.values())
    assert found.worst_case_accuracy < 1
