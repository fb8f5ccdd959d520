"""What a case of fault injection is, and how its tries are counted."""

from __future__ import annotations

import atexit
import collections
import dataclasses
import functools
import random
import shutil
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import robust_tf

CLONE = Path(robust_tf.__file__).resolve().parent.parent


@dataclasses.dataclass
class Count:
    """The tries of one case.

    Attributes:
      how: what became of those that were survived, and how often.
      lost: what went wrong with each of the others.
    """

    how: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    lost: list[str] = dataclasses.field(default_factory=list)

    @property
    def tries(self) -> int:
        """All of them."""
        return self.how.total() + len(self.lost)

    def survived(self, how: str) -> None:
        """One more."""
        self.how[how] += 1

    def check(self, right: bool, how: str, otherwise: str) -> None:
        """One more, survived if `right`."""
        if right:
            self.survived(how)
        else:
            self.lost.append(otherwise)

    def to_json(self) -> dict[str, Any]:
        """For the file of results."""
        how = dict(sorted(self.how.items(), key=lambda pair: -pair[1]))
        return {
            "tries": self.tries,
            "survived": self.how.total(),
            "how": how,
            "lost": self.lost[:20],
        }


@dataclasses.dataclass(frozen=True)
class Case:
    """One kind of fault.

    Attributes:
      group, title: for the table.
      run: called with an empty folder, a number of tries and a random generator.
      short, long: tries of the default run and of the long one; a short of 0 leaves it out there.
    """

    group: str
    title: str
    run: Callable[[Path, int, random.Random], Count]
    short: int
    long: int

    def count(self, tries: int) -> Count:
        """Runs it; what it raises is one try lost.

        Raises:
          LeftOut: it cannot be tried here.
        """
        with tempfile.TemporaryDirectory(prefix="robust_tf_fault_") as place:
            try:
                return self.run(Path(place), tries, random.Random(self.title))
            except LeftOut:
                raise
            except Exception as error:  # a fault that no case expects is what is looked for
                lines = traceback.format_exception(error)
                return Count(lost=[" ".join("".join(lines[-3:]).split())[-600:]])


class LeftOut(Exception):
    """A case cannot be tried here; the message says why."""


CASES: dict[str, Case] = {}


def case(group: str, title: str, short: int, long: int) -> Callable[[Any], Any]:
    """Makes a function a case, by its name."""

    def add(run: Callable[[Path, int, random.Random], Count]) -> Any:
        CASES[run.__name__] = Case(group, title, run, short, long)
        return run

    return add


def named(path: Any, error: BaseException) -> bool:
    """Whether an error names a file in a sentence."""
    text = str(error)
    return Path(path).name in text and "Traceback" not in text and len(text.splitlines()) == 1


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(1, max(2, len(data)))]


def _flipped(data: bytes, rng: random.Random) -> bytes:
    place, bits = rng.randrange(len(data)), rng.randrange(1, 256)
    return data[:place] + bytes([data[place] ^ bits]) + data[place + 1 :]


def _digit(data: bytes, rng: random.Random) -> bytes:
    """Another digit in place of one: still JSON, another number."""
    places = [place for place, byte in enumerate(data) if chr(byte).isdigit()]
    if not places:
        return _flipped(data, rng)
    place = rng.choice(places)
    other = rng.choice([digit for digit in b"123456789" if digit != data[place]])
    return data[:place] + bytes([other]) + data[place + 1 :]


def _instead(content: bytes) -> Callable[[bytes, random.Random], bytes]:
    return lambda data, rng: content


DAMAGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "truncated": _cut,
    "emptied": _instead(b""),
    "a byte flipped": _flipped,
    "not UTF-8": lambda data, rng: b"\xff\xfe" + data,
}
# Of JSON also what can be read and is something else.
JSON_DAMAGES = {
    **DAMAGES,
    "a digit changed": _digit,
    "a list": _instead(b"[1, 2]"),
    "a text": _instead(b'"text"'),
    "a number": _instead(b"3"),
    "null": _instead(b"null"),
}


def damaged(
    tries: int, kinds: dict[str, Any], data: bytes, rng: random.Random
) -> list[tuple[str, bytes]]:
    """So many damaged contents, kind by kind in turns; none is the content as it was."""
    found = []
    names = list(kinds)
    for number in range(tries):
        kind = names[number % len(names)]
        after = kinds[kind](data, rng)
        if after != data:
            found.append((kind, after))
    return found


@functools.cache
def finished_run() -> Path:
    """A small run that has ended, made once; cases work on copies."""
    from tests.faults import jobs

    place = Path(tempfile.mkdtemp(prefix="robust_tf_run_"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    jobs.train(str(place / "run"))
    return place / "run"
