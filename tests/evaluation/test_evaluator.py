"""The evaluator, on models whose verdicts are known beforehand."""

import dataclasses
import inspect
import json

import gin
import keras
import numpy as np
import pytest
import tensorflow as tf

from robust_tf import attacks, data, evaluation
from robust_tf.evaluation import evaluate

PGD = attacks.PGD(eps=0.1, step_size=0.05, steps=5)


def threshold(x):
    """Class 1 where the one pixel is above one half."""
    pixel = tf.reshape(x, [-1, 1]) - 0.5
    return 10 * tf.concat([-pixel, pixel], 1)


def one_pixel(*values):
    return np.array(values, np.float32).reshape(-1, 1, 1, 1)


GOOD = one_pixel(0.1, 0.9), np.array([0, 1])


def nearest_of_three(x):
    """Three classes on one line: below 1/3, between, above 2/3."""
    centers = tf.constant([[0.0, 0.5, 1.0]])
    return -10 * tf.square(tf.reshape(x, [-1, 1]) - centers)


@dataclasses.dataclass(frozen=True)
class Recorder(attacks.Attack):
    """Two stages: the first breaks class 0, the second class 2. Writes down its calls."""

    calls: list = dataclasses.field(default_factory=list, hash=False, compare=False)
    stage: int = 0

    def stages(self):
        if self.stage:
            yield "", self
            return
        for stage in (1, 2):
            yield f"stage {stage}", dataclasses.replace(self, stage=stage)

    def __call__(self, model, x, y, *, seed=0, scale=1.0):
        self.calls.append((y.numpy().tolist(), seed.numpy().tolist()))
        breaks = tf.equal(y, 2 * (self.stage - 1))[:, None, None, None]
        return tf.where(breaks, 1 - x, x)

    def get_config(self):
        return {}


def test_the_verdicts_are_those_of_a_ruler():
    images = one_pixel(0.05, 0.45, 0.55, 0.65, 0.3, 0.41, 0.39)
    labels = np.array([0, 0, 1, 1, 1, 0, 0])
    result = evaluate(threshold, (images, labels), {"pgd": PGD}, batch_size=3)
    assert result.natural.tolist() == [True, True, True, True, False, True, True]
    assert result.robust["pgd"].tolist() == [True, False, False, True, False, False, True]
    assert result.natural_accuracy == 6 / 7
    assert result.accuracy("pgd") == result.worst_case_accuracy == 3 / 7


def test_worst_case_is_per_example():
    @dataclasses.dataclass(frozen=True)
    class Shift(attacks.Attack):
        by: float

        def run(self, network, x, y, seed, scale):
            return tf.clip_by_value(x + self.by, 0.0, 1.0)

    images, labels = one_pixel(0.4, 0.6, 0.9), np.array([0, 1, 1])
    result = evaluate(threshold, (images, labels), {"up": Shift(0.2), "down": Shift(-0.2)})
    assert result.robust["up"].tolist() == [False, True, True]
    assert result.robust["down"].tolist() == [True, False, True]
    assert result.worst_case.tolist() == [False, False, True]
    assert "worst case over all   33.33 %" in result.table()


def test_without_attacks_the_worst_case_is_the_natural_accuracy():
    result = evaluate(threshold, (one_pixel(0.1, 0.2), np.array([0, 1])), {})
    assert result.worst_case_accuracy == result.natural_accuracy == 0.5


def test_stages_see_only_the_images_still_standing():
    attack = Recorder()
    images = one_pixel(0.1, 0.5, 0.9, 0.1, 0.9)
    labels = np.array([0, 1, 2, 0, 1])  # the last one is misclassified
    result = evaluate(nearest_of_three, (images, labels), {"recorder": attack}, batch_size=3)
    seen = [labels for labels, _ in attack.calls]
    # Stage 1 in chunks of 3 and 1; it breaks both images of class 0. Stage 2 runs on the other two.
    assert seen == [[0, 1, 2], [0], [1, 2]]
    assert result.robust["recorder"].tolist() == [False, True, False, False, False]
    assert result.outcomes["recorder"].details["stages"] == {"stage 1": 2, "stage 2": 1}
    seeds = [tuple(seed) for _, seeds in attack.calls for seed in seeds]
    assert seeds[4:] == seeds[1:3]  # each example has its own, which all stages share
    assert len(set(seeds)) == 4


