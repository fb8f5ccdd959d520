"""What a recipe may hold beyond gin's own syntax: arithmetic of numbers, and names of version 0.1.

`eps = 8/255` is read as the number, and a parameter or class that has another name since is read
under its old one, with a note. Lines keep their numbers.
"""

from __future__ import annotations

import ast
import dataclasses
import io
import operator
import tokenize
from collections.abc import Sequence

# Old -> new: `Class.parameter` for parameters, `Class` for gin names.
RENAMED = {
    "SqueezeAttack.regulariser": "regularizer",
    "ScatteringAttack.regulariser": "regularizer",
}
_ARITHMETIC = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
_SKIPPED = (tokenize.NL, tokenize.COMMENT, tokenize.INDENT, tokenize.DEDENT)


@dataclasses.dataclass(frozen=True)
class Part:
    """A stretch of a recipe: bindings, or one include.

    Attributes:
      line: number of its first line in the file, from 1.
      text: the bindings as gin reads them, empty for an include.
      include: the file that is included here, or None.
      imports: the line and name of each module that the bindings import.
    """

    line: int
    text: str = ""
    include: str | None = None
    imports: tuple[tuple[int, str], ...] = ()


def parts(text: str) -> tuple[list[Part], list[str]]:
    """A recipe as gin reads it, cut at its includes; and a note for each old name in it.

    Raises:
      SyntaxError, tokenize.TokenError: it cannot be cut into words.
      ValueError: a division by zero.
    """
    tokens = [t for t in tokenize.generate_tokens(io.StringIO(text).readline)]
    lines = text.splitlines(keepends=True)
    notes: list[str] = []
    edits: list[tuple[tokenize.TokenInfo, tokenize.TokenInfo, str]] = []
    includes: list[tuple[int, int, str]] = []
    imports: list[tuple[int, str]] = []
    block = ""
    for statement in _statements(tokens):
        first = statement[0]
        if first.string == "include" and len(statement) > 1:
            if statement[1].type == tokenize.STRING:
                name = str(ast.literal_eval(statement[1].string))
                includes.append((first.start[0], statement[-1].end[0], name))
                continue
        if first.string in ("import", "from"):
            imports += _imported(statement)
            continue
        if first.start[1] == 0:
            block = ""
        edits += _numbers(statement)
        edits += _names(statement, block, notes)
        if statement[-1].string == ":" and first.start[1] == 0:
            block = statement[-2].string
    for start, end, new in sorted(edits, key=lambda edit: edit[0].start, reverse=True):
        row, column = start.start
        if start.start[0] == end.end[0]:
            line = lines[row - 1]
            lines[row - 1] = line[:column] + new + line[end.end[1] :]
    return _cut(lines, includes, imports), list(dict.fromkeys(notes))


def _statements(tokens: Sequence[tokenize.TokenInfo]) -> list[list[tokenize.TokenInfo]]:
    """The words of each logical line."""
    made: list[list[tokenize.TokenInfo]] = [[]]
    for token in tokens:
        if token.type in (tokenize.NEWLINE, tokenize.ENDMARKER):
            made.append([])
        elif token.type not in _SKIPPED:
            made[-1].append(token)
    return [statement for statement in made if statement]


def _imported(statement: Sequence[tokenize.TokenInfo]) -> list[tuple[int, str]]:
    """Line and module of `import a.b`, `from a import b`; nothing for gin's own switches."""
    words = [token.string for token in statement]
    words = words[: words.index("as")] if "as" in words else words
    module = "".join("." if word == "import" else word for word in words[1:])
    if "=" in words or module.startswith("__gin__"):
        return []
    return [(statement[0].start[0], module)]


def _cut(
    lines: Sequence[str],
    includes: Sequence[tuple[int, int, str]],
    imports: Sequence[tuple[int, str]],
) -> list[Part]:
    made, at = [], 0
    for first, last, name in [*includes, (len(lines) + 1, 0, "")]:
        own = tuple(pair for pair in imports if at < pair[0] < first)
        made.append(Part(at + 1, "".join(lines[at : first - 1]), imports=own))
        if name:
            made.append(Part(first, include=name))
        at = last
    return [part for part in made if part.include or part.text.strip()]


def _numbers(
    statement: Sequence[tokenize.TokenInfo],
) -> list[tuple[tokenize.TokenInfo, tokenize.TokenInfo, str]]:
    """Replaces arithmetic on numbers in the value of a binding by its result."""
    found, k = [], next((k for k, t in enumerate(statement) if t.string == "="), len(statement))
    while k < len(statement):
        end = k
        while (
            statement[end].type == tokenize.NUMBER
            and end + 2 < len(statement)
            and statement[end + 1].string in _ARITHMETIC
            and statement[end + 2].type == tokenize.NUMBER
        ):
            end += 2
        if end > k and statement[k - 1].string not in ("@", "%"):  # 20/PGD is a scope
            value = _value([token.string for token in statement[k : end + 1]])
            found.append((statement[k], statement[end], repr(value)))
        k = end + 1
    return found


def _value(words: Sequence[str]) -> float:
    """Of numbers with + - * / between them, products first."""
    terms: list[float] = [ast.literal_eval(words[0])]
    signs = []
    for sign, word in zip(words[1::2], words[2::2], strict=True):
        number = ast.literal_eval(word)
        if sign in "*/":
            if sign == "/" and not number:
                raise ValueError(f"{' '.join(words)} divides by zero")
            terms[-1] = _ARITHMETIC[sign](terms[-1], number)
        else:
            signs.append(sign)
            terms.append(number)
    total = terms[0]
    for sign, term in zip(signs, terms[1:], strict=True):
        total = _ARITHMETIC[sign](total, term)
    return total


def _names(
    statement: Sequence[tokenize.TokenInfo], block: str, notes: list[str]
) -> list[tuple[tokenize.TokenInfo, tokenize.TokenInfo, str]]:
    """Replaces old names: in the key of a binding or the head of a block, and after an @."""
    found = []

    def replace(token: tokenize.TokenInfo, old: str, shown: str) -> None:
        if old in RENAMED:
            new = RENAMED[old]
            found.append((token, token, new))
            full = f"{shown}.{new}" if shown else new
            notes.append(f"{old} is called {full} now; this version still reads the old name.")

    key = []
    for token in statement:
        if token.string in ("=", ":"):
            break
        key.append(token)
    names = [token for token in key if token.type == tokenize.NAME]
    if names and len(key) < len(statement):
        dotted = len(key) > 1 and key[-2].string == "."
        if dotted:  # OWNER.parameter
            owner = names[-2]
            replace(owner, owner.string, "")
            replace(names[-1], f"{owner.string}.{names[-1].string}", owner.string)
        elif statement[len(key)].string == ":":
            replace(names[-1], names[-1].string, "")
        elif block:
            replace(names[-1], f"{block}.{names[-1].string}", block)
    for k, token in enumerate(statement):
        if token.string == "@":
            last = k + 1
            while last + 2 < len(statement) and statement[last + 1].string in ("/", "."):
                last += 2
            if last < len(statement):
                replace(statement[last], statement[last].string, "")
    return found
