"""A model that changes after the first call is attacked as it is, and only then compiled again."""

import dataclasses
import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from robust_tf import attacks
from robust_tf.evaluation import Defended, ExpectationOverTransformation

RNG = np.random.default_rng(0)
OLD, NEW = (RNG.normal(size=(4, 3)).astype("float32") for _ in range(2))
X = (0.4 + 0.2 * RNG.random((20, 2, 2, 1))).astype("float32")
Y = np.arange(20) % 3
ATTACK = attacks.BIM(0.1, 0.1, 1)


def step(weights, x=X, y=Y):
    """What one step of eps makes of linear logits, in NumPy: x + eps * sign(d loss / d x)."""
    logits = x.reshape(len(x), 4) @ weights
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    gradient = (p - np.eye(3)[y]) @ weights.T
    return x + 0.1 * np.sign(gradient).reshape(x.shape)


def linear(x, weights):
    return tf.reshape(x, [-1, 4]) @ weights


class Linear:
    """Logits by call and by method."""

    def __init__(self, weights):
        self.weights, self.traces = weights, 0

    def __call__(self, x):
        self.traces += not tf.executing_eagerly()
        return linear(x, self.weights)

    def logits(self, x):
        return self(x)


@dataclasses.dataclass
class Named:
    """Equal to others of its name, and not hashable."""

    name: str
    weights: np.ndarray = dataclasses.field(compare=False)

    def __call__(self, x):
        return linear(x, self.weights)


net = None


def through_a_global_name(x):
    return net(x)


def global_name():
    def bind(weights):
        global net
        net = Linear(weights)

    bind(OLD)
    return through_a_global_name, lambda: bind(NEW)


def attribute():
    model = Linear(OLD)
    return model, lambda: setattr(model, "weights", NEW)


def bound_method():
    model = Linear(OLD)
    return model.logits, lambda: setattr(model, "weights", NEW)


def in_place():
    model = Linear(OLD.copy())
    return model, lambda: np.copyto(model.weights, NEW)


def partial():
    model = Linear(OLD)
    return functools.partial(linear_of, model), lambda: setattr(model, "weights", NEW)


def linear_of(model, x):
    return model(x)


def dense():
    layer = keras.layers.Dense(3, use_bias=False)
    model = keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Flatten(), layer])
    layer.set_weights([OLD])
    return model, layer


def variable():
    model, layer = dense()
    return model, lambda: layer.set_weights([NEW])


def activation():
    model, layer = dense()
    layer.set_weights([-NEW])
    return model, lambda: setattr(layer, "activation", tf.negative)


def layers():
    model, _ = dense()

    def change():
        model.pop()
        model.add(keras.layers.Dense(3, use_bias=False))
        model.layers[-1].set_weights([NEW])

    return model, change


def transform():
    model = Defended(Linear(NEW), lambda x: 0 * x + 0.5)
    return model, lambda: setattr(model, "transform", tf.identity)


KINDS = (
    *(global_name, attribute, bound_method, in_place, partial),
    *(variable, activation, layers, transform),
)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("transfer", [False, True], ids=["itself", "as source"])
def test_a_model_is_attacked_as_it_is(kind, transfer):
    model, change = kind()
    target = Linear(OLD)

    def attacked():
        if transfer:
            return attacks.Transfer(ATTACK, model)(target, X, Y)
        return ATTACK(model, X, Y)

    before = attacked()
    change()
    np.testing.assert_allclose(attacked(), step(NEW), atol=1e-6)
    assert np.abs(before - step(NEW)).max() > 0.1
    assert attacks.BIM(0.2, 0.1, 1)(model, X[:0], Y[:0]).shape == (0, 2, 2, 1)


def test_the_other_attacks_on_it_are_compiled_again_too():
    model = Linear(OLD)
    other = attacks.FGSM(0.1)
    for attack in (ATTACK, other):
        attack(model, X, Y)
    model.weights = NEW
    for attack in (ATTACK, other):
        np.testing.assert_allclose(attack(model, X, Y), step(NEW), atol=1e-6)
    assert other.passes(model) == (2 * 20, 2 * 20)  # what both graphs have cost


@dataclasses.dataclass(frozen=True)
class Whole(attacks.AutoAttack):
    """A worst case of which one part is made on another model."""

    source: object = None

    def stages(self):
        yield "near", attacks.BIM(self.eps / 10, self.eps / 10, 1)
        yield "source", attacks.Transfer(attacks.BIM(self.eps, self.eps, 1), self.source)


