"""What is written of a source in a run, and making it again from that."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any

import gin
import numpy as np

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
    return {
        "module": getattr(builder, "__module__", None),
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
    builder = _builder(module, name)
    # As they were, whatever lies there now.
    for name, was in (("classes", "class_names"), ("image_size", "image_size")):
        if about.get(was) and name in inspect.signature(builder).parameters:
            arguments[name] = tuple(about[was])
    if inspect.isclass(builder):
        return builder(**arguments)
    return lambda: builder(**arguments)


def _builder(module: str, name: str) -> Callable[..., Any]:
    if "" not in sys.path:
        sys.path.insert(0, "")  # modules beside the user, as for `python -m`
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise DataError(
            f"the run's data come from {module}.{name}, which cannot be imported: {error}; put its "
            "folder on PYTHONPATH, or give --dataset."
        ) from error
    return found
