"""The processes that train together, as the environment describes them."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import socket
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

JOBS = ("chief", "worker")  # in the order of their numbers
EXAMPLE = (
    '{"cluster": {"worker": ["host1:1234", "host2:1234"]}, "task": {"type": "worker", "index": 0}}'
)
# Each Slurm job has 16 ports of its own among 16384, below those that Linux gives out by itself.
_SLURM_PORTS = (16384, 16384, 16)
_KUBERNETES_PORT = 8470  # a pod has an address of its own


@dataclasses.dataclass(frozen=True)
class Cluster:
    """Who trains together, and which of them this process is.

    Attributes:
      jobs: 'host:port' of the workers, by job: 'worker', and 'chief' where one has that name.
      job: of this process.
      index: of this process in its job, from 0.
      source: what described it.
    """

    jobs: Mapping[str, tuple[str, ...]]
    job: str
    index: int
    source: str

    @property
    def address(self) -> str:
        """Of this process."""
        return self.jobs[self.job][self.index]

    @property
    def others(self) -> list[str]:
        """Of the other workers."""
        places = [(job, index) for job in JOBS for index in range(len(self.jobs.get(job, ())))]
        return [self.jobs[j][i] for j, i in places if (j, i) != (self.job, self.index)]

    def resolver(self) -> tf.distribute.cluster_resolver.ClusterResolver:
        """For a strategy."""
        return tf.distribute.cluster_resolver.SimpleClusterResolver(
            tf.train.ClusterSpec({job: list(hosts) for job, hosts in self.jobs.items()}),
            task_type=self.job,
            task_id=self.index,
            num_accelerators={"GPU": len(tf.config.list_physical_devices("GPU"))},
            rpc_layer="grpc",
        )


def find() -> Cluster:
    """The cluster of TF_CONFIG; else of the Slurm step or the indexed Kubernetes Job this is in.

    Raises:
      ValueError: none of them, or one that is not complete; says what was found and is missing.
    """
    if os.environ.get("TF_CONFIG"):
        return from_tf_config(os.environ["TF_CONFIG"])
    if "SLURM_JOB_ID" in os.environ:
        return from_slurm()
    if "JOB_COMPLETION_INDEX" in os.environ:
        return from_kubernetes()
    raise ValueError(
        "strategy 'multi_worker' finds no cluster: set the environment variable TF_CONFIG, e.g. "
        f"'{EXAMPLE}' (index 1 on the second machine), or start the command with srun in a Slurm "
        "job or in an indexed Job of Kubernetes."
    )


def from_tf_config(text: str) -> Cluster:
    """Of the JSON text that TensorFlow reads.

    Raises:
      ValueError: it describes no cluster, or not which of its workers this is.
    """
    try:
        config = json.loads(text)
        jobs = {job: _hosts(job, hosts) for job, hosts in config["cluster"].items()}
        task = config["task"]
        job, index = str(task["type"]), int(task["index"])
        if not any(jobs.get(name) for name in JOBS):
            raise ValueError("the cluster has no 'worker'")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        lack = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(
            f"strategy 'multi_worker' cannot read the environment variable TF_CONFIG ({lack}); it "
            f"must be like '{EXAMPLE}' (index 1 on the second machine), and is {text!r}."
        ) from error
    if job not in JOBS or not 0 <= index < len(jobs.get(job, ())):
        has = ", ".join(f"{len(hosts)} of type {name!r}" for name, hosts in jobs.items())
        raise ValueError(
            f"TF_CONFIG says that this is number {index} of type {job!r}, but the tasks that train "
            f"are of type 'chief' or 'worker', numbered from 0, and its cluster has {has}."
        )
    return Cluster({name: jobs[name] for name in JOBS if jobs.get(name)}, job, index, "TF_CONFIG")


def _hosts(job: str, hosts: Any) -> tuple[str, ...]:
    if not isinstance(hosts, list) or not all(isinstance(host, str) for host in hosts):
        raise ValueError(f"{job!r} must be a list of 'host:port', and is {hosts!r}")
    for host in hosts:
        if not re.fullmatch(r".+:\d{1,5}", host):
            raise ValueError(f"{host!r} is no 'host:port'")
    return tuple(hosts)


def from_slurm() -> Cluster:
    """Of the tasks of the Slurm step that this process is one of.

    Raises:
      ValueError: it is in a job, but in no step.
    """
    wanted = ("PROCID", "LOCALID", "STEP_NUM_TASKS", "STEP_NODELIST", "STEP_TASKS_PER_NODE")
    missing = [f"SLURM_{name}" for name in wanted if f"SLURM_{name}" not in os.environ]
    if missing:
        raise ValueError(
            "strategy 'multi_worker' finds the Slurm job "
            f"{os.environ['SLURM_JOB_ID']}, but not {', '.join(missing)}: start the command with "
            "srun, e.g. srun --ntasks-per-node=1 bin/train --strategy=multi_worker."
        )
    first, count, own = _SLURM_PORTS
    base = first + int(os.environ["SLURM_JOB_ID"]) * own % count
    try:
        # How many GPUs a task has is said to the strategy; this would ask nvidia-smi.
        resolver = tf.distribute.cluster_resolver.SlurmClusterResolver(
            port_base=base, gpus_per_node=1024, gpus_per_task=1, auto_set_gpu=False
        )
        workers = tuple(resolver.cluster_spec().job_tasks("worker"))
        _, index = resolver.get_task_info()
    except (ValueError, RuntimeError) as error:
        raise ValueError(
            f"strategy 'multi_worker' cannot read the step of the Slurm job "
            f"{os.environ['SLURM_JOB_ID']}: {error}."
        ) from error
    # The resolver sorts nodes as texts (n10 before n9), and tasks may lie otherwise than in blocks.
    node = os.environ.get("SLURMD_NODENAME")
    mine = f"{node}:{base + int(os.environ['SLURM_LOCALID'])}"
    if node is not None and mine in workers:
        index = workers.index(mine)
    return Cluster({"worker": workers}, "worker", int(index), "Slurm")


def from_kubernetes() -> Cluster:
    """Of the pods of the indexed Job that this process is in, by the names of a headless service.

    Raises:
      ValueError: their number, or the service, is missing.
    """
    index = int(os.environ["JOB_COMPLETION_INDEX"])
    count = os.environ.get("ROBUST_TF_WORKERS", "")
    if not count.isdecimal() or int(count) <= index:
        raise ValueError(
            f"strategy 'multi_worker' finds number {index} of an indexed Job of Kubernetes, and "
            f"ROBUST_TF_WORKERS={count!r}: set that environment variable to the Job's number of "
            "completions, or TF_CONFIG."
        )
    host, _, domain = socket.getfqdn().partition(".")
    if not domain or not host.endswith(f"-{index}"):
        raise ValueError(
            f"strategy 'multi_worker' finds number {index} of an indexed Job of Kubernetes, whose "
            f"pod calls itself {socket.getfqdn()!r}, not JOB-{index}.SERVICE: set subdomain in "
            "the pod's template to the name of a headless service, or set TF_CONFIG."
        )
    stem = host.removesuffix(f"-{index}")
    workers = [f"{stem}-{i}.{domain}:{_KUBERNETES_PORT}" for i in range(int(count))]
    return Cluster({"worker": tuple(workers)}, "worker", index, "Kubernetes")