def test_an_attack_does_not_depend_on_the_others(rng):
    images, labels = one_pixel(*rng.random(64)), rng.integers(0, 2, 64)
    weak = attacks.PGD(eps=0.2, step_size=0.001, steps=1)  # where it lands is mostly chance
    stronger = attacks.PGD(eps=0.2, step_size=0.1, steps=5)
    both = evaluate(threshold, (images, labels), {"a": stronger, "b": weak}, batch_size=10)
    alone = evaluate(threshold, (images, labels), {"b": weak}, batch_size=10)
    again = evaluate(threshold, (images, labels), {"b": weak, "a": stronger}, batch_size=10)
    other = evaluate(threshold, (images, labels), {"b": weak}, batch_size=10, seed=1)
    assert (both.robust["b"] == alone.robust["b"]).all()
    assert (both.robust["b"] == again.robust["b"]).all()
    assert (alone.robust["b"] != other.robust["b"]).any()
    assert both.worst_case_accuracy <= min(both.accuracy("a"), both.accuracy("b"))


def test_multi_targeted_breaks_what_the_gradient_of_the_loss_hides():
    # Halfway between two other classes the gradients towards them cancel: BIM does not move.
    images, labels = one_pixel(0.5, 0.4, 0.9), np.array([1, 1, 2])
    bim = attacks.BIM(eps=0.3, step_size=0.1, steps=4)
    battery = {"multi": attacks.MultiTargeted(bim), "one": bim}
    result = evaluate(nearest_of_three, (images, labels), battery)
    assert result.robust["one"].tolist() == [True, False, False]
    assert result.robust["multi"].tolist() == [False, False, False]


def test_a_keras_model_and_a_split_of_bytes(rng):
    network = keras.Sequential(
        [keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]
    )
    split = data.Split(
        rng.integers(0, 256, (7, 4, 4, 1), dtype=np.uint8), rng.integers(0, 3, 7, dtype=np.int32)
    )
    result = evaluate(network, split, [PGD], batch_size=3, max_examples=5)
    expected = network.predict(split.images / 255.0, verbose=0).argmax(1) == split.labels
    assert result.natural.tolist() == expected[:5].tolist()
    assert len(result) == 5
    assert list(result.robust) == ["PGD-5 eps=0.1"]
    assert evaluate(network, split, [PGD], max_examples=99).natural.tolist() == expected.tolist()


def test_not_a_number_is_not_a_correct_prediction():
    def nan_above_half(x):
        return threshold(x) + tf.where(tf.reshape(x, [-1, 1]) > 0.5, float("nan"), 0.0)

    result = evaluate(nan_above_half, (one_pixel(0.2, 0.8, 0.45), np.array([0, 0, 0])), [PGD])
    assert result.natural.tolist() == [True, False, True]
    assert result.worst_case.tolist() == [True, False, False]


def test_one_trace_for_every_stage_and_ragged_chunk(rng):
    traces = []

    def model(x):
        traces.append(x.shape[0])
        return nearest_of_three(x)

    images, labels = one_pixel(*rng.random(23)), rng.integers(0, 3, 23)
    battery = [attacks.MultiTargeted(PGD), PGD]
    evaluate(model, (images, labels), battery, batch_size=5, checks=False, eps=[0.05, 0.1, 0.2])
    # Eager calls: to count the classes, by the evaluator and each attack, and two of the evaluator
    # to tell this model from another. The others are traces with a batch of any size: prediction,
    # PGD, and three places of MultiTargeted, for every eps.
    assert sum(size is not None for size in traces) <= 5
    assert sum(size is None for size in traces) <= 5


def test_json_round_trip_rebuilds_verdicts_and_attacks(rng):
    images, labels = one_pixel(*rng.random(40)), rng.integers(0, 2, 40)
    wanted = {
        "pgd": PGD,
        "multi": attacks.MultiTargeted(attacks.CW(eps=0.1, step_size=0.05, steps=3, restarts=2)),
        "mim": attacks.MIM(eps=0.3, step_size=0.1, steps=3, norm="L2"),
        "trades": attacks.TRADESAttack(eps=0.1, step_size=0.05, steps=2),
    }
    result = evaluate(threshold, (images, labels), wanted, batch_size=16, seed=3)
    value = json.loads(json.dumps(result.to_json()))
    back = evaluation.Evaluation.from_json(value)
    assert (back.natural == result.natural).all()
    assert all((back.robust[name] == result.robust[name]).all() for name in wanted)
    assert back.to_json() == value
    assert evaluation.attacks_from_json(value) == wanted
    assert (value["seed"], value["batch_size"], value["examples"]) == (3, 16, 40)
    assert value["versions"]["tensorflow"] == tf.__version__


def test_json_of_another_kind_is_refused():
    for value in ({}, {"examples": 3}, [], {"attacks": {"a": 1}}):
        with pytest.raises(ValueError, match="not an evaluation"):
            evaluation.Evaluation.from_json(value)
        if value != {}:
            with pytest.raises(ValueError):
                evaluation.attacks_from_json(value)
    good = evaluate(threshold, (one_pixel(0.1), np.array([0])), [PGD]).to_json()
    with pytest.raises(ValueError, match="'5-7' is not a range of indices below 1"):
        evaluation.Evaluation.from_json({**good, "misclassified": "5-7"})
    broken = {"attacks": {"a": {"attack": {"class_name": "Unknown", "config": {}}}}}
    with pytest.raises(ValueError, match="cannot rebuild the attack 'a'"):
        evaluation.attacks_from_json(broken)


