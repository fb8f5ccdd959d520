"""What data raise, and what they say aloud."""

from __future__ import annotations

from collections.abc import Sequence

_LISTED = 20


class DataError(RuntimeError):
    """A dataset cannot be read; the message says what was tried and what to do."""


class DataNote(UserWarning):
    """Something about a dataset that its user should know: what was left out, drawn or doubled."""

    kind = "note"  # how commands print it


def listed(items: Sequence[object], most: int = _LISTED) -> str:
    """The items, one a line and indented; of more than `most`, the first ones and a count."""
    lines = [f"  {item}" for item in items[:most]]
    lines += [f"  and {len(items) - most} more"] if len(items) > most else []
    return "\n".join(lines)


def counted(number: int, what: str, plural: str = "") -> str:
    """'1 picture', '2 pictures'; `plural` where it does not end in s."""
    return f"{number:,} {what if number == 1 else plural or what + 's'}"
