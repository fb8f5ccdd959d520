"""`evaluate` attacks the model that it judges, whatever was compiled before, and frees graphs."""

import gc
import weakref

import numpy as np
import tensorflow as tf

from robust_tf import attacks
from robust_tf.attacks import compiled
from robust_tf.evaluation import evaluate
from tests.attacks.test_changed_models import KINDS, NEW, OLD, step

RNG = np.random.default_rng(1)
X = (0.3 + 0.4 * RNG.random((200, 2, 2, 1))).astype("float32")
Y = np.argmax(X.reshape(-1, 4) @ NEW, 1)
ATTACK = attacks.BIM(0.1, 0.1, 1)
net = None


def predicted(weights, x):
    return np.argmax(x.reshape(len(x), 4) @ weights, 1)


def test_the_model_of_now_is_attacked_and_judged():
    """A name bound anew between two evaluations: robust accuracy is that of the new model."""
    global net

    def logits(x):
        return net(x)

    for weights in (OLD, NEW, OLD):
        net = lambda x, weights=weights: tf.reshape(x, [-1, 4]) @ weights  # noqa: E731
        right = predicted(weights, X) == Y
        right &= predicted(weights, step(weights, X, Y)) == Y
        result = evaluate(logits, (X, Y), ATTACK, checks=False)
        np.testing.assert_array_equal(result.worst_case, right)


def test_every_kind_of_change():
    right = predicted(NEW, step(NEW, X, Y)) == Y
    for kind in KINDS:
        model, change = kind()
        ATTACK(model, X, Y)
        evaluate(model, (X, Y), ATTACK, checks=False)
        change()
        result = evaluate(model, (X, Y), ATTACK, checks=False)
        np.testing.assert_array_equal(result.worst_case, right, err_msg=kind.__name__)


def test_a_random_model_is_attacked_as_it_is():
    """Eager calls may miss a small change of a random model; an evaluation does not."""
    state = {"weights": OLD}

    def model(x):
        x = tf.reshape(x + tf.random.normal(tf.shape(x), stddev=0.001), [-1, 4])
        return x @ state["weights"]

    ATTACK(model, X, Y)
    state["weights"] = NEW
    result = evaluate(model, (X, Y), ATTACK, checks=False)
    right = predicted(NEW, step(NEW, X, Y)) == Y
    assert (result.worst_case == right).mean() > 0.9


def test_graphs_are_freed_and_no_others_are_touched():
    graphs = []

    def model(x):
        if not tf.executing_eagerly():
            graphs.append(weakref.ref(x.graph))
        return tf.reshape(x, [-1, 4]) @ NEW

    ATTACK(model, X, Y)
    own = compiled.compiled(
        ATTACK.at(1.0, 1.0), "run", model, tf.constant(X), tf.zeros(2, tf.int32)
    )
    count = len(graphs)
    for _ in range(2):
        evaluate(model, (X, Y), [ATTACK, attacks.Square(0.1, 5)], checks=True)
    assert len(graphs) > count
    gc.collect()
    assert {ref() is None for ref in graphs[count:]} == {True}
    again = compiled.compiled(
        ATTACK.at(1.0, 1.0), "run", model, tf.constant(X), tf.zeros(2, tf.int32)
    )
    assert again is own


def test_graphs_are_freed_after_a_failure():
    outside = compiled._cache()
    try:
        evaluate(lambda x: tf.reshape(x, [-1, 4])[:, :1], (X, Y), ATTACK)
    except ValueError:
        assert compiled._cache() is outside
