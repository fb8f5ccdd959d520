"""Bad values that Hypothesis makes, by the types that commands and functions declare."""

from __future__ import annotations

import argparse
import importlib
from typing import Any

from hypothesis import strategies as st

from tests.bad_inputs import arguments, calls
from tests.bad_inputs.running import COMMANDS

# What each command needs beside the option that is wrong.
BASE = {
    "train": [],
    "evaluate": ["--model=good.keras", "--dataset=digits", "--attacks=FGSM(0.1)"],
    "convert": ["--model=good.keras", "--output=new.pt"],
    "export": ["--model=split.keras", "--export_dir=new"],
    "figures": ["moons", "--output=new.svg"],
    "report": ["--run_dir=begun", "--output=new.html"],
    "study": ["--gin_file=digits", "--status"],
}
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
NUMBERS = st.one_of(st.integers().map(str), st.floats().map(str))
_NEVER = {
    bool: st.one_of(st.text(), st.integers(2), st.floats(), st.none(), st.lists(st.booleans())),
    int: st.one_of(
        st.text(), st.floats(), st.booleans(), st.complex_numbers(), st.integers(max_value=-1)
    ),
    float: st.one_of(
        st.text(),
        st.sampled_from([float("nan"), float("inf"), float("-inf")]),
        st.floats(max_value=-1e-3),
        st.booleans(),
        st.lists(st.floats(), max_size=2),
        st.binary(),
    ),
    str: st.one_of(st.integers(), st.floats(), st.binary(), st.lists(st.text(), max_size=2)),
    "sequence": st.one_of(st.integers(), st.floats(), st.booleans(), st.text(min_size=1)),
    "object": st.one_of(st.integers(), st.text(), st.lists(st.integers(), max_size=2)),
    "builder": st.one_of(st.integers(), st.text(), st.lists(st.integers(), max_size=2)),
}


def options() -> list[tuple[str, argparse.Action]]:
    """The options that have a type or choices, of all commands."""
    return [
        (command, action)
        for command in COMMANDS
        for action in importlib.import_module(f"robust_tf.cli.{command}").parser()._actions
        if action.option_strings and action.dest != "imports" and (action.type or action.choices)
    ]


def _takes(action: argparse.Action, text: str) -> bool:
    if action.choices:
        return text in action.choices
    try:
        action.type(text)
    except (argparse.ArgumentTypeError, ValueError):
        return False
    return True


@st.composite
def command_lines(draw: Any) -> tuple[str, list[str], str]:
    """A command, its arguments with one that its type does not take, and the option's name."""
    command, action = draw(st.sampled_from(options()))
    text = draw(st.one_of(TEXTS, NUMBERS).filter(lambda text: not _takes(action, text)))
    name = action.option_strings[0]
    return command, [*BASE[command], f"{name}={text}"], name


def _choices() -> list[tuple[Any, ...]]:
    found = []
    for name, (kind, target, given) in calls.targets().items():
        for parameter, annotation in arguments.annotations(target).items():
            kinds, optional = arguments.kinds(annotation)
            known = len(kinds) == 1 and next(iter(kinds)) in _NEVER
            if known and not optional and (name, parameter) not in calls.RIGHT:
                found.append((kind, name, target, given, parameter, next(iter(kinds))))
    return found


def bad_calls() -> st.SearchStrategy[calls.Call]:
    """A call with one argument that its kind never takes."""
    choices = _choices()

    @st.composite
    def call(draw: Any) -> calls.Call:
        *target, kind = draw(st.sampled_from(choices))
        return calls.with_value(*target, draw(_NEVER[kind]))

    return call()
