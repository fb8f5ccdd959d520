"""All cases, by name, in the order of the table."""

from __future__ import annotations

from tests.faults import damage, disk, kills, nonfinite, ray_worker, workers
from tests.faults.harness import CASES

assert all(module.__name__ for module in (damage, disk, kills, nonfinite, ray_worker, workers))
_GROUPS = ("SIGKILL", "damaged file")
CASES = dict(sorted(CASES.items(), key=lambda pair: pair[1].group not in _GROUPS[:1]))


def named(name: str) -> list[str]:
    """The case of this name, or those of a group; [] where there is none."""
    return [name] if name in CASES else [own for own, case in CASES.items() if case.group == name]