def test_the_call_comes_before_gin_and_gin_before_the_defaults():
    gin.parse_config("""
        some = 7
        evaluate.batch_size = %some
        evaluate.seed = 4
    """)
    result = evaluate(threshold, GOOD, [], seed=0)
    assert (result.settings["batch_size"], result.settings["seed"]) == (7, 0)
    assert result.settings["checks"] is True
    with pytest.raises(ValueError, match="doesn't have a parameter named 'batchsize'"):
        gin.parse_config("evaluate.batchsize = 7")


def test_every_setting_is_an_argument_with_its_default():
    parameters = inspect.signature(evaluate).parameters
    assert not any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    for field in dataclasses.fields(evaluation.Protocol):
        assert parameters[field.name].default == field.default


def test_one_attack_and_several_eps():
    images = one_pixel(0.05, 0.35, 0.45, 0.7), np.array([0, 0, 0, 1])
    result = evaluate(threshold, images, PGD, eps=[0.1, 0.3])
    assert result.robust["PGD-5 eps=0.1"].tolist() == [True, True, False, True]
    assert result.robust["PGD-5 eps=0.3"].tolist() == [True, False, False, False]
    assert result.settings["balls"]["PGD-5 eps=0.3"] == ["Linf", 0.3]
    rebuilt = evaluation.attacks_from_json(result.to_json())
    wider = attacks.PGD(eps=0.3, step_size=0.05 * (0.3 / 0.1), steps=5)
    assert rebuilt == {"PGD-5 eps=0.1": PGD, "PGD-5 eps=0.3": wider}
    by_name = {"mine": PGD, "multi": attacks.MultiTargeted(attacks.CW(0.2, 0.1, 3))}
    names = list(evaluate(threshold, images, by_name, eps=(0.1, 8 / 255), checks=False).robust)
    assert names == ["mine eps=0.1", "multi eps=0.1", "mine eps=8/255", "multi eps=8/255"]
    one = evaluate(threshold, images, by_name, eps=np.float32(0.25), checks=False)
    assert [ball for ball in one.settings["balls"].values()] == [["Linf", 0.25]] * 2


def test_a_result_shows_as_a_small_table():
    result = evaluate(threshold, (one_pixel(0.45, 0.9), np.array([0, 1])), {"a<b": PGD})
    assert repr(result).splitlines() == [
        "Evaluation on 2 images",
        "  natural              100.00 %",
        "  a<b                   50.00 %",
        "  worst case over all   50.00 %",
        "! These attacks are too weak for a claim of robustness",
    ]
    shown = result._repr_html_()
    assert "<td>a&lt;b</td><td>50.00 %</td>" in shown and "too weak for a claim" in shown
    outcomes = {f"attack {k}": result.outcomes["a<b"] for k in range(30)}
    lines = repr(evaluation.Evaluation(result.natural, outcomes, {})).splitlines()
    assert len(lines) == 15 and lines[-2].strip() == "19 more attacks"


def test_a_collapsed_network_is_no_masked_gradient(rng):
    def ignorant(x):
        return tf.constant([[0.0, 1.0, 0.5]]) + 0.0 * tf.reduce_sum(x, [1, 2, 3])[:, None]

    # The first 64 are of one class: all images are looked at.
    labels = np.repeat([1, 0, 2], 64)
    result = evaluate(ignorant, (one_pixel(*rng.random(192)), labels), [PGD])
    assert [flag["name"] for flag in result.flags] == ["collapsed", "weak_battery"]
    assert result.flags[0]["figures"] == {"predicted": 1}
    assert result.natural_accuracy == result.worst_case_accuracy == 1 / 3


def test_both_norms_of_a_battery_are_checked(rng):
    @tf.custom_gradient
    def faint(x):
        return tf.identity(x), lambda upstream: 1e-20 * upstream

    battery = {"linf": PGD, "l2": attacks.PGD(eps=0.1, step_size=0.05, steps=5, norm="L2")}
    images = one_pixel(*(0.4 * rng.random(8))), np.zeros(8, int)
    flags = evaluate(lambda x: threshold(faint(x)), images, battery).flags
    [found] = [flag for flag in flags if flag["name"] == "zero_gradients"]
    assert found["figures"]["norm"] == "L2"


