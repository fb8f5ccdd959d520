"""Distances in an evaluation: of each image, their median, the curve, files, shards, the report."""

import json

import numpy as np
import pytest

from robust_tf import attacks, evaluation
from robust_tf.evaluation import Evaluation, EvaluationState, Outcome, distances, evaluate
from robust_tf.export import provenance
from robust_tf.figures import bars, curves
from robust_tf.report.distances import table
from robust_tf.runs.results import read_result
from robust_tf.runs.worst_case import worst_cases
from tests.tiny import Smooth, tiny_network

FMN = attacks.FMN(norm="L2", steps=15)
ARGUMENTS = {"checks": False, "batch_size": 20}


@pytest.fixture(scope="module")
def measured():
    """An evaluation by distances alone, and what it was made of."""
    rng = np.random.default_rng(5)
    model, images = Smooth(), rng.random((41, 8, 8, 1)).astype("float32")
    labels = np.argmax(model(images), axis=1)
    labels[::7] = (labels[::7] + 1) % 3
    examples = images, labels
    return evaluate(model, examples, "FMN(norm='L2', steps=15)", **ARGUMENTS), model, examples


def test_distances_and_images(measured, tmp_path):
    result, model, (images, labels) = measured
    [name] = result.outcomes
    distance = result.distances[name]
    assert name == "FMN steps=15 norm=L2" and distance.dtype == np.float32
    np.testing.assert_array_equal(distance == 0, ~result.natural)
    # Those of the images that are kept, in other batches.
    state = EvaluationState(images=str(tmp_path))
    evaluate(model, (images, labels), [FMN], state=state, checks=False, batch_size=7)
    numbers, x_adv = evaluation.load_adversarial(tmp_path, name)
    step = x_adv.reshape(len(numbers), -1).astype("float64") - images[numbers].reshape(-1, 64)
    np.testing.assert_allclose(np.linalg.norm(step, axis=1), distance[numbers], rtol=2e-3)
    assert (np.argmax(model(x_adv), axis=1) != labels[numbers]).all()
    assert distances.summary(distance).median == np.sort(distance)[20]


def test_the_curve_is_that_of_the_same_attack_at_each_eps(measured):
    result, model, examples = measured
    curve = dict(result.curves()["L2"])
    radii = sorted(curve)[1::12]
    several = evaluate(model, examples, FMN, eps=radii, **ARGUMENTS)
    for eps, (point, accuracy) in zip(radii, several.curves()["L2"][1:], strict=True):
        assert point == pytest.approx(eps) and accuracy == curve[eps]
    drawn = curves.eps_curve(result, "L2")
    right = np.array([np.sum(result.distances["FMN steps=15 norm=L2"] > eps) for eps in drawn.x])
    np.testing.assert_allclose(drawn.accuracy, right / 41)
    np.testing.assert_allclose(drawn.low, bars.wilson(right, 41)[0])
    assert drawn.accuracy[0] == result.natural_accuracy and drawn.accuracy[-1] == 0
    assert curves.norms_of(result) == ["L2"] and list(bars.bars_of(result)) == ["natural"]


def test_joined_with_attacks_at_an_eps(measured):
    """The worst case takes distances up to the radius of the others in that norm, and no others."""
    _, model, examples = measured
    weak = attacks.BIM(0.1, 0.02, 2, norm="L2")
    result = evaluate(model, examples, {"bim": weak, "fmn": FMN}, **ARGUMENTS)
    expected = result.robust["bim"] & (result.distances["fmn"] > 0.1)
    np.testing.assert_array_equal(result.worst_case, expected)
    assert dict(result.curves()["L2"])[0.1] == expected.mean() < result.accuracy("bim")
    text = result.table()
    assert "median" in text and "worst case over all" in text and "L2 eps 0.1" in text
    assert "median" in repr(result)
    result = evaluate(model, examples, [attacks.BIM(0.01, 0.01, 1), FMN], **ARGUMENTS)
    np.testing.assert_array_equal(result.worst_case, next(iter(result.robust.values())))


def test_alone_there_is_no_verdict(measured):
    text = measured[0].table()
    assert "worst case over all" not in text and "median" in text
    assert 4 < text.count("worst case, L2 eps") <= 10
    assert measured[0].worst_case_accuracy == 0  # at whatever distance


