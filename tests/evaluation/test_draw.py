"""Which images are evaluated, where not all are: the first, or some of each class."""

import json
import warnings

import numpy as np
import pytest
import tensorflow as tf

from robust_tf import data
from robust_tf.attacks import FGSM
from robust_tf.evaluation import Evaluation, evaluate, merge, reproduce_command
from robust_tf.runs import results, worst_case

LABELS = np.repeat(np.arange(10), [30, 5, 20, 10, 10, 5, 5, 5, 5, 5])
IMAGES = np.random.default_rng(2).uniform(size=(100, 4, 4, 1)).astype(np.float32)
WEIGHTS = tf.constant(np.random.default_rng(3).normal(size=(16, 10)), tf.float32)
FAST = {"progress": False, "checks": False}


def network(x):
    return tf.reshape(x - 0.5, [-1, 16]) @ WEIGHTS


def test_every_beginning_of_the_order_has_each_class_by_its_share():
    order = data.draw_order(LABELS, 4, 1)
    assert sorted(order.tolist()) == list(range(100))
    for count in range(1, 101):
        got = np.bincount(LABELS[order[:count]], minlength=10)
        assert np.abs(got - np.bincount(LABELS) * count / 100).max() < 1.5
    assert np.bincount(LABELS[order[:20]]).tolist() == [6, 1, 4, 2, 2, 1, 1, 1, 1, 1]
    assert order.tolist() == data.draw_order(LABELS, 4, 1).tolist()
    assert order.tolist() != data.draw_order(LABELS, 5, 1).tolist()
    assert order.tolist() != data.draw_order(LABELS, 4, 2).tolist()
    assert not len(data.draw_order(LABELS[:0], 4, 1))


def _evaluate(**options):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = evaluate(network, (IMAGES, LABELS), FGSM(0.05), **FAST, **options)
    return found, [str(one.message) for one in caught if one.category is data.DataNote]


def test_verdicts_are_those_of_the_same_images_in_the_whole():
    whole, said = _evaluate()
    assert not said and "draw" not in whole.settings
    drawn, said = _evaluate(max_examples=20, draw="balanced")
    assert not said
    numbers = np.array(drawn.settings["draw"]["numbers"])
    assert drawn.settings["draw"]["by"] == "balanced" and drawn.settings["draw"]["seed"] == 0
    assert np.bincount(LABELS[numbers]).tolist() == [6, 1, 4, 2, 2, 1, 1, 1, 1, 1]
    assert drawn.natural.tolist() == whole.natural[numbers].tolist()
    [(name, robust)] = drawn.robust.items()
    assert robust.tolist() == whole.robust[name][numbers].tolist()
    more, _ = _evaluate(max_examples=50, draw="balanced", seed=9)
    assert more.settings["draw"]["numbers"][:20] == numbers.tolist()
    other, _ = _evaluate(max_examples=20, draw="balanced", draw_seed=3)
    assert other.settings["draw"]["numbers"] != numbers.tolist()
    parts = [_evaluate(max_examples=20, draw="balanced", shard=(k, 3))[0] for k in (1, 2, 3)]
    assert merge(parts).natural.tolist() == drawn.natural.tolist()
    again = Evaluation.from_json(json.loads(json.dumps(drawn.to_json())))
    assert again.settings["draw"] == drawn.settings["draw"]


def test_the_first_and_a_note_of_what_is_missing():
    first, said = _evaluate(max_examples=20)
    whole, _ = _evaluate()
    assert first.natural.tolist() == whole.natural[:20].tolist() and "draw" not in first.settings
    [note] = said
    assert "the 20 images are of 1 of 10 classes; there is none of 1, 2, 3" in note
    assert note.endswith("(--draw=balanced) takes each class by its share.")
    assert not _evaluate(max_examples=100)[1]
    with pytest.raises(ValueError, match="draw='some'.*first"):
        _evaluate(max_examples=20, draw="some")


def _result(name, **options):
    return results.read_result(name, {"evaluation": _evaluate(**options)[0].to_json()})


def test_draws_are_not_joined_with_the_first():
    first = _result("first.json", max_examples=30)
    few = _result("few.json", max_examples=10, draw="balanced")
    many = _result("many.json", max_examples=40, draw="balanced", seed=1)
    assert first.first and not few.first and few.whole and few.plain
    rows = worst_case.worst_cases([first, few, many], None)
    assert [row["examples"] for row in rows] == [40, 30]
    assert rows[1]["numbers"].tolist() == list(range(30))
    assert rows[0]["numbers"].tolist() == many.evaluation.settings["draw"]["numbers"]
    assert rows[0]["robust"].tolist() == many.evaluation.worst_case.tolist()


def test_the_command_that_gives_it_again():
    for options, draw in (({}, "first"), ({"draw": "balanced"}, "balanced")):
        found, _ = _evaluate(max_examples=20, **options)
        assert f"--draw={draw}" in reproduce_command.command("run", found, {})
