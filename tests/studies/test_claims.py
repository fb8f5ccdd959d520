"""Rules: holds, does not, open."""

import numpy as np
import pytest

from robust_tf import studies
from robust_tf.studies import Above, All, AtLeast, Faster, Metric


class Found:
    """Findings by hand: row -> seed -> verdicts of one column; metrics of row 'a'."""

    def __init__(self, rows, asked=(0, 1), logged=None):
        self.rows, self.asked, self.logged = rows, list(asked), logged or {}

    def seeds(self, row):
        return self.asked

    def accuracy(self, row, column):
        return {seed: float(np.mean(v)) for seed, v in self.rows.get(row, {}).items()}

    def difference(self, row, than, column):
        ones, others = self.rows.get(row, {}), self.rows.get(than, {})
        return {s: studies.paired(ones[s], others[s]) for s in ones.keys() & others.keys()}

    def metrics(self, row, name):
        return self.logged.get(name, {})


def share(right, of=100):
    return np.arange(of) < right


# Of 100 images: 60 against 50 differ on 10, a standard error of 3.02; 53 against 50 on 3, of 1.71.
@pytest.mark.parametrize(
    "first, second, arguments, verdict",
    [
        ((60, 60), (50, 50), {}, "holds"),
        ((60, 53), (50, 50), {}, "open"),
        ((60, 53), (50, 50), {"standard_errors": 1.0}, "holds"),
        ((60, 53), (50, 50), {"standard_errors": 0.0}, "holds"),
        ((60, 40), (50, 50), {}, "open"),
        ((50, 40), (50, 50), {}, "does not"),
        ((60, 60), (50, 50), {"by": 10.0}, "does not"),
        ((60, 60), (50, 50), {"by": 5.0, "standard_errors": 1.0}, "holds"),
        ((49, 49), (50, 50), {"by": -2.0, "standard_errors": 0.5}, "holds"),
        ((60,), (50, 50), {}, "open"),
        ((), (50, 50), {}, "open"),
    ],
)
def test_above(first, second, arguments, verdict):
    rows = {"a": dict(enumerate(map(share, first))), "b": dict(enumerate(map(share, second)))}
    claim = Above("a is better", "a", "b", "PGD", **arguments)
    ruling = claim.judge(Found(rows))
    assert ruling.verdict == verdict
    assert ("not run" in ruling.figures) == (len(first) < 2)
    if first == (60, 60):
        assert ruling.figures == "seed 0: +10.00 ± 3.02; seed 1: +10.00 ± 3.02"


@pytest.mark.parametrize(
    "first, verdict", [((60, 60), "holds"), ((60, 59), "open"), ((59, 1), "does not"), ((), "open")]
)
def test_at_least(first, verdict):
    rows = {"a": dict(enumerate(map(share, first)))}
    assert AtLeast("enough", "a", "PGD", 60.0).judge(Found(rows)).verdict == verdict


@pytest.mark.parametrize(
    "values, epochs, verdict",
    [
        ({0: [2.0, 1.0], 1: [0.5, 1.0]}, "last", "holds"),
        ({0: [2.0, 1.0], 1: [0.5, 1.0]}, "every", "open"),
        ({0: [2.0, 1.6], 1: [0.5, 1.5]}, "last", "does not"),
        ({0: [1.0]}, "last", "open"),
        ({0: [1.0], 1: []}, "last", "open"),
    ],
)
def test_metric(values, epochs, verdict):
    claim = Metric("valid", "a", "manifold", 1.5, epochs)
    assert claim.judge(Found({}, logged={"manifold": values})).verdict == verdict


def test_all():
    """The rules of ATLD's decision: the first claim alone refutes, and only of valid runs."""
    rows = {"fs": {0: share(50), 1: share(50)}, "atld": {}, "imt": {}}
    first, second = Above("1", "atld", "fs", "PGD"), Above("2", "imt", "fs", "PGD")
    valid = Metric("valid", "atld", "manifold", 1.376)
    decision = All("decided", [first, second], refuted_by=[first], given=[valid])

    def verdict(atld, imt, manifold):
        found = {**rows, "atld": dict(enumerate(map(share, atld)))}
        found["imt"] = dict(enumerate(map(share, imt)))
        logged = {"manifold": {0: [manifold], 1: [manifold]}}
        return decision.judge(Found(found, logged=logged)).verdict

    assert verdict((60, 60), (60, 60), 1.0) == "holds"
    assert verdict((60, 60), (60, 60), 1.38) == "open"  # the runs are not valid
    assert verdict((60, 60), (40, 40), 1.0) == "open"  # does not refute
    assert verdict((50, 40), (60, 60), 1.0) == "does not"
    assert verdict((50, 40), (60, 60), 1.38) == "open"
    assert verdict((60, 53), (60, 60), 1.0) == "open"
    assert (
        All("both", [first, second])
        .judge(Found({**rows, "atld": rows["fs"], "imt": rows["fs"]}))
        .verdict
        == "does not"
    )


def test_rules_say_what_they_ask():
    claim = Above("a is better", "a", "b", "PGD", standard_errors=3.0, by=1.5)
    for part in (
        "a less b in PGD",
        "3 standard errors above 1.5 points in each seed",
        "every seed",
    ):
        assert part in claim.rule
    with pytest.raises(ValueError, match="epochs='first'"):
        Metric("valid", "a", "manifold", 1.5, "first")


class Timed(Found):
    """Metrics by row."""

    def metrics(self, row, name):
        return self.logged.get(row, {}) if name == "images_per_second" else {}


@pytest.mark.parametrize(
    "fast, slow, verdict",
    [
        ({0: [50, 300, 310, 290]}, {0: [90, 100, 101, 99]}, "holds"),  # 3 by the median epochs
        ({0: [900, 299, 299]}, {0: [100, 100, 100]}, "does not"),  # the first epoch counts not
        ({0: [300]}, {0: [100]}, "holds"),  # there is no other
        ({0: [1, 300], 1: [1, 200]}, {0: [1, 100], 1: [1, 100]}, "open"),
        ({0: [1, 300], 1: [1, 300]}, {0: [1, 100]}, "open"),
        ({}, {}, "open"),
    ],
)
def test_faster(fast, slow, verdict):
    seeds = (0, 1) if 1 in fast else (0,)
    found = Timed({}, seeds, {"a": fast, "b": slow})
    claim = Faster("a third", "a", "b", 3.0)
    assert claim.judge(found).verdict == verdict
    assert claim.rows == ["a", "b"] and "3 times those of a" in claim.rule
