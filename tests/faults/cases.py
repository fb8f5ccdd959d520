"""All cases, by name, in the order of the table."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from tests.faults import damage, disk, kills, nonfinite
from tests.faults.harness import CASES

MOUNTS = ("full_tmpfs",)  # need the rights to mount a file system

assert all(module.__name__ for module in (damage, disk, kills, nonfinite))
_GROUPS = ("SIGKILL", "damaged file")
CASES = dict(sorted(CASES.items(), key=lambda pair: pair[1].group not in _GROUPS[:1]))


@functools.cache
def can_mount() -> bool:
    """Whether this process may mount a file system."""
    with tempfile.TemporaryDirectory() as place:
        return disk.can_mount(Path(place))
