"""A few tries of each kind of fault; `python -m tests.faults --long` makes many."""

import pytest

from tests.faults import cases
from tests.faults.table import DOCUMENT, RESULTS, rewritten


@pytest.mark.parametrize("name", [n for n, case in cases.CASES.items() if case.short])
@pytest.mark.filterwarnings("ignore")
def test_every_try_is_survived(name):
    case = cases.CASES[name]
    count = case.count(case.short)
    assert not count.lost and count.tries


def test_the_table_of_results_is_that_of_the_counts():
    text = DOCUMENT.read_text()
    assert RESULTS.exists() and f"<!-- faults: results/{RESULTS.name} -->" in text
    assert rewritten(text) == text
