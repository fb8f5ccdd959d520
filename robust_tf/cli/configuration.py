"""Reads recipes: gin files and parameters, with errors that say what was meant."""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import re
from collections.abc import Sequence
from importlib import resources

import gin
import tensorflow as tf


class ConfigurationError(ValueError):
    """A recipe that cannot be read."""


def recipes_folder() -> str:
    """The folder of the recipes, in a clone or an installed package."""
    return str(resources.files("robust_tf") / "gin")


def load(gin_files: Sequence[str], gin_params: Sequence[str]) -> str:
    """Parses recipes, later ones over earlier ones, parameters over all.

    Args:
      gin_files: paths; one that does not exist is looked for among the recipes of the package.
      gin_params: bindings, such as `train.epochs=5`.

    Returns:
      All bindings as text, the same for the same settings.

    Raises:
      ConfigurationError: a file that is not there, a name that gin does not know (with the nearest
        that it does), a value that cannot be parsed.
    """
    for room in ("data", "models", "attacks", "methods", "training", "evaluation"):
        importlib.import_module(f"robust_tf.{room}")
    gin.clear_config()
    gin.add_config_file_search_path(recipes_folder())
    paths = [find(path) for path in gin_files]
    try:
        gin.parse_config_files_and_bindings(paths, list(gin_params), finalize_config=False)
    except OSError as error:
        raise ConfigurationError(f"a recipe includes a file that is not there: {error}") from error
    except (ValueError, SyntaxError, TypeError, AttributeError) as error:
        raise ConfigurationError(explain(str(error))) from error
    return gin.config_str()


def find(path: str) -> str:
    """The path of a recipe.

    Raises:
      ConfigurationError: not there; names the nearest recipe.
    """
    name = path.removeprefix("gin/")
    for candidate in (path, os.path.join(recipes_folder(), name)):
        if tf.io.gfile.exists(candidate) and not tf.io.gfile.isdir(candidate):
            return candidate
    recipes = [f for f in sorted(tf.io.gfile.listdir(recipes_folder())) if f.endswith(".gin")]
    near = difflib.get_close_matches(os.path.basename(path), recipes, 1)
    hint = f"did you mean gin/{near[0]}?" if near else f"recipes: {', '.join(recipes)}."
    raise ConfigurationError(f"no recipe {path}; {hint}")


def explain(message: str) -> str:
    """gin's message, with the nearest known name where it names an unknown one."""
    message = message.strip().splitlines()[0] if message.strip() else message
    registry = gin.config._REGISTRY
    names = sorted({selector.split(".")[-1] for selector in registry})
    unknown = re.search(r"No configurable matching '([\w./]+)'", message)
    if unknown:
        word = unknown.group(1).split("/")[-1]
        return f"unknown gin name {word!r}; {_nearest(word, names)}"
    parameter = re.search(
        r"[Cc]onfigurable '([\w.]+)' doesn't have a parameter named '(\w+)'", message
    )
    if parameter:
        owner, word = parameter.group(1).split(".")[-1], parameter.group(2)
        selector = next(s for s in registry if s.split(".")[-1] == owner)
        known = [p for p in inspect.signature(registry[selector].wrapped).parameters if p != "self"]
        return f"{owner} has no parameter {word!r}; {_nearest(word, known)}"
    return message


def _nearest(word: str, names: Sequence[str]) -> str:
    lower = {name.lower(): name for name in names}
    near = difflib.get_close_matches(word.lower(), lower, 1, cutoff=0.5)
    known = f"known: {', '.join(names)}." if len(names) < 30 else "see `gin/` for examples."
    return f"did you mean {lower[near[0]]!r}? {known}" if near else known
