"""`evaluate_shards`: `evaluate` on all devices of this machine, or on a Ray cluster."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from robust_tf import compat, engines, files, modules
from robust_tf.attacks import Attack
from robust_tf.engines import Task
from robust_tf.evaluation import shard_task
from robust_tf.evaluation.attack_names import modules_of
from robust_tf.evaluation.attack_parser import as_attacks, attacks_from_json
from robust_tf.evaluation.evaluator import Attacks
from robust_tf.evaluation.protocol import Protocol, as_split
from robust_tf.evaluation.results import Evaluation
from robust_tf.evaluation.shards import MODULE, Shards, merge_within
from robust_tf.evaluation.target_model import fingerprint_of
from robust_tf.evaluation_progress import SHARDS


def evaluate_shards(
    model: str | os.PathLike[str] | keras.Model,
    data: Any,
    attacks: Attacks,
    *,
    devices: int | str = "all",
    engine: str = "processes",
    address: str | None = None,
    output: str | os.PathLike[str] | None = None,
    imports: Sequence[str] = (),
    **settings: Any,
) -> Evaluation:
    """As `evaluate`, in shards at the same time, each in a process of its own.

    Its verdicts are those of `evaluate`, image by image, up to the rounding of another batch.

    Example:
      evaluate_shards("runs/at_mnist", mnist.test, "AutoAttack(eps=0.3)", output="runs/aa")

    Args:
      model: the folder of a run, or what `load_model` takes; or a Keras model that can be saved.
      data: as of `evaluate`; all of it is written once beside the shards.
      attacks: as of `evaluate`; each must be one that a result file can hold.
      devices: how many shards, or 'all': one for each GPU, or without any one for each core.
      engine: 'processes', on this machine; 'ray', on a Ray cluster, see `engines.RayTasks`.
      address: of an existing Ray cluster; None: RAY_ADDRESS, else one is started here.
      output: where the shards keep what is done, in a folder `OUTPUT.shards`; the same call
        continues one that was interrupted. With Ray on several machines a path that all of them
        see. None: nothing is kept.
      imports: modules of yours that the model needs, by name or path.
      **settings: eps, batch_size, max_examples, seed, search_dtype, ..., progress, as of
        `evaluate`.

    Returns:
      The verdicts on all images; times are summed over the shards.

    Raises:
      ShardError: some shards are not done, such as one whose process was killed.
      TypeError, ValueError, FileError: as `evaluate`.
    """
    for name in ("shard", "state"):
        if name in settings:
            raise TypeError(f"evaluate_shards takes no {name}: it divides and keeps by itself.")
    named = as_attacks(attacks, settings.pop("eps", None))
    progress, asked = settings.pop("progress", None), settings.pop("search_dtype", None)
    Protocol(**settings, search_dtype=None if asked == "auto" else asked)
    split, configs = as_split(data), _configs(named)
    if not len(split):
        raise ValueError("there are no examples to evaluate on: the split is empty.")
    size = min(settings.get("max_examples") or len(split), len(split))
    with contextlib.ExitStack() as stack:
        kept = output is not None
        if output is None:
            output = os.path.join(stack.enter_context(tempfile.TemporaryDirectory()), "result")
        used = stack.enter_context(engines.engine(engine, devices, address))
        folder = os.path.abspath(os.fspath(output)) + SHARDS
        job, images, own = (
            os.path.join(folder, name)
            for name in (shard_task.JOB, shard_task.IMAGES, shard_task.MODEL)
        )
        path = own if isinstance(model, keras.Model) else _path(model)
        about = {
            "model": fingerprint_of(model, None) if path == own else path,
            "attacks": configs,
            "data": split.fingerprint,
            "settings": {**settings, "search_dtype": asked},
        }
        count = min(used.workers, size)
        shards = Shards(folder, about, count, fixed=devices != "all", kept=kept)
        if path == own:
            _save(model, own)
        if not files.exists(images):
            shard_task.save_split(images, split)
        settings["search_dtype"] = f"auto:{shards.search_dtype(used)}" if asked == "auto" else asked
        recorded = modules.record_of(modules_of(named.values()))
        content = {
            "imports": [*imports, *map(modules.as_option, recorded)],
            "attacks": {name: {"attack": config} for name, config in configs.items()},
            "settings": settings,
        }
        files.write_json(job, content)
        sends = tuple(one for one in (job, images, path) if os.path.isfile(one))
        tasks = []
        for k, file in enumerate(shards.outputs, 1):
            words = ("shard", job, images, path, file, str(k), str(shards.count))
            tasks.append(Task(f"shard {k}/{shards.count}", MODULE, words, file, sends))
        shards.run(tasks, used, progress)
        parts = [files.read_json(file)["evaluation"] for file in shards.outputs]
        result = merge_within([Evaluation.from_json(part) for part in parts], None)
        shards.close()
    return result


def _path(model: Any) -> str:
    """The path of a model, from the root where it is one of a file; import paths as they are."""
    if not isinstance(model, (str, os.PathLike)):
        raise TypeError(
            f"evaluate_shards(model={model!r}): must be a Keras model, or a path: other processes "
            "cannot be given a function; give 'package.module:name' of one."
        )
    path = os.fspath(model)
    return os.path.abspath(path) if os.path.exists(path) else path


def _save(model: keras.Model, path: str) -> None:
    """Writes the model once."""
    if not files.exists(path):
        with files.atomic(path) as temporary:
            model.save(temporary)


def _configs(named: Mapping[str, Attack]) -> dict[str, Any]:
    """The attacks as Keras serializes them.

    Raises:
      ValueError: one that is another when it is built again.
    """
    configs = {name: compat.serialize(attack) for name, attack in named.items()}
    again = attacks_from_json({"attacks": {n: {"attack": one} for n, one in configs.items()}})
    for name, attack in named.items():
        if again[name] != attack:
            raise ValueError(
                f"the attack {name!r} is another when it is built again from its configuration, as "
                "other processes do; its class needs a get_config that has all of its arguments."
            )
    return configs
