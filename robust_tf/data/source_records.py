"""What is written of a source in a run, and making it again from that."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any

import gin
import numpy as np

from robust_tf import modules
from robust_tf.data.errors import DataError


def record_of(source: Any) -> dict[str, Any]:
    """What is written of a source, by which it is made again: its module, name and arguments.

    Args:
      source: as given to `load`: a source, or a function that makes one or `Data`.
    """
    if dataclasses.is_dataclass(source) and not inspect.isclass(source):
        fields = dataclasses.fields(source)
        arguments = {field.name: getattr(source, field.name) for field in fields if field.init}
        builder: Any = type(source)
    else:
        builder, arguments = inspect.unwrap(source), {}
        with contextlib.suppress(ValueError):  # gin does not know it
            arguments = gin.get_bindings(source)
    module = getattr(builder, "__module__", None) or ""
    return {
        "module": module,
        **({"folder": modules.folder_of(module)} if modules.own(module) else {}),
        "name": getattr(builder, "__qualname__", type(builder).__name__),
        "arguments": {name: _plain(value) for name, value in arguments.items()},
    }


def _plain(value: Any) -> Any:
    """As JSON has it; its text where JSON cannot hold it."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    return value if value is None or isinstance(value, (bool, int, float, str)) else repr(value)


def made_again(source: Mapping[str, Any], about: Mapping[str, Any]) -> Any:
    """The source that `record_of` has described.

    Args:
      source: the description.
      about: of the data of that time: 'class_names' and 'image_size', where known.
    """
    module, name = str(source.get("module")), str(source.get("name"))
    arguments = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in (source.get("arguments") or {}).items()
    }
    builder = _builder(module, name, source.get("folder"))
    # As they were, whatever lies there now.
    for name, was in (("classes", "class_names"), ("image_size", "image_size")):
        if about.get(was) and name in inspect.signature(builder).parameters:
            arguments[name] = tuple(about[was])
    if inspect.isclass(builder):
        return builder(**arguments)
    return functools.wraps(builder)(lambda: builder(**arguments))  # under its name


def _builder(module: str, name: str, folder: Any) -> Callable[..., Any]:
    """The source of this name: one of the library's, or of a user's module, which is imported."""
    library = module.startswith("robust_tf.data.") or module == "__main__"
    if not modules.own(module) and not library:
        raise DataError(
            f"the run's data come from {module}.{name}, which is neither a source of this library "
            "nor of a module of yours; give --dataset."
        )
    owner = f"the run's data, {module}.{name},"
    fault = modules.import_recorded([{"name": module, "folder": folder}], owner)
    if fault:
        raise DataError(f"{fault[:-1]}, or --dataset.")
    try:
        found: Any = sys.modules.get(module)
        for part in name.split("."):
            found = getattr(found, part)
        if found.__module__ != module:  # not what the module itself has imported, such as os
            raise AttributeError(f"{name} is of {found.__module__}")
    except AttributeError as error:
        raise DataError(f"{owner} cannot be made again: {error}; give --dataset.") from error
    return found
