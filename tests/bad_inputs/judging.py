"""When the answer to a bad input is clear: refused, in one sentence, nothing written or lost."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path

from robust_tf.data import DataError

# What Python, NumPy, TensorFlow and Keras say of their own insides, which helps no user.
_INSIDE = re.compile(
    r"object has no attribute|not supported between|unsupported operand|object is not|"
    r"not subscriptable|positional argument|takes no arguments|could not be broadcast|"
    r"\{\{node|\[Op:|In\[0\]|Traceback|Invalid reduction|object at 0x|ufunc|setting an array|"
    r"ambiguous|cannot convert float|could not convert|invalid literal|must be real number|"
    r"Errno|Exception encountered|Attempt to convert|Expected \w+ passed to parameter|"
    r"Can't convert|Unable to synch|concatenate str"
)
# What may stand before an error: notes, and the heading of an evaluation.
_BEFORE = re.compile(r"note: |warning: |\S.* on .+, \w+ split, \d+ attacks?$")


def sentence(message: str) -> str:
    """What keeps a message from being one sentence for a user; '' if nothing does."""
    if not message.strip():
        return "it says nothing"
    if "\n" in message.strip():
        return "it has several lines"
    if not message.rstrip().endswith((".", "?")):
        return "it is cut off"
    found = _INSIDE.search(message)
    return f"it speaks of the inside: {found[0]}" if found else ""


def error(raised: BaseException | None, says: Sequence[str] = ()) -> str:
    """What is not clear in what a Python call has raised; '' if nothing is.

    Args:
      raised: None: nothing.
      says: one of these has to occur in the message: the argument's name, its value.
    """
    if raised is None:
        return "accepted"
    if not isinstance(raised, (ValueError, TypeError, OSError, DataError)):
        return f"raised {type(raised).__name__}: {raised}"
    if type(raised).__module__.startswith(("tensorflow", "keras")):
        return f"raised {type(raised).__name__}"
    fault = sentence(str(raised)) or _unsaid(str(raised), says)
    return f"{fault} ({raised})" if fault else ""


def command(status: int | BaseException, out: str, err: str, says: Sequence[str] = ()) -> str:
    """What is not clear in the end of a command; '' if nothing is.

    Args:
      status: its exit status, or what it raised.
      out: of stdout.
      err: of stderr.
      says: one of these has to occur in the error.
    """
    if isinstance(status, BaseException):
        return f"ended in a traceback of {type(status).__name__}: {status}"
    if status != 2:
        return f"exit status {status}"
    if out:
        return f"wrote to stdout: {out[:200]}"
    lines = err.strip().splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    if len(errors) != 1:
        return f"stderr has not one error: {err[:400]}"
    place = lines.index(errors[0])
    before = [line for line in lines[:place] if not _BEFORE.match(line)]
    details = lines[place + 1 :]  # what was looked for, or is damaged, a line each
    loose = [line for line in details[:-1] if not line.startswith("  ")]
    if before or loose or _INSIDE.search("\n".join(details)):
        return f"stderr is not one sentence: {err[:400]}"
    message = errors[0].removeprefix("error: ")
    ends = message.removesuffix(":") + "." if details and message.endswith(":") else message
    fault = sentence(ends) or _unsaid("\n".join([message, *details]), says)
    return f"{fault} ({message})" if fault else ""


def _unsaid(message: str, says: Sequence[str]) -> str:
    if not says or any(one in message for one in says):
        return ""
    return f"it names none of {', '.join(map(repr, says))}"


def contents(folder: str | os.PathLike[str]) -> dict[str, str]:
    """All files and folders below a folder, with the hash of what is in them."""
    found = {}
    for path in sorted(Path(folder).rglob("*")):
        what = "folder" if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()
        found[str(path.relative_to(folder))] = what
    return found
