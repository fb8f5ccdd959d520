"""What users bring may branch on tensors; what the library brings is traced as it is."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from robust_tf import attacks, autograph, compat, methods
from robust_tf.attacks.objectives import CrossEntropy
from robust_tf.training.loop import Loop
from tests.tiny import images, labelled, tiny_network


class BranchingEntropy(CrossEntropy):
    """An objective of a user, with an `if` on a tensor."""

    def values(self, logits, y, reference=None):
        return super().values(logits, y, reference)


@dataclasses.dataclass(frozen=True)
class Darker(attacks.Attack):
    """An attack of a user, with an `if` and a `for` on tensors."""

    eps: float

    def run(self, network, x, y, seed, budget):
        moved = x
        if tf.reduce_mean(x) > 0.0:
            for _ in tf.range(2):
                moved = tf.maximum(moved - tf.cast(budget.eps, x.dtype) / 2, 0.0)
        return moved


class Halving(methods.Standard):
    """A method of a user, whose term branches."""

    def terms(self, batch):
        (name,) = super().terms(batch)

        def halved():
            value = super(Halving, self).terms(batch)[name]()
            if tf.reduce_mean(value) > 0.0:
                value = value / 2
            return value

        return {name: halved}


def test_what_needs_it():
    network = tiny_network()
    pgd = attacks.PGD(0.1, 0.05, 2)
    assert autograph.is_needed(pgd, network) is not compat.KERAS_3
    assert not autograph.is_needed(pgd, attacks.AutoAttack(0.1), {"a": [1, None, tf.zeros(1)]})
    assert autograph.is_needed(pgd, lambda x: network(x))
    assert autograph.is_needed(Darker(0.1))
    mixed = dataclasses.replace(pgd.composition(), objective=BranchingEntropy())
    assert autograph.is_needed(mixed) and not autograph.is_needed(pgd.composition())


def test_an_attack_of_a_user_may_branch():
    x = images()
    x_adv = Darker(0.25)(tiny_network(), x, np.zeros(len(x), int))
    np.testing.assert_allclose(x_adv, np.maximum(x - 0.25, 0), atol=1e-6)


def test_a_model_of_a_user_may_branch():
    network = tiny_network()

    def model(x):
        logits = network(x)
        if tf.reduce_mean(x) < 0.0:
            logits = -logits
        return logits

    x, y = labelled(6)
    square = attacks.Square(0.1, queries=3)
    np.testing.assert_array_equal(square(model, x, y), square(network, x, y))


@pytest.mark.parametrize(
    "attack", [attacks.PGD(0.1, 0.05, 3, keep="best"), attacks.APGD(0.1, 3)], ids=["PGD", "APGD"]
)
def test_the_same_bits_with_it(attack, monkeypatch):
    x, y = labelled(6)
    plain = attack(tiny_network(), x, y, seed=1).numpy()
    monkeypatch.setattr(autograph, "is_needed", lambda *parts: True)
    assert np.array_equal(attack(tiny_network(), x, y, seed=1), plain)


def test_the_loop_converts_what_a_user_brings():
    x, y = labelled(6)
    losses = {}
    for method in (methods.Standard, Halving):
        model = method(tiny_network())
        model.compile("sgd")
        loop = Loop(model, tf.distribute.get_strategy())
        assert loop._converted == (method is Halving or not compat.KERAS_3)
        batches = iter(tf.data.Dataset.from_tensors((x, y)))
        good, _ = loop.train(batches, tf.constant(1))
        assert good == 1
        losses[method] = loop.train_metrics()["loss"]
    assert losses[Halving] == pytest.approx(losses[methods.Standard] / 2, rel=1e-5)
