"""Flags of masked gradients: each on a model that is built to raise it, none on sound ones."""

import dataclasses
import json

import gin
import keras
import numpy as np
import pytest
import tensorflow as tf

from robust_tf import attacks
from robust_tf.evaluation import checks
from robust_tf.evaluation.checks import inspect, review, weak_battery
from robust_tf.evaluation.defended import Defended, ExpectationOverTransformation
from robust_tf.evaluation.target_model import copy_in
from tests.evaluation import masked_models as masked

EPS = masked.EPS


def names(model, eps=EPS, norm="Linf", **kwargs):
    return [flag.name for flag in inspect(model, *masked.sample(), {norm: eps}, **kwargs)]


@pytest.mark.parametrize("network", [masked.standard, masked.robust])
@pytest.mark.parametrize(("norm", "eps"), [("Linf", EPS), ("L2", 1.0)])
def test_sound_models_raise_no_flag(network, norm, eps):
    assert names(network(), eps, norm) == []


def test_a_sound_model_that_computes_in_bfloat16_raises_no_flag():
    assert names(copy_in(masked.robust(), "bfloat16")) == []


# A gradient of zero leaves two more traces: the loss does not rise, and no eps is large enough.
STUCK = ["zero_gradients", "loss_not_rising", "large_eps"]
MASKED = [
    (masked.softmax, ["probabilities"]),
    (masked.noisy, ["randomness"]),
    (lambda network: masked.dropping(network, 0.1), ["randomness"]),
    (masked.confident, STUCK),
    # The cross-entropy rounds to 0, its gradient does not.
    (lambda network: lambda x: 4 * network(x), []),
    (masked.rounding, ["input_range", *STUCK]),
    (masked.clipping, ["input_range"]),
    (masked.in_bytes, ["input_range"]),
    (lambda network: masked.batch_norm(network, True), ["training_batch_norm"]),
    (lambda network: masked.batch_norm(network, False), []),
    (lambda network: masked.rugged(network, 0.02, 2000.0), ["loss_not_rising", "large_eps"]),
    (lambda network: masked.rugged(network, 0.1, 80.0), ["more_steps"]),
    (lambda network: Defended(network, masked.round_off), []),
    (lambda network: ExpectationOverTransformation(masked.noisy(network), 3), ["randomness"]),
]


@pytest.mark.parametrize(("hide", "expected"), MASKED)
def test_masked_models_raise_their_flags(hide, expected):
    assert names(hide(masked.standard())) == expected


def test_what_the_flags_say():
    found = inspect(masked.confident(masked.standard()), *SAMPLE, {"Linf": EPS})
    flags = {flag.name: flag for flag in found}
    figures = flags["zero_gradients"].figures
    assert figures == {"cross_entropy": 1.0, "margin": 0.0}
    text = str(flags["zero_gradients"])
    assert "cross entropy 1.0" in text and "Defended(network, transform)" in text
    assert flags["large_eps"].figures["chance"] == 0.1
    [flag] = inspect(masked.in_bytes(masked.standard()), *SAMPLE, {"Linf": EPS})
    assert flag.figures["accuracy_0_to_255"] > flag.figures["accuracy_0_to_1"] + 0.5
    for flag in flags.values():
        back = json.loads(json.dumps(dataclasses.asdict(flag)))
        assert checks.Flag(**back) == flag


SAMPLE = masked.sample()


def one_pixel(x):
    """Class 1 where the one pixel is above one half."""
    pixel = tf.reshape(x, [-1, 1]) - 0.5
    return 10 * tf.concat([-pixel, pixel], 1)


def test_a_handful_of_pixels_and_images():
    x = np.array([0.1, 0.9, 0.7, 0.2], np.float32).reshape(-1, 1, 1, 1)
    y = np.array([0, 1, 1, 0])
    for count in (1, 2, 4):
        assert inspect(one_pixel, x[:count], y[:count], {"Linf": 0.05}) == []
    assert inspect(one_pixel, x, 1 - y, {"Linf": 0.05}) == []  # all wrong: nothing to attack


def test_gradients_that_are_not_there_or_not_finite():
    x, y = np.full((4, 1, 1, 1), 0.3, np.float32), np.zeros(4, np.int32)

    @tf.custom_gradient
    def poison(x):
        return tf.identity(x), lambda upstream: upstream * float("nan")

    found = inspect(lambda x: one_pixel(poison(x)), x, y, {"Linf": 0.1})
    assert "zero_gradients" in [flag.name for flag in found]

    @tf.custom_gradient
    def refuse(x):
        def back(upstream):
            raise LookupError("No gradient defined for operation 'Decode'")

        return tf.identity(x), back

    [flag] = inspect(lambda x: one_pixel(refuse(x)), x, y, {"Linf": 0.1})
    assert flag.name == "zero_gradients" and "Decode" in flag.figures["error"]