def test_progress_on_stderr(capsys):
    examples = one_pixel(0.1, 0.45, 0.9), np.array([0, 0, 1])
    evaluate(threshold, examples, {"pgd": PGD}, progress=False)
    assert capsys.readouterr().err == ""
    evaluate(threshold, examples, {"pgd": PGD})
    assert capsys.readouterr().err.startswith("pgd: robust 66.67 %, ")
    evaluate(threshold, examples, {"pgd": PGD}, progress=True)
    captured = capsys.readouterr()
    assert captured.out == "" and "3/3" in captured.err and "robust 66.67 %" in captured.err


REFUSED = [
    (GOOD, {"attacks": "PGD(eps=-1, step_size=1, steps=1)"}, ValueError, "eps=-1"),
    (GOOD, {"attacks": {"x": "PGD"}}, TypeError, "expected an Attack"),
    (GOOD, {"batch_size": 0}, ValueError, "batch_size=0"),
    (GOOD, {"max_examples": 0}, ValueError, "max_examples=0"),
    (GOOD, {"attacks": [attacks.PGD(0.1, 0.1, 1, targeted=True)]}, ValueError, "MultiTargeted"),
    ((GOOD[0] * 255, GOOD[1]), {}, ValueError, r"uint8"),
    ((GOOD[0] - 0.5, GOOD[1]), {}, ValueError, r"\[0, 1\]"),
    ((GOOD[0] * np.nan, GOOD[1]), {}, ValueError, r"\[0, 1\]"),
    ((GOOD[0].astype(np.float64), GOOD[1]), {}, ValueError, "float64"),
    ((GOOD[0], np.array([0, 2])), {}, ValueError, "labels range over .0, 2."),
    ((GOOD[0], np.array([-1, 1])), {}, ValueError, "labels range over .-1, 1."),
    ((GOOD[0], np.eye(2)), {}, ValueError, "one-hot"),
    ((GOOD[0], GOOD[1].astype(np.float32)), {}, TypeError, "float32"),
    ((GOOD[0], GOOD[1][:1]), {}, ValueError, "do not fit"),
    ((GOOD[0][:0], GOOD[1][:0]), {}, ValueError, "no examples"),
    (GOOD[0], {}, TypeError, "expected data.Split or"),
    ((GOOD[0], GOOD[1][:, None]), {}, ValueError, r"shape \(2, 1\); .* labels\[:, 0\]"),
    (GOOD, {"attacks": None}, TypeError, "the attacks are None; expected"),
    (GOOD, {"attacks": PGD, "eps": 0}, ValueError, r"evaluate\(eps=0\): must be .* > 0"),
    (GOOD, {"attacks": PGD, "eps": [0.1, 8]}, ValueError, r"evaluate\(eps=8\): .* 8/255\?"),
    (GOOD, {"attacks": PGD, "eps": []}, ValueError, "one eps or more"),
    (GOOD, {"attacks": PGD, "eps": "8/255"}, ValueError, r"evaluate\(eps='8/255'\)"),
    (GOOD, {"attacks": Recorder(), "eps": 0.1}, ValueError, "Recorder has no eps"),
    (GOOD, {"seed": 0.5}, ValueError, r"evaluate\(seed=0.5\): must be an integer >= 0"),
]


@pytest.mark.parametrize(("examples", "arguments", "kind", "message"), REFUSED)
def test_wrong_input_is_refused(examples, arguments, kind, message):
    with pytest.raises(kind, match=message):
        evaluate(threshold, examples, **{"attacks": {"pgd": PGD}, **arguments})


def test_models_that_do_not_fit_are_refused():
    for wrong in (None, "model.keras"):
        with pytest.raises(TypeError, match=r"must be a Keras model or a callable.*load_model"):
            evaluate(wrong, GOOD, [PGD])
    digits = data.load("digits")
    with pytest.raises(TypeError, match="give one of its splits: data.test"):
        evaluate(threshold, digits, [PGD])
    with pytest.raises(
        ValueError, match=r"takes images of shape \(4, 4, 1\), these are \(1, 1, 1\)"
    ):
        model = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten()])
        evaluate(model, GOOD, [PGD])
    with pytest.raises(
        ValueError, match=r"fails on float32 images of shape \(2, 1, 1, 1\): .*chan"
    ):
        kernel = tf.ones([1, 1, 3, 2])
        evaluate(lambda x: tf.nn.conv2d(x, kernel, 1, "SAME")[:, 0, 0], GOOD, [PGD])
    with pytest.raises(ValueError, match="one logit"):
        evaluate(lambda x: tf.reshape(x, [-1, 1]), (GOOD[0], GOOD[1] * 0), [PGD])
    with pytest.raises(ValueError, match="expected logits"):
        evaluate(lambda x: x, GOOD, [PGD])
    with pytest.warns(UserWarning, match="probabilities"):
        evaluate(lambda x: tf.nn.softmax(threshold(x)), GOOD, [PGD])
