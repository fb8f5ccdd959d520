"""What is computed on: the GPU or the processor, by name, threads and software."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from typing import Any

import tensorflow as tf


def device() -> dict[str, Any]:
    """What the speed depends on, JSON-ready: the GPU, or the processor, and the software."""
    gpus = tf.config.list_physical_devices("GPU") if tf.config.list_logical_devices("GPU") else []
    if gpus:
        details = tf.config.experimental.get_device_details(gpus[0])
        capability = ".".join(map(str, details.get("compute_capability") or ()))
        about = {"kind": "GPU", "name": details.get("device_name", "GPU"), "flags": capability}
    else:
        name, flags = _processor()
        about = {"kind": "CPU", "name": name, "flags": flags, "threads": _threads()}
    return {
        **about,
        "tensorflow": tf.__version__,
        "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS", ""),
    }


def device_in_words() -> str:
    """The processor or GPU that is computed on, and with how many threads."""
    return in_words(device())


def _processor() -> tuple[str, str]:
    """Name and instruction set flags of the processor."""
    found: dict[str, str] = {}
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                name, _, value = line.partition(":")
                found.setdefault(name.strip(), value.strip())
    except OSError:  # not Linux
        pass
    name = found.get("model name") or platform.processor() or platform.machine()
    return name, found.get("flags") or found.get("Features") or platform.machine()


def _threads() -> int:
    """Of one operation."""
    set_here = tf.config.threading.get_intra_op_parallelism_threads()
    given = os.environ.get("TF_NUM_INTRAOP_THREADS", "")
    if set_here or given.isdigit():
        return set_here or int(given)
    affinity = getattr(os, "sched_getaffinity", None)  # Linux alone
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def in_words(about: Mapping[str, Any]) -> str:
    """'NAME, 2 threads', of what `device` gives."""
    threads = about.get("threads")
    return f"{about['name']}, {threads} threads" if threads else str(about["name"])
