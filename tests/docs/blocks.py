"""The examples of a page: its blocks of code, and the commands of a block for the shell."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

_FENCE = re.compile(r"^( *)```([^`]*)$")
_NOT_RUN = re.compile(r"<!-- not run: (.+?) -->$")
_NAMED = re.compile(r"# (\w+\.(?:py|gin))$")
_LOOP = re.compile(r"for (\w+) in (.+?); *do$")


@dataclasses.dataclass(frozen=True)
class Block:
    """A block of a page.

    Attributes:
      line: of its first line of text, from 1.
      language: 'python', 'sh', 'gin', ''.
      text: with its line ends, without what it is indented by.
      not_run: why it cannot run in a test, as a comment before it says; '' if it can.
    """

    line: int
    language: str
    text: str
    not_run: str = ""

    @property
    def file(self) -> str:
        """The name of the file that it is, which its first line names; '' if it is none."""
        named = _NAMED.match(self.text.partition("\n")[0])
        return named[1] if named else ""

    def commands(self) -> list[Command]:
        """Of a block for the shell, in order, loops unrolled."""
        return list(_unrolled(_logical_lines(self.text, self.line)))


@dataclasses.dataclass(frozen=True)
class Command:
    """A command as a shell takes it apart.

    Attributes:
      line: of the page.
      words: the program, such as `bin/train`, and its arguments.
    """

    line: int
    words: list[str]

    def __str__(self) -> str:
        return shlex.join(self.words)

    def programs(self) -> Iterator[list[str]]:
        """The words from each `bin/NAME` on, also behind another program, or inside a word."""
        for number, word in enumerate(self.words):
            if word.startswith("bin/") and " " not in word:
                yield self.words[number:]
                return
            inner = re.search(r"(?<![\w./])bin/.*", word) if " " in word else None
            if inner:
                yield shlex.split(inner[0])


def blocks(path: Path) -> list[Block]:
    """All of a page, in order."""
    found, lines = [], path.read_text().splitlines()
    number = 0
    while number < len(lines):
        fence = _FENCE.match(lines[number])
        number += 1
        if not fence:
            continue
        indent, first = len(fence[1]), number
        while lines[number].strip() != "```":
            number += 1
        text = "".join(line[indent:] + "\n" for line in lines[first:number])
        said = _NOT_RUN.match(lines[first - 2].strip()) if first > 1 else None
        found.append(Block(first + 1, fence[2], text, said[1] if said else ""))
        number += 1
    return found


def _logical_lines(text: str, first: int) -> list[tuple[int, str]]:
    """Lines that go on behind a backslash as one; without empty ones and comments."""
    found: list[tuple[int, str]] = []
    going_on = False
    for number, line in enumerate(text.splitlines(), first):
        line = line.strip()
        if going_on:
            found[-1] = (found[-1][0], found[-1][1].removesuffix("\\") + line)
        elif line and not line.startswith("#"):
            found.append((number, line))
        going_on = line.endswith("\\")
    return found


def _unrolled(lines: list[tuple[int, str]]) -> Iterator[Command]:
    while lines:
        number, line = lines[0]
        loop = _LOOP.match(line)
        if not loop:
            lines = lines[1:]
            yield Command(number, shlex.split(line, comments=True))
            continue
        end = next(k for k, (_, text) in enumerate(lines) if text == "done")  # loops are not nested
        for value in shlex.split(loop[2]):
            yield from _unrolled([(k, t.replace(f"${loop[1]}", value)) for k, t in lines[1:end]])
        lines = lines[end + 1 :]