def test_the_same_seed_finds_the_same_and_gin_does_not_reach_in():
    model = masked.rugged(masked.standard(), 0.1, 100.0)
    first = inspect(model, *SAMPLE, {"Linf": EPS}, seed=3)
    gin.parse_config("PGD.restarts = 7\nPGD.targeted = True\nPGD.batch_norm = 'batch'")
    assert inspect(model, *SAMPLE, {"Linf": EPS}, seed=3) == first


def test_inspect_refuses():
    x, y = SAMPLE
    with pytest.raises(ValueError, match="eps=0"):
        inspect(one_pixel, x, y, {"Linf": 0})
    with pytest.raises(ValueError, match="norm='L7'"):
        inspect(one_pixel, x, y, {"L7": 0.1})
    with pytest.raises(ValueError, match="no images"):
        inspect(one_pixel, x[:0], y[:0], {"Linf": 0.1})
    with pytest.raises(TypeError, match="float64"):
        inspect(one_pixel, x.astype(np.float64), y, {"Linf": 0.1})


# ---- a network that predicts one class -----------------------------------------------------------


def constant(x):
    """Logits that hardly depend on the image."""
    return tf.constant([[0.0, 1.0, 0.5]]) + 1e-9 * tf.reduce_sum(x, [1, 2, 3])[:, None]


COLLAPSED = [
    (constant, "The network predicts one class", 1),
    (lambda x: tf.zeros([tf.shape(x)[0], 10]), "The network predicts one class", 0),
    (lambda x: constant(x) * float("nan"), "The network's outputs are not numbers", -1),
]


@pytest.mark.parametrize(("model", "title", "predicted"), COLLAPSED)
def test_a_collapsed_network_raises_one_flag(model, title, predicted):
    [flag] = inspect(model, *SAMPLE, {"Linf": EPS, "L2": 1.0})
    assert (flag.name, flag.title, flag.figures) == ("collapsed", title, {"predicted": predicted})
    assert "Train it again" in flag.advice


@pytest.mark.parametrize(
    ("predictions", "labels", "expected"),
    [
        ([1] * 6, [0, 0, 0, 1, 1, 1], 1),
        ([-1] * 4, [0, 1, 0, 1], -1),
        ([1] * 5 + [0], [0, 0, 0, 1, 1, 1], None),
        ([1] * 6, [1] * 6, None),  # of one class there is nothing to tell apart
        ([0] * 6, [1] * 6, None),
        ([1] * 4, [0, 0, 1, 1], None),  # two images of another class: by chance
        ([1] * 40, [0] * 4 + [1] * 36, None),  # a tenth, as a sound model may miss
        ([1] * 40, [0] * 5 + [1] * 35, 1),
        ([], [], None),
    ],
)
def test_when_a_network_has_collapsed(predictions, labels, expected):
    found = checks.collapsed_class(np.array(predictions, int), np.array(labels, int))
    assert found == expected


def test_every_norm_is_looked_at():
    """PGD in L2 moves along a gradient of 1e-20; one of L-inf takes its sign."""

    @tf.custom_gradient
    def faint(x):
        return tf.identity(x), lambda upstream: 1e-20 * upstream

    def hidden(x):
        return one_pixel(faint(x))

    x = np.linspace(0.1, 0.4, 8, dtype=np.float32).reshape(-1, 1, 1, 1)
    y = np.zeros(8, int)
    assert inspect(hidden, x, y, {"Linf": 0.5}) == []
    alone = inspect(hidden, x, y, {"L2": 0.5})
    assert "zero_gradients" in [flag.name for flag in alone]
    both = inspect(hidden, x, y, {"Linf": 0.5, "L2": 0.5})
    assert [flag.name for flag in both] == [flag.name for flag in alone]
    assert all(flag.figures["norm"] == "L2" for flag in both)


# ---- the verdicts ------------------------------------------------------------------------------


def broken(*where, count=1000):
    verdict = np.ones(count, bool)
    verdict[list(where)] = False
    return verdict


KINDS = {"pgd": "white_box", "cw": "white_box", "square": "black_box", "rays": "black_box"}


def found(robust, attacks=KINDS, natural=None):
    natural = np.ones(1000, bool) if natural is None else natural
    return review(natural, robust, attacks)


