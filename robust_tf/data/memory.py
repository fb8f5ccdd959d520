"""How much memory is free, by whatever limits this process."""

from __future__ import annotations

import contextlib
import os

# Of the free memory, for images: the network, its attacks and the system want the rest.
_SHARE = 0.5
# Images are in memory as a NumPy array and as the tensor that pipelines gather from.
_COPIES = 2


def fits(size: int) -> bool:
    """Whether images of so many bytes are held in memory by `data.in_memory = 'auto'`."""
    return size * _COPIES <= _SHARE * free_memory()


def free_memory() -> int:
    """Bytes that this process can still take: of the machine, its control group and `ulimit -v`."""
    limits = [_machine(), _group(), _address_space()]
    return max(min(limit for limit in limits if limit is not None), 0)


def _machine() -> int:
    """Free memory of the machine; where it does not tell, half of what it has."""
    available = _numbers("/proc/meminfo").get("MemAvailable:")
    if available is not None:
        return available * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _group() -> int | None:
    """What the control group of this process leaves, as containers have one."""
    folder = "/sys/fs/cgroup"
    for most, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        with contextlib.suppress(OSError, ValueError):
            with open(os.path.join(folder, most)) as limit, open(os.path.join(folder, used)) as now:
                return int(limit.read()) - int(now.read())  # 'max' is no number: no limit
    return None


def _address_space() -> int | None:
    """What `ulimit -v` leaves."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    most, _ = resource.getrlimit(resource.RLIMIT_AS)
    used = _numbers("/proc/self/status").get("VmSize:")
    return None if most == resource.RLIM_INFINITY or used is None else most - used * 1024


def _numbers(path: str) -> dict[str, int]:
    """The lines 'Name: number kB' of a file of /proc; {} where there is none."""
    found = {}
    with contextlib.suppress(OSError), open(path) as file:
        for line in file:
            words = line.split()
            if len(words) > 1 and words[1].isdigit():
                found[words[0]] = int(words[1])
    return found