def test_files_and_shards(measured):
    result, model, examples = measured
    text = json.dumps(result.to_json(), allow_nan=False)
    again = Evaluation.from_json(json.loads(text))
    [name] = result.outcomes
    np.testing.assert_array_equal(again.distances[name], result.distances[name])
    assert again.curves() == result.curves() and again.table() == result.table()
    found = json.loads(text)["attacks"][name]["distance"]
    assert found["norm"] == "L2" and found["found"] == 1 and found["median"] > 0
    parts = [evaluate(model, examples, [FMN], shard=(k, 2), **ARGUMENTS) for k in (1, 2)]
    merged = evaluation.merge(parts)
    np.testing.assert_allclose(merged.distances[name], result.distances[name], rtol=2e-3)
    broken = json.loads(text)
    broken["attacks"][name]["distance"]["values"] = "1 2"
    with pytest.raises(ValueError, match="2 distances of 41"):
        Evaluation.from_json(broken)


def test_what_was_not_found_is_said():
    distance = np.array([0, 0.1, np.inf, 0.3], np.float32)
    np.testing.assert_array_equal(distances.from_text(distances.to_text(distance)), distance)
    natural = distance > 0
    outcome = Outcome(np.isinf(distance), distance=distance)
    balls = {"balls": {"fmn": ["Linf", None]}, "attacks": {"fmn": {}}}
    result = Evaluation(natural, {"fmn": outcome}, balls)
    assert "fmn, none found" in result.table() and "25.00 %" in result.table()
    assert result.curves()["Linf"] == [
        (0, 0.75),
        (pytest.approx(0.1), 0.5),
        (pytest.approx(0.3), 0.25),
    ]
    assert result.to_json()["attacks"]["fmn"]["distance"]["median"] == pytest.approx(0.1)
    none = distances.summary(np.array([np.inf, np.inf, 0.1]))
    assert none.to_json()["median"] is None and none.to_json()["low"] == 0.1
    assert (distances.rounded_up(np.array([0.1, 0.5])) >= np.array([0.1, 0.5])).all()


def test_reports(measured):
    """A table of its own, the worst case of a run, the model card."""
    result, model, examples = measured
    own = read_result("fmn.json", {"evaluation": result.to_json(), "data": {}})
    assert worst_cases([own], 0.1) == []
    bim = evaluate(model, examples, [attacks.BIM(0.1, 0.02, 2, norm="L2")], **ARGUMENTS)
    bim.settings["model"] = result.settings["model"]
    other = read_result("bim.json", {"evaluation": bim.to_json(), "data": {}})
    [case] = worst_cases([own, other], 0.1)
    expected = other.attacks[0].robust & (own.attacks[0].distance > 0.1)
    np.testing.assert_array_equal(case["robust"], expected)
    assert len(case["attacks"]) == 2

    class Run:
        name, results = "run", [own, other]
        path, data = "run", {}

    [block, _] = table([Run()])
    assert len(block.rows) == 1 and "L2" in block.rows[0].cells
    found = provenance._result(Run(), own)
    assert found["robust_accuracy"] == {} and found["distances"]
    text = "\n".join(provenance.results_text([found], False))
    assert "median distance of the nearest adversarial image" in text and "worst case" not in text
    assert "FMN(steps=15, norm='L2')" in found["command"]


def test_verdicts_of_a_foreign_model_in_half_precision():
    """The search is in the precision in which the model is judged."""
    network = tiny_network()
    images = np.random.default_rng(0).random((5, 8, 8, 1)).astype("float32")
    labels = np.argmax(network(images), axis=1)
    result = evaluate(
        network, (images, labels), [attacks.FMN(steps=10)], search_dtype="bfloat16", checks=False
    )
    [outcome] = result.outcomes.values()
    assert "float32_sample" not in outcome.details
    same = evaluate(network, (images, labels), [attacks.FMN(steps=10)], checks=False)
    np.testing.assert_allclose(outcome.distance, next(iter(same.distances.values())), rtol=1e-3)


def test_behind_a_defense_distances_are_refused():
    from robust_tf.cli import UserError, inference

    with pytest.raises(UserError, match="give it an eps"):
        inference.defended(None, {"FMN": attacks.FMN()}, None)
