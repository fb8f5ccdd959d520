"""What a run's operative gin configuration binds, read as text."""

from __future__ import annotations

import re


def bound(configuration: str, name: str) -> str | None:
    """The value that a configuration gives to `name`, as it stands there; the last one counts."""
    found = re.findall(rf"^{re.escape(name)} = (.+)$", configuration, re.M)
    return found[-1].strip() if found else None


def numbers(configuration: str) -> dict[str, float]:
    """The macros that are numbers: eps, evaluation_steps, ..."""
    found = {}
    for name, value in re.findall(r"^(\w+) = ([\d.e+-]+)$", configuration, re.M):
        try:
            found[name] = float(value)
        except ValueError:
            continue
    return found


def eps_of(configuration: str) -> float | None:
    """Radius of the ball that the run was trained in, where it tells one > 0."""
    eps = numbers(configuration).get("eps", 0.0)
    return eps if eps > 0 else None
