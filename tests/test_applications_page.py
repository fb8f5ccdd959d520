"""docs/applications.md is what its benchmark writes of the numbers kept beside it."""

import json

from benchmarks import applications


def test_page_is_made_of_the_kept_numbers():
    with open(applications.KEPT) as file:
        kept = json.load(file)
    with open(applications.TABLE) as file:
        assert file.read() == applications.TABLE_HEAD + applications.table(kept)


def test_a_failed_step_is_shown_in_words_and_checks_are_named():
    step, _, _, evaluate, _ = applications.STEPS
    page = applications.table({"Net": {step: "ValueError: too small"}, "A": {evaluate: 2.0}})
    assert page.splitlines()[2:] == [
        "| A |  | 0.0 M |  |  |  |  | 2.0 s with checks |  |",
        "| Net |  | 0.0 M |  | ValueError: too small |  |  |  |  |",
    ]