def test_black_box_attacks_are_not_to_be_ahead():
    white = {"pgd": broken(1, 2), "cw": broken(2, 3)}
    assert found({**white, "square": broken(1, 2, 3, 4, 5)}) == []  # 0.2 points and no more
    [flag] = found({**white, "square": broken(1, 4, 5), "rays": broken(5, 6)})
    assert flag.name == "black_box_stronger"
    assert flag.figures == {"images": 3, "points": 0.3, "square": 2, "rays": 2}
    # An image that is misclassified anyway does not count.
    natural = broken(5, 6)
    assert found({**white, "rays": broken(4, 5, 6)}, natural=natural) == []
    few = {"pgd": np.ones(20, bool), "square": broken(3, count=20)}
    assert review(np.ones(20, bool), few, KINDS) == []  # one image
    assert found({"square": broken(1, 2, 3, 4)}) == []  # there is nothing to compare with
    assert found({}) == []


@dataclasses.dataclass(frozen=True)
class Blind(attacks.Attack):
    black_box = True


@dataclasses.dataclass(frozen=True)
class Both(attacks.Attack):
    def stages(self):
        yield "pgd", attacks.PGD(0.1, 0.1, 5)
        yield "blind", Blind()


def test_the_kind_is_an_attribute_of_the_attack():
    robust = {"pgd": broken(1), "blind": broken(2, 3, 4)}
    [flag] = found(robust, {"pgd": attacks.PGD(0.1, 0.1, 5), "blind": Blind()})
    assert flag.figures["blind"] == 3
    assert found(robust, {"pgd": attacks.PGD(0.1, 0.1, 5), "blind": Both()}) == []


def test_more_restarts_or_steps_of_the_same_attack():
    given = {
        "one": attacks.PGD(0.1, 0.02, 20),
        "five": attacks.PGD(0.1, 0.02, 20, restarts=5, keep="best"),
        "long": attacks.PGD(0.1, 0.01, 200),
        "wider": attacks.PGD(0.2, 0.02, 200),
        "other": attacks.CW(0.1, 0.02, 200),
        "blind": Blind(),
    }
    sixty = range(60)
    for name, expected in [
        ("five", {"less": "one", "more": "five", "points": 6.0}),
        ("long", {"less": "one", "more": "long", "points": 6.0}),
        ("one", None),
        ("wider", None),
        ("other", None),
    ]:
        robust = {key: broken(*sixty) if key == name else broken() for key in given}
        flags = [flag for flag in found(robust, given) if flag.name == "restarts_help"]
        assert [flag.figures for flag in flags] == ([expected] if expected else [])
    robust = {"one": broken(), "five": broken(*range(50))}
    assert found(robust, given) == []  # five points: a sound model may lose as much
    wrapped = {name: attacks.MultiTargeted(given[name]) for name in ("one", "five")}
    [flag] = found({"one": broken(), "five": broken(*sixty)}, wrapped)
    assert flag.figures["points"] == 6.0


# By their names, as the check does, so that this file needs none of them.
@dataclasses.dataclass(frozen=True)
class APGD(attacks.Attack):
    loss: str = "ce"


@dataclasses.dataclass(frozen=True)
class FAB(attacks.Attack):
    pass


def test_a_claim_takes_three_kinds_of_attack():
    pgd = attacks.PGD(0.1, 0.02, 20)
    assert weak_battery([APGD(), FAB(), Blind()]) is None
    assert weak_battery({"a": APGD(), "b": attacks.CW(0.1, 0.02, 20), "c": Blind()}) is None
    assert weak_battery([APGD(), APGD("dlr"), Blind()]) is None
    assert weak_battery([APGD(), attacks.MultiTargeted(pgd), Blind()]) is None
    for given, missing in [
        ([], 3),
        ([pgd], 3),
        ([Both()], 2),
        ([APGD("dlr"), Blind()], 1),
        ([APGD(), Blind()], 1),
        ([APGD(), FAB()], 1),
    ]:
        flag = weak_battery(given)
        assert flag.name == "weak_battery" and len(flag.figures["missing"]) == missing
    assert "a first look" in str(weak_battery([pgd]))


def test_a_whole_inspection_is_quick():
    """In gradients of the images, so that it does not depend on what else the machine does."""
    passes = []

    class Counted(keras.layers.Layer):
        def call(self, x):
            return count(x)

    @tf.custom_gradient
    def count(x):
        def back(upstream):
            tf.py_function(lambda n: passes.append(int(n)), [tf.shape(upstream)[0]], [])
            return upstream

        return tf.identity(x), back

    network, layer = masked.robust(), Counted()
    x, y = SAMPLE
    inspect(lambda x: network(layer(x)), x, y, {"Linf": EPS})
    assert 0 < sum(passes) <= 172 * len(x)
