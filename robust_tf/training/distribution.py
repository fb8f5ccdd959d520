"""`tf.distribute` strategies by name, and how a dataset is cut for them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from robust_tf import argument_types, precision
from robust_tf.training import cluster, waiting
from robust_tf.validation import check_number

NAMES = ("auto", "none", "mirrored", "multi_worker", "tpu", "tpu:NAME")
# What TensorFlow raises where another worker is gone, and where a bucket does not answer. The first
# worker finds another gone as unavailable; the others wait for the first until a deadline is over.
_LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.DeadlineExceededError)


@argument_types.checked
def make_strategy(
    name: str = "auto",
    wait_minutes: float = waiting.WAIT_MINUTES,
    say: Callable[[str], None] = waiting.to_stderr,
) -> tf.distribute.Strategy:
    """The strategy called `name`.

    'auto': multi-worker where TF_CONFIG describes a cluster, mirrored where there is more than one
    GPU, none otherwise. 'mirrored': all GPUs, or all logical CPUs where there is no GPU.
    'multi_worker': by TF_CONFIG, or the Slurm step or indexed Kubernetes Job that this is in; see
    `cluster.find`. 'tpu' or 'tpu:NAME': by the name of the TPU.

    Args:
      name: one of `NAMES`.
      wait_minutes: how long a worker waits for the others, > 0.
      say: is told for whom it waits.

    Raises:
      ValueError: unknown name, wait_minutes <= 0, or 'multi_worker' without a cluster.
      MissingWorkerError: another worker did not come.
    """
    check_number("make_strategy", "wait_minutes", wait_minutes, strict=True)
    # Looking at devices starts TensorFlow, after which no workers can be connected: those first.
    if name == "multi_worker" or (name == "auto" and os.environ.get("TF_CONFIG")):
        return _multi_worker(wait_minutes, say)
    gpus = tf.config.list_logical_devices("GPU")
    if name == "auto":
        name = "mirrored" if len(gpus) > 1 else "none"
    if name == "none":
        return tf.distribute.get_strategy()
    if name == "mirrored":
        if gpus:
            return tf.distribute.MirroredStrategy([device.name for device in gpus])
        # Sums on one device: collective operations number their instances from the same start in
        # every strategy, so that two strategies of one process would take each other's for theirs.
        return tf.distribute.MirroredStrategy(
            [device.name for device in tf.config.list_logical_devices("CPU")],
            cross_device_ops=tf.distribute.ReductionToOneDevice(),
        )
    if name == "tpu" or name.startswith("tpu:"):
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=name[4:])
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        return tf.distribute.TPUStrategy(resolver)
    raise ValueError(f"strategy {name!r}: must be one of {NAMES}.")


def _multi_worker(
    wait_minutes: float, say: Callable[[str], None]
) -> tf.distribute.MultiWorkerMirroredStrategy:
    found = cluster.find()
    waiting.wait(found, wait_minutes, say)
    try:
        with waiting.connecting(found, say):
            return tf.distribute.MultiWorkerMirroredStrategy(found.resolver())
    except RuntimeError as error:  # TensorFlow was used before in this process
        raise ValueError(f"strategy 'multi_worker': {error}.") from error


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process writes the run folder."""
    resolver = strategy.cluster_resolver
    if resolver is None or not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return True
    return resolver.task_type in (None, "chief") or (
        resolver.task_type == "worker"
        and resolver.task_id == 0
        and "chief" not in resolver.cluster_spec().jobs
    )


def spans_replicas(strategy: tf.distribute.Strategy) -> bool:
    """Whether variables made under this strategy are more than plain variables."""
    return strategy.num_replicas_in_sync > 1 or isinstance(
        strategy, (tf.distribute.MirroredStrategy, tf.distribute.MultiWorkerMirroredStrategy)
    )


def is_lost(error: BaseException) -> bool:
    """Whether an error says that another worker, or what a run uses elsewhere, is gone."""
    return isinstance(error, _LOST) or "Collective ops is aborted" in str(error)


def barrier(strategy: tf.distribute.Strategy) -> None:
    """Returns when every worker has come here; at once where there is only one.

    Raises:
      tf.errors.OpError: another worker is gone, see `is_lost`.
    """
    all_agree(strategy, True)


def all_agree(strategy: tf.distribute.Strategy, mine: bool) -> bool:
    """Whether every worker says True; each waits for all.

    Raises:
      tf.errors.OpError: another worker is gone, see `is_lost`.
    """
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return mine

    @tf.function(autograph=False)  # eagerly it works too, but warns of its overhead
    def meet() -> tf.Tensor:
        return strategy.run(lambda: tf.constant(float(mine)))

    with waiting.noted(*_addresses(strategy)):
        said = meet()
        votes = strategy.reduce(tf.distribute.ReduceOp.SUM, said, axis=None).numpy()
    return bool(votes == strategy.num_replicas_in_sync)


def agreed_precision(
    strategy: tf.distribute.Strategy, policy: str, earlier: Mapping[str, Any]
) -> precision.Choice:
    """What a run computes in, the same on all workers.

    Args:
      strategy: of the run.
      policy: `train.dtype_policy`; 'auto' is bfloat16 where it is faster on every worker.
      earlier: the record of a run that is continued, which keeps its precision; {} of a new one.
    """
    if earlier.get("precision") is not None:
        return precision.keep(earlier["precision"])
    choice = precision.choose(policy)
    if not all_agree(strategy, choice.dtype == "bfloat16") and choice.asked == "auto":
        return dataclasses.replace(choice, dtype="float32")
    return choice


def _addresses(strategy: tf.distribute.MultiWorkerMirroredStrategy) -> tuple[str, list[str]]:
    """Of this worker and of the others."""
    resolver = strategy.cluster_resolver
    jobs = resolver.cluster_spec().as_dict().items()
    places = {(job, index): host for job, hosts in jobs for index, host in enumerate(hosts)}
    mine = places.pop((resolver.task_type, resolver.task_id), "this worker")
    return mine, list(places.values())


def distribute(
    strategy: tf.distribute.Strategy, make: Callable[..., tf.data.Dataset], batch_size: int
) -> Any:
    """A dataset of global batches, each replica's share made where it is used.

    Args:
      strategy: under which the elements are consumed by `strategy.run`.
      make: `shard=(count, index)` -> dataset of that worker's rows of each global batch of
        `batch_size` examples, the same number in every batch.
      batch_size: global.

    Raises:
      ValueError: the batch cannot be shared equally.
    """
    replicas = strategy.num_replicas_in_sync
    if batch_size % replicas:
        raise ValueError(
            f"batch_size={batch_size} cannot be shared by {replicas} replicas; "
            f"take a multiple of {replicas}, e.g. {-(-batch_size // replicas) * replicas}."
        )
    if replicas == 1:
        return make(shard=(1, 0))

    def worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
        rows = make(shard=(context.num_input_pipelines, context.input_pipeline_id))
        shares = replicas // context.num_input_pipelines
        if shares == 1:
            return rows
        size = batch_size // replicas
        # unbatch and batch copy example by example; a reshape does not.
        return rows.map(
            lambda x, y: (
                tf.reshape(x, [shares, size, *x.shape[1:]]),
                tf.reshape(y, [shares, size, *y.shape[1:]]),
            )
        ).unbatch()

    return strategy.distribute_datasets_from_function(worker)
