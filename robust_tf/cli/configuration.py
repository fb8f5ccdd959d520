"""Reads recipes: gin files and parameters, with errors that say what was meant."""

from __future__ import annotations

import contextlib
import difflib
import functools
import importlib
import inspect
import logging
import os
import re
import tokenize
from collections.abc import Iterator, Sequence
from importlib import resources

import gin
import tensorflow as tf


class ConfigurationError(ValueError):
    """A recipe that cannot be read, or that says what cannot be."""


def recipes_folder() -> str:
    """The folder of the recipes, in a clone or an installed package."""
    return str(resources.files("robust_tf") / "gin")


def load(gin_files: Sequence[str], gin_params: Sequence[str]) -> str:
    """Parses recipes, later ones over earlier ones, parameters over all, and closes the result.

    Args:
      gin_files: paths; one that does not exist is looked for among the recipes of the package.
      gin_params: bindings, such as `train.epochs=5`.

    Returns:
      All bindings as text, the same for the same settings.

    Raises:
      ConfigurationError: a file that is not there, a name that gin does not know (with the nearest
        that it does), a value that cannot be parsed, a macro that is missing, or one among
        `gin_params` that nothing uses.
    """
    for room in ("data", "models", "attacks", "methods", "training", "evaluation"):
        importlib.import_module(f"robust_tf.{room}")
    gin.clear_config()
    _prepare_gin()
    for path in gin_files:
        path = find(path)
        with _explained(path), _quiet():
            gin.parse_config_file(path)
    for binding in gin_params:
        with _explained(f"--gin_param={binding}"):
            gin.parse_config(binding)
    text = gin.config_str()
    _check_macros(text, gin_params)
    gin.finalize()
    return text


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
    raise ConfigurationError(f"there is no recipe {path}; {hint}")


@contextlib.contextmanager
def readable() -> Iterator[None]:
    """Around calls of gin-bound constructors: their errors without gin's account of the calls.

    Raises:
      ConfigurationError: instead of a ValueError or TypeError inside.
    """
    try:
        yield
    except (ValueError, TypeError) as error:
        raise ConfigurationError(_without_calls(error)) from error


def without_effect(gin_params: Sequence[str]) -> list[str]:
    """The bindings among `gin_params` that nothing in the run has read, once all is built."""
    used = re.findall(r"^# Parameters for (\S+):$", gin.operative_config_str(), re.M)
    owners = {name.split("/")[-1].split(".")[-1] for name in used}
    owners.add("evaluate")  # called when the training is over
    idle = []
    for binding in gin_params:
        owner, dot, _ = binding.split("=")[0].strip().split("/")[-1].rpartition(".")
        if dot and owner.split(".")[-1] not in owners:
            idle.append(binding)
    return idle


