"""Statistics of pairs against SciPy and NumPy."""

import math

import numpy as np
import pytest
from scipy import stats

from robust_tf import studies


@pytest.mark.parametrize(
    "ones, others", [(0, 0), (1, 0), (0, 7), (12, 5), (300, 340), (2500, 2500)]
)
def test_mcnemar_is_the_binomial_test(ones, others):
    expected = stats.binomtest(ones, ones + others).pvalue if ones + others else 1.0
    assert studies.mcnemar(ones, others) == pytest.approx(expected, rel=1e-9)
    assert studies.mcnemar(others, ones) == studies.mcnemar(ones, others)


def verdicts(n, seed):
    rng = np.random.default_rng(seed)
    first = rng.random(n) < 0.8
    return first, np.where(rng.random(n) < 0.2, rng.random(n) < 0.5, first)


def test_difference_and_its_standard_error():
    first, second = verdicts(400, 1)
    pair = studies.paired(first, np.append(second, True))
    assert pair.examples == 400
    assert pair.difference == pytest.approx(first.mean() - second.mean())
    t = stats.ttest_rel(first.astype(float), second.astype(float)).statistic
    assert pair.difference / pair.standard_error == pytest.approx(t)
    table = [np.sum(first & ~second), np.sum(~first & second)]
    assert [pair.only_first, pair.only_second] == table
    assert pair.p == pytest.approx(stats.binomtest(int(table[0]), int(sum(table))).pvalue)


def test_bootstrap_is_that_of_scipy():
    first, second = verdicts(400, 2)
    difference = first.astype(float) - second
    low, high = studies.bootstrap(difference)
    whole = stats.bootstrap(
        (difference,),
        np.mean,
        n_resamples=20_000,
        method="percentile",
        rng=np.random.default_rng(3),
    ).confidence_interval
    # Each end is a quantile of 10,000 draws, in steps of 1 / 400.
    assert low == pytest.approx(whole.low, abs=0.004)
    assert high == pytest.approx(whole.high, abs=0.004)
    assert studies.bootstrap(difference) == (low, high)
    half = 1.96 * difference.std(ddof=1) / math.sqrt(400)
    assert high - low == pytest.approx(2 * half, rel=0.1)


def test_classifiers_that_agree():
    same = np.array([True, False, True])
    pair = studies.paired(same, same)
    assert (pair.difference, pair.standard_error, pair.low, pair.high, pair.p) == (0, 0, 0, 0, 1)
    assert studies.paired(same[:1], ~same[:1]).standard_error == 0


def test_mean_and_deviation():
    values = [0.9, 0.93, 0.94]
    assert studies.mean_and_std(values) == pytest.approx((np.mean(values), np.std(values, ddof=1)))
    assert studies.mean_and_std([0.5]) == (0.5, None)