def test_a_source_inside_an_attack_is_looked_at_too():
    """The target stays: all images are misclassified at last, by images made on the source."""
    target, source = Linear(NEW), Linear(OLD)
    labels = np.argmax(X.reshape(20, 4) @ NEW, 1)
    attack = Whole(0.1, source=source)
    before = attack(target, X, labels)
    source.weights = NEW
    after = attack(target, X, labels)
    np.testing.assert_array_equal(after, Whole(0.1, source=Linear(NEW))(Linear(NEW), X, labels))
    assert (before != after).numpy().any()


def test_equal_models_are_not_one():
    for weights in (OLD, NEW):
        model = Named("linear", weights)
        np.testing.assert_allclose(ATTACK(model, X, Y), step(weights), atol=1e-6)
        other = Named("linear", -weights)
        np.testing.assert_allclose(ATTACK(other, X, Y), step(-weights), atol=1e-6)


def test_what_has_not_changed_is_not_compiled_again():
    model = Linear(tf.Variable(OLD))
    ATTACK(model, X, Y)
    traces = model.traces
    model.weights.assign(NEW)  # graphs read variables
    np.testing.assert_allclose(ATTACK(model, X, Y), step(NEW), atol=1e-6)
    model.weights.assign(np.full_like(NEW, np.nan))
    ATTACK(model, X, Y)
    assert model.traces == traces


def test_a_model_that_rounds_apart_in_graphs_is_not_compiled_at_every_call():
    """As bfloat16 does: eagerly its logits differ by a hundredth of the largest."""
    model = Linear(OLD)

    def rounding(x):
        return model(x) * (1.01 if tf.executing_eagerly() else 1.0)

    ATTACK(rounding, X, Y)
    once = model.traces
    for _ in range(4):
        ATTACK(rounding, X, Y)
    assert model.traces == once + 1  # to see that it is rounding
    model.weights = NEW
    np.testing.assert_allclose(ATTACK(rounding, X, Y), step(NEW), atol=1e-6)


def test_a_random_model_is_not_compiled_at_every_call():
    model = Linear(OLD)

    def random(x):
        return model(x + tf.random.normal(tf.shape(x), stddev=0.01))

    ATTACK(random, X, Y)
    once = model.traces
    for _ in range(20):
        ATTACK(random, X, Y)
    assert once < model.traces <= once + 5
    traces = model.traces
    model.weights = 10 * NEW  # which the noise does not hide
    assert (np.abs(ATTACK(random, X, Y) - step(10 * NEW)) < 1e-6).mean() > 0.9
    assert model.traces > traces


def test_numbers_drawn_in_python_are_not_compiled_at_every_call():
    rng, model = np.random.default_rng(0), Linear(OLD)

    def random(x):
        return model(x) + rng.normal(size=3).astype("float32")

    ATTACK(random, X, Y)
    once = model.traces
    for _ in range(10):
        ATTACK(random, X, Y)
    assert model.traces <= once + 5


def test_labels_are_compared_on_all_images():
    """Two classifiers agree about the first eight images, and differ in the others."""

    def labels_of(other):
        def labels(x):
            right = tf.equal(tf.argmax(linear(x, OLD), 1), 0)
            late = tf.range(len(x)) >= 8 if other else tf.zeros(tf.shape(x)[:1], tf.bool)
            return 2 * tf.one_hot(tf.cast(right ^ late, tf.int32), 3)

        return labels

    state = {"net": labels_of(False)}

    def model(x):
        return state["net"](x)

    x = np.tile(X, (2, 1, 1, 1))
    y = np.argmax(model(x), 1)
    attack = attacks.RayS(0.5, 50)
    attack(model, x, y)
    state["net"] = labels_of(True)
    expected = attack(labels_of(True), x, y)
    np.testing.assert_array_equal(attack(model, x, y), expected)
    np.testing.assert_array_equal(expected[8:], x[8:])  # misclassified as they are


def test_an_average_of_a_random_model_works():
    model = ExpectationOverTransformation(lambda x: linear(x, OLD), samples=2)
    np.testing.assert_allclose(ATTACK(model, X, Y), step(OLD), atol=1e-6)


def test_inside_a_graph_nothing_is_compared():
    model = Linear(OLD)
    calls = []

    def counted(x):
        calls.append(tf.executing_eagerly())
        return model(x)

    tf.function(lambda: ATTACK(counted, X, Y))()
    assert calls and not any(calls)
