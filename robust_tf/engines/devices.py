"""Which devices of this machine there are, and how a process is told to use one of them."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

THREADS = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")


@dataclasses.dataclass(frozen=True)
class Device:
    """One device, or a share of the processor's cores.

    Attributes:
      name: 'GPU 0', 'core 0'.
      environment: the variables that a process is given to see no other.
    """

    name: str
    environment: dict[str, str]


def found(devices: Any = "all") -> list[Device]:
    """The devices of this machine, of which each serves one process.

    GPUs where TensorFlow sees any, of those that CUDA_VISIBLE_DEVICES leaves; else the cores that
    this process may use. The processes share the cores evenly, in either case.

    Args:
      devices: so many; 'all': each GPU, or each core where there is none, with one thread. Where
        memory is short, give a number; `benchmarks/devices.py` measures what is faster.

    Raises:
      ValueError: no whole number >= 1, or more than there are GPUs.
    """
    count = checked(devices)
    gpus, cores = visible_gpus(), available_cores()
    if gpus and count is not None and count > len(gpus):
        raise ValueError(
            f"devices={count}: must be 1 .. {len(gpus)}, as many as there are GPUs, or all."
        )
    size = count or len(gpus) or cores
    threads = {name: str(max(cores // size, 1)) for name in THREADS if not os.environ.get(name)}
    if gpus:
        return [Device(f"GPU {gpu}", {**threads, "CUDA_VISIBLE_DEVICES": gpu}) for gpu in gpus][
            :size
        ]
    return [Device(f"share {k + 1} of {size} of {cores} cores", threads) for k in range(size)]


def checked(devices: Any) -> int | None:
    """A number of devices; None for 'all'.

    Raises:
      ValueError: it is neither.
    """
    if devices == "all":
        return None
    text = str(devices)
    if isinstance(devices, bool) or not text.isdecimal() or int(text) < 1:
        raise ValueError(f"devices={devices!r}: must be all, or a whole number >= 1.")
    return int(text)


def visible_gpus() -> list[str]:
    """The GPUs that TensorFlow sees, as CUDA_VISIBLE_DEVICES names them; none is taken."""
    import tensorflow as tf

    count = len(tf.config.list_physical_devices("GPU"))
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = [name.strip() for name in named.split(",") if name.strip()]
    return names[:count] if named else [str(number) for number in range(count)]


def available_cores() -> int:
    """Cores that this process may use, by its affinity and the limit of its container."""
    import joblib

    return joblib.cpu_count()
