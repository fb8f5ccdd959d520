"""Engines: tasks, each a call of a command in a process of its own, on all devices that there are.

`Processes` uses the devices of this machine, `RayTasks` those of a Ray cluster. An engine knows
nothing of what its tasks do; what a task leaves is a file, and what it keeps on the way lets the
same task be done again from there.
"""

from __future__ import annotations

from typing import Any

from robust_tf.engines.devices import Device, found
from robust_tf.engines.processes import Processes
from robust_tf.engines.tasks import Ending, Engine, Task

ENGINES = ("processes", "ray")

__all__ = ["ENGINES", "Device", "Ending", "Engine", "Processes", "Task", "engine", "found"]


def engine(name: str = "processes", devices: Any = "all", address: str | None = None) -> Engine:
    """The engine of this name; a context manager, which ends what is left of its processes.

    Args:
      name: 'processes', on the devices of this machine; 'ray', on a Ray cluster.
      devices: how many tasks run at once, or 'all'; see `devices.found`.
      address: of an existing Ray cluster: 'auto', 'host:port' or 'ray://host:port'; None: the one
        that RAY_ADDRESS names, else one is started on this machine.

    Raises:
      ValueError: another name; an address without Ray; as many devices are not there.
      ImportError: Ray is not installed.
    """
    if name not in ENGINES:
        raise ValueError(f"engine={name!r}: must be one of {', '.join(ENGINES)}.")
    if name == "ray":
        from robust_tf.engines.ray_tasks import RayTasks  # imports Ray, an extra

        return RayTasks(devices, address)
    if address is not None:
        raise ValueError(f"address={address!r}: is of a Ray cluster; give engine='ray', too.")
    return Processes(devices)
