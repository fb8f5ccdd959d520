"""`run.json`: what a run was given, as structured values, written when it starts."""

from __future__ import annotations

import dataclasses
import functools
import json
import platform
from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf

from robust_tf import compat, data, modules
from robust_tf.attacks import Attack
from robust_tf.attacks.union import AttackUnion
from robust_tf.data.augmenting import describe as describe_augmentations
from robust_tf.evaluation.attack_names import modules_of, name_of
from robust_tf.evaluation.attack_parser import as_attacks
from robust_tf.runs import bindings
from robust_tf.validation import plain
from robust_tf.version import __version__

RECORD, FORMAT = "run.json", 1
# What a record holds, and of which type each part is.
PARTS: dict[str, type | tuple[type, ...]] = {
    "format": int,
    "method": dict,
    "network": dict,
    "data": dict,
    "threat": dict,
    "attacks": dict,
    "disc_input": (str, type(None)),
    "training": dict,
    "seed": (int, type(None)),
    "precision": (dict, type(None)),
    "versions": dict,
    "bindings": dict,
    "modules": list,
}


def describe(
    recipe: Any,
    model: Any,
    dataset: data.Data,
    precision: dict[str, Any] | None = None,
    guard: dict[str, Any] | None = None,
    xla: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """All that is known of a run when it starts, JSON-ready.

    Args:
      recipe: a `training.Recipe`.
      model: what it built, a `methods.RobustModel`.
      dataset: what it trains on.
      precision: what it computes in, and why, as `precision.Choice.to_json` gives it.
      guard: how it is watched for catastrophic overfitting, None if it is not.
      xla: whether XLA compiles its steps, and why, as `training.xla.Choice.to_json` gives it.

    Returns:
      'method' (name, terms with their weights, the names of its auxiliary models, and the steps of
      the attack that makes its training images), 'network'
      (builder, class, parameters, image shape and classes, and of weights from elsewhere that it
      starts from 'weights_source'), 'data', 'threat' (norm, eps, step_size,
      steps and name of the training attack, or of the strongest of the evaluation where the
      training has none; of several norms those of L-inf, else of the first, and 'balls', norm
      and largest eps of all), 'attacks'
      ('training', 'validation', and 'evaluation' by name, as Keras serializes them), 'disc_input'
      (of a method with a discriminator), 'training' (the recipe's settings), 'seed', 'precision',
      'xla', 'guard', 'versions', 'bindings' (of gin) and 'modules': the user's own that gin or the
      classes of the run name, each with the folder where it lies, to be imported before those
      classes are known.
    """
    evaluation = as_attacks(recipe.evaluation_attacks)
    attack = getattr(model, "attack", None)
    builders = [recipe.network, recipe.method, recipe.optimizer, recipe.schedule]
    used = [model, *compat.layers_of(model.network)]
    attacks = [attack, recipe.validation_attack, *evaluation.values()]
    return {
        "format": FORMAT,
        "method": {
            "name": type(model).__name__,
            "terms": dict(model.term_weights),
            "models": list(model.auxiliary_models()),
            "attack_steps": model.attack_steps,
        },
        "network": {
            "builder": _name(recipe.network),
            "class": type(model.network).__name__,
            "parameters": int(model.network.count_params()),
            "image_shape": list(dataset.image_shape),
            "num_classes": int(dataset.num_classes),
            **_weights_source(model.network),
        },
        "data": describe_data(dataset),
        "threat": _threat([attack] if isinstance(attack, Attack) else list(evaluation.values())),
        "attacks": {
            "training": _serialized(attack),
            "validation": _serialized(recipe.validation_attack),
            "evaluation": {name: _serialized(one) for name, one in evaluation.items()},
        },
        "disc_input": getattr(model, "disc_input", None),
        "training": _settings(recipe),
        "seed": recipe.seed,
        "precision": precision,
        "xla": xla,
        "guard": guard,
        "versions": versions(),
        "bindings": bindings.operative(),
        "modules": _modules([*builders, *map(type, used)], modules_of(attacks), dataset),
    }


def describe_data(dataset: data.Data) -> dict[str, Any]:
    """Name, sizes, fingerprints and pixel range of a dataset, and how validation was chosen.

    Of a source also its class names, what became of its images, and by what it is read again.
    """
    splits = ("train", "validation", "test")
    return {
        "name": dataset.name,
        "fingerprint": dataset.fingerprint(),
        "splits": {name: getattr(dataset, name).fingerprint for name in splits},
        "validation_size": dataset.held_out or len(dataset.validation),
        "train": len(dataset.train),
        "validation": len(dataset.validation),
        "test": len(dataset.test),
        "seed": dataset.seed,
        "range": [0.0, 1.0],
        "augmentation": describe_augmentations(dataset.augmentation),
        **({"class_names": list(dataset.class_names)} if dataset.class_names else {}),
        **dataset.description,
    }


def versions() -> dict[str, str]:
    """Of what a result depends on."""
    return {
        "robust_tf": __version__,
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "python": platform.python_version(),
        "stack": "keras3" if compat.KERAS_3 else "addons",
    }


def faults(record: dict[str, Any]) -> str:
    """What is wrong with the content of a `run.json`, '' if nothing is."""
    number = record.get("format")
    if isinstance(number, int) and number > FORMAT:
        return f"its format is {number}, of a later version of robust_tf; this one reads {FORMAT}"
    for part, kind in PARTS.items():
        if part not in record:
            return f"it has no {part!r}"
        if not isinstance(record[part], kind):
            return f"its {part!r} is {record[part]!r:.60}"
    return ""


def _weights_source(network: Any) -> dict[str, Any]:
    source = getattr(network, "weights_source", None)
    return {"weights_source": source} if source else {}


def _threat(attacks: list[Attack]) -> dict[str, Any]:
    """Ball, steps and name of the attack with the largest eps of its norm; {} without a ball."""
    largest: dict[str, tuple[float, Attack]] = {}
    for attack in attacks:
        for norm, eps in attack.balls:
            if eps and eps > largest.get(norm, (0.0,))[0]:
                largest[norm] = eps, attack
    if not largest:
        return {}
    norm = "Linf" if "Linf" in largest else next(iter(largest))
    eps, attack = largest[norm]
    inner = attack
    if isinstance(attack, AttackUnion):
        inner = next(one for one in attack.members if (norm, eps) in one.balls)
    while isinstance(getattr(inner, "attack", None), Attack):
        inner = inner.attack  # type: ignore[attr-defined]
    size = getattr(getattr(inner, "step", inner), "step_size", None)
    return {
        "norm": norm,
        "eps": eps,
        "step_size": size if size is None else float(size),
        "steps": getattr(inner, "steps", None),
        "attack": name_of(attack),
        **({"balls": [[n, one[0]] for n, one in largest.items()]} if len(largest) > 1 else {}),
    }


def _serialized(attack: Any) -> Any:
    """As Keras serializes it; None without an attack, or where JSON cannot hold it."""
    if attack is None:
        return None
    try:
        return json.loads(json.dumps(compat.serialize(attack)))
    except Exception:  # Keras raises of every kind for what a user made, such as one with a model
        return None


def _settings(recipe: Any) -> dict[str, Any]:
    """The recipe's numbers and texts, and its builders as '@NAME'."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(recipe):
        value = plain(getattr(recipe, field.name))
        if value is None or isinstance(value, (bool, int, float, str)):
            found[field.name] = value
        elif callable(value) and not isinstance(value, (Mapping, Attack)):
            found[field.name] = f"@{_name(value)}"
    return found


def _name(builder: Any) -> str:
    """Of a class, a function, a partial of one, or an object's class."""
    if isinstance(builder, functools.partial):
        return _name(builder.func)
    return str(getattr(builder, "__name__", type(builder).__name__))


def _modules(
    used: list[Callable[..., Any]], others: set[str], dataset: data.Data
) -> list[dict[str, Any]]:
    """The modules of a user's own, which gin's imports, the classes or the data of the run name."""
    source = dataset.description.get("source") or {}
    found = {*bindings.imported(), *others, str(source.get("module") or "")}
    for one in used:
        while isinstance(one, functools.partial):
            one = one.func
        found.add(getattr(one, "__module__", None) or "")
    return modules.record_of(found)


def evaluation_number(record: Mapping[str, Any], what: str) -> float | None:
    """'steps' or 'step_size' of a run's own evaluation: its macro, or else of its first attack."""
    configs = list((record["attacks"].get("evaluation") or {}).values())
    own = (_numbers(config).get(what) for config in configs)
    for value in (record["bindings"].get(f"evaluation_{what}"), *own):
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return value
    return None


def _numbers(config: Any) -> dict[str, Any]:
    """'steps' and 'step_size' in the configuration of an attack, wherever they stand in it."""
    found: dict[str, Any] = {}
    if isinstance(config, dict):
        for key, value in config.items():
            if key in ("steps", "step_size"):
                found.setdefault(key, value)
            elif isinstance(value, dict):
                found = {**_numbers(value), **found}
    return found
