"""NumPy's numbers, of every kind, are numbers: in attacks, evaluations, recipes and their files."""

import dataclasses
import json

import gin
import numpy as np
import pytest
import tensorflow as tf

from robust_tf import attacks, compat, methods, models, training
from robust_tf.data.augment import Augmentation
from robust_tf.evaluation import evaluate
from robust_tf.runs import bindings
from robust_tf.training.optimizers import piecewise
from tests.tiny import Smooth, images, same_bits

KINDS = (
    *(np.float16, np.float32, np.float64, np.longdouble, tf.bfloat16.as_numpy_dtype),
    np.array,
)
X = images()
Y = np.argmax(Smooth()(X), axis=1)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_attacks_are_what_they_are_of_the_same_python_number(kind):
    eps = kind(0.1)
    number = float(eps)
    model = Smooth()
    made = [
        attacks.PGD(eps, eps, np.int8(2), np.uint8(1), targeted=np.bool_(False)),
        attacks.PGD(0.3, 0.1, 2).at(eps, eps),
        attacks.ProjectedGradient(attacks.Linf(eps), attacks.Momentum(eps, eps), np.int64(2)),
        attacks.APGD(eps, np.int64(3), rho=kind(0.75)),
        attacks.FAB(eps, np.array(2), eta=kind(1.5)),
        attacks.Square(eps, np.uint16(20), kind(0.75)),
        attacks.RayS(eps, np.int32(20), tolerance=kind(0.5)),
        attacks.CW(eps, eps, np.int32(2)),
        attacks.AutoAttack(eps),
        attacks.SqueezeAttack(eps, eps, np.int16(2)),
    ]
    for attack in made:
        assert attack.eps == number and type(attack.eps) is float
        config = json.loads(json.dumps(compat.serialize(attack)))
        again = compat.deserialize(config)
        assert again == attack and hash(again) == hash(attack)
        assert json.loads(json.dumps(compat.serialize(again))) == config
    plain = attacks.PGD(number, number, 2)
    assert made[0] == plain
    plain(model, X, Y)
    traces = model.traces
    same_bits(made[0](model, X, Y, seed=np.int64(3)), plain(model, X, Y, seed=3))
    same_bits(
        plain.at(0.3)(model, X, Y, eps=eps, step_size=eps, scale=kind(0.5)),
        plain(model, X, Y, scale=0.5),
    )
    assert model.traces == traces  # one graph for them all


def test_an_evaluation():
    options = {"batch_size": np.int32(4), "max_examples": np.int64(5), "seed": np.uint8(0)}
    found = evaluate(
        Smooth(),
        (X, Y),
        attacks.FGSM(0.1),
        eps=np.float32(0.5),
        shard=(np.int8(1), np.int8(1)),
        progress=False,
        **options,
    )
    expected = evaluate(
        Smooth(),
        (X, Y),
        attacks.FGSM(0.1),
        eps=0.5,
        shard=(1, 1),
        progress=False,
        batch_size=4,
        max_examples=5,
        seed=0,
    )
    assert json.dumps(found.settings) == json.dumps(expected.settings)
    assert evaluate(Smooth(), (X, Y), attacks.FGSM(0.1), eps=np.array([0.1, 0.2])).outcomes.keys()


@pytest.mark.parametrize(
    "make",
    [
        lambda n, k: methods.Compactness(alpha=n(0.5), norm=k(2)),
        lambda n, k: methods.DiscriminatorTraining(k(3), n(0.5), n(0.5), n(0.25), np.bool_(True)),
        lambda n, k: training.AWP(k(3), n(0.5)),
        lambda n, k: training.weight_average.WeightAverage(n(0.5), k(3), k(2)),
        lambda n, k: training.PseudoLabels("teacher", None, n(0.5), k(3)),
        lambda n, k: Augmentation(k(2), np.bool_(True)),
    ],
)
def test_configurations_hold_python_numbers(make):
    numpys, plain = make(np.float32, np.int64), make(float, int)
    assert numpys == plain
    assert json.dumps(dataclasses.asdict(numpys)) == json.dumps(dataclasses.asdict(plain))


def test_a_schedule():
    boundaries = np.array([1.5, 3])
    schedule = piecewise(np.float32(0.5), 10, 4, boundaries, np.float32(0.5))
    assert schedule.get_config() == piecewise(0.5, 10, 4, (1.5, 3.0), 0.5).get_config()


def test_gin_and_the_record_of_a_run():
    gin.clear_config()
    gin.bind_parameter("PGD.eps", np.float32(0.25))
    gin.bind_parameter("PGD.steps", np.int64(3))
    try:
        assert attacks.PGD(step_size=np.float16(0.5)) == attacks.PGD(0.25, 0.5, 3)
        found = bindings.operative()
    finally:
        gin.clear_config()
    found = json.loads(json.dumps(found))
    assert (found["PGD.eps"], found["PGD.steps"]) == (0.25, 3)


def test_a_network_of_numpy_sizes():
    for network in (
        models.CNN((18, 18, 1), np.int64(3), np.int64(4), np.int64(5)),
        models.MLP((18, 18, 1), np.int32(3), np.array([4, 5])),
        models.ResNet((20, 20, 1), np.int64(3), np.array([2, 2, 2, 2]), np.int64(1)),
    ):
        images = np.zeros((1, *network.image_shape), "float32")
        assert network(images).shape == (1, 3)
        json.dumps(compat.serialize(network))
