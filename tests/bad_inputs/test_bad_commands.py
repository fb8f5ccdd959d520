"""Bad command lines: exit status 2, one sentence that names what is wrong, nothing written."""

import pytest
from hypothesis import given

from tests.bad_inputs import generated
from tests.bad_inputs.command_lines import LINES
from tests.bad_inputs.running import COMMANDS, Place


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with Place(tmp_path_factory.mktemp("place")).entered() as entered:
        yield entered


@pytest.mark.parametrize("command", COMMANDS)
def test_listed(place, command):
    lines = [line for line in LINES if line.command == command]
    found = {str(line): place.fault(command, line.argv, [line.names]) for line in lines}
    assert not {line: fault for line, fault in found.items() if fault}


@given(line=generated.command_lines())
def test_generated(place, line):
    command, argv, name = line
    assert not place.fault(command, argv, [name])


def test_what_is_right_is_not_called_wrong(place):
    """The judge is not one that calls every answer clear."""
    assert place.fault("study", ["--gin_file=digits", "--status"]) == "exit status 0"
    assert "names none" in place.fault("train", ["--epochs=3"], ["--epoch_count"])