@functools.cache
def _prepare_gin() -> None:
    """Where included files are looked for; once, as gin keeps a list."""
    gin.add_config_file_search_path(recipes_folder())
    gin.config.register_file_reader(tf.io.gfile.GFile, tf.io.gfile.exists)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without gin's error messages about the places where an included file is not."""
    root, handler = logging.getLogger(), logging.NullHandler()

    def wanted(record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith("Path not found")

    # With no handler at all, logging.error() would set one up for the whole program.
    root.addHandler(handler)
    root.addFilter(wanted)
    try:
        yield
    finally:
        root.removeFilter(wanted)
        root.removeHandler(handler)


@contextlib.contextmanager
def _explained(source: str) -> Iterator[None]:
    """Turns whatever gin's parser raises into a `ConfigurationError` that says where."""
    try:
        yield
    except (ValueError, TypeError, AttributeError, KeyError, OSError) as error:
        line = re.search(r'In file "(.+?)", line (\d+)', str(error))
        where = f"{line[1]}, line {line[2]}" if line else source
        raise ConfigurationError(f"{where}: {explain(str(error))}") from error
    except (SyntaxError, tokenize.TokenError) as error:
        where = source
        if isinstance(error, SyntaxError) and error.filename:
            where = f"{error.filename}, line {error.lineno}"
        what = _first_line(str(error.args[0]))
        token = re.search(r"Failed to parse token '(.+?)'", str(error))
        if token:
            what = f"{token[1]} is not a value"
        raise ConfigurationError(
            f"{where}: {what}. Bindings read NAME.PARAMETER=VALUE; a text as value needs quotes of "
            "its own: --gin_param=\"data.name='mnist'\"."
        ) from error


def explain(message: str) -> str:
    """The message of gin, with the nearest known name where it names an unknown one."""
    unknown = re.search(r"No configurable matching (?:reference )?'@?([\w./]+?)(?:\(\))?'", message)
    if unknown:
        word = unknown[1].split("/")[-1]
        return f"unknown gin name {word!r}; {_nearest(word, sorted(_owners()))}"
    parameter = re.search(
        r"onfigurable '([\w./]+)' doesn't have a parameter named '(\w+)'", message
    )
    if parameter:
        owner = parameter[1].split("/")[-1].split(".")[-1]
        known = _parameters(owner)
        return f"{owner} has no parameter {parameter[2]!r}; {_nearest(parameter[2], known)}"
    missing = re.search(r"Unable to open file: (\S+?)\. Searched", message)
    if missing:
        return f"it includes {missing[1]}, which is not there."
    return _first_line(message)


def _check_macros(text: str, gin_params: Sequence[str]) -> None:
    """Raises for macros that are used but not bound, or given but not used: both are misspellings.

    Args:
      text: of `gin.config_str()`, where macros are the bindings without a dot.
      gin_params: where an unused macro is an error; in a file, a later one may have replaced its
        only use.
    """
    used = set(re.findall(r"%([\w/.]+)", text))
    bound = set(re.findall(r"^([\w/]+) = ", text, re.M))
    for name in sorted(used - bound):
        owner = re.search(rf"^(\S+) =[^=]*%{re.escape(name)}\b", text, re.M)
        where = f" by {owner[1]}" if owner else ""
        raise ConfigurationError(
            f"the macro %{name} is used{where} but not bound; {_nearest(name, sorted(bound))}"
        )
    given = {binding.split("=")[0].strip() for binding in gin_params}
    for name in sorted((bound - used) & given):
        known = [f"{owner}.{name}" for owner in sorted(_owners()) if name in _parameters(owner)]
        known = [full for full in known if full.startswith("train.")] or known
        near = difflib.get_close_matches(name, sorted(used), 1)
        hint = f"did you mean {' or '.join(known + near)}?"
        if not near and not known:
            hint = _nearest(name, sorted(used))
        raise ConfigurationError(f"--gin_param={name}=... binds a macro that nothing uses; {hint}")


def _without_calls(error: Exception) -> str:
    """An error's message without gin's lines on the calls, but with the outermost one's name."""
    message, *_ = re.split(r"\n  (?:In call to|No values supplied)", str(error))
    calls = re.findall(r"In call to configurable '(\S+)' \(.*\)(?: in scope '(\S+)')?", str(error))
    names = [f"{scope}/{name}" if scope else name for name, scope in calls]
    absent = re.search(r"([\w.]+)\(\) missing \d+ required [\w -]+arguments?: (.+)", message)
    if absent:
        owner = names[0] if names else absent[1].split(".")[0]
        parameter = absent[2].replace("'", "").split(",")[0].split(" and ")[0]
        return f"{owner} needs {absent[2]}; bind it: {owner}.{parameter} = ..."
    if not names or names[-1] in message.split(":")[0]:
        return message
    return f"{message.rstrip()} (in {names[-1]})"


def _owners() -> dict[str, str]:
    """All that gin can bind here: name -> name with its module."""
    selectors = [selector for selector, _ in gin.config._REGISTRY.items()]
    return {s.split(".")[-1]: s for s in selectors if not s.startswith("gin.")}


def _parameters(owner: str) -> list[str]:
    """The parameters of a gin name."""
    configurable = gin.get_configurable(_owners()[owner])
    return [name for name in inspect.signature(configurable).parameters if name != "self"]


def _nearest(word: str, names: Sequence[str]) -> str:
    lower = {name.lower(): name for name in names}
    near = difflib.get_close_matches(word.lower(), lower, 1, cutoff=0.5)
    return f"did you mean {lower[near[0]]}?" if near else f"known: {', '.join(names)}."


def _first_line(message: str) -> str:
    return (message.strip().splitlines() or [message])[0].rstrip(".")
