"""Commands in the comments of gin files and in `--help` take what they are given; none is run."""

from __future__ import annotations

import importlib
import re
import shlex

import pytest

from tests.docs import commands
from tests.docs.blocks import Block
from tests.docs.pages import CLONE

OPTION = r"--\w+(?:=(?:\"[^\"]*\"|'[^']*'|\S+))?"
COMMAND = re.compile(rf"\bbin/(?:figures [a-z_]+|\w+)(?: (?:{OPTION}|\\))+")
GIN = sorted((CLONE / "gin").rglob("*.gin"))


def named_in(comments: str) -> list[list[str]]:
    """The commands that a text names, with the options that follow."""
    return [
        [word for word in shlex.split(found[0].rstrip(",.;: ")) if word.strip()]
        for found in COMMAND.finditer(comments)
    ]


def test_comments_of_gin_files():
    checked = 0
    for path in GIN:
        comments = [line.strip("# ") for line in path.read_text().splitlines() if line[:1] == "#"]
        for words in named_in(" ".join(comments)):
            try:
                commands.check(words)
            except Exception as error:
                raise AssertionError(f"{path}: {shlex.join(words)}: {error}") from error
            checked += 1
    assert checked > 10


@pytest.mark.parametrize("name", sorted(commands.MODULES))
def test_examples_of_help(name):
    text = importlib.import_module(f"robust_tf.cli.{name}").EPILOG
    examples = re.findall(r"^  bin/(?:.*\\\n)*.*$", text, flags=re.M)
    checked = [one for one in examples if "..." not in one]
    for example in checked:
        for command in Block(1, "sh", example).commands():
            commands.check(command.words)
    assert checked
