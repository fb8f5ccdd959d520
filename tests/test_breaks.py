"""The list of deliberate breaks fits the library as it is; `python -m tests.breaks` makes them."""

import shutil

import pytest

from tests.breaks.changes import CHANGES, CLONE


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.title)
def test_a_break_can_be_made(change, tmp_path):
    file = tmp_path / change.file
    file.parent.mkdir(parents=True)
    shutil.copy(CLONE / change.file, file)
    change.make(tmp_path)
    compile(file.read_text(), str(file), "exec")
    assert (CLONE / change.tests[0]).exists()


def test_there_are_enough():
    assert len(CHANGES) >= 25 and len({change.title for change in CHANGES}) == len(CHANGES)
