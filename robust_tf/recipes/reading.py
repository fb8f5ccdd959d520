"""Reads recipes: gin files and parameters, with errors that say what was meant."""

from __future__ import annotations

import difflib
import importlib
import io
import os
import re
import sys
import warnings
from collections.abc import Sequence
from importlib import resources

import gin
import tensorflow as tf

from robust_tf import files, modules
from robust_tf.recipes import syntax
from robust_tf.recipes.bindings import Bindings
from robust_tf.recipes.gin_errors import (
    ConfigurationError,
    explained,
    nearest,
    owners,
    parameters,
)

# What a recipe can bind is known to gin once these are imported.
_PACKAGES = ("data", "models", "attacks", "methods", "training", "evaluation")


class RenamedWarning(FutureWarning):
    """A recipe uses a name of an earlier version, which this version still reads."""


def recipes_folder() -> str:
    """The folder of the recipes, in a clone or an installed package."""
    return str(resources.files("robust_tf") / "gin")


def parse(gin_files: Sequence[str], gin_params: Sequence[str] = ()) -> Bindings:
    """Parses recipes, later ones over earlier ones, parameters over all.

    Args:
      gin_files: paths; one that does not exist is looked for among the recipes of the package.
      gin_params: bindings, such as `train.epochs=5` or `PGD.eps=8/255`.

    Returns:
      The bindings; what is built with them is built inside `in_force()`, and `built()`.

    Raises:
      ConfigurationError: a file that is not there, a name that gin does not know (with the nearest
        that it does), a value that cannot be parsed, a macro that is missing, or one among
        `gin_params` that nothing uses.
    """
    _import_packages()
    bindings = Bindings()
    with bindings.in_force():
        for path in gin_files:
            _parse_file(find(path), ())
        for binding in gin_params:
            if not isinstance(binding, str) or not binding.strip():
                raise ConfigurationError(
                    f"the parameter {binding!r} binds nothing; write NAME.PARAMETER=VALUE, such as "
                    "train.epochs=5."
                )
            _parse_text(binding, f"the parameter {binding}", ())
        _check_macros(gin.config_str(), gin_params)
        gin.finalize()
    return bindings


def import_modules(names: Sequence[str], gin_files: Sequence[str]) -> list[str]:
    """Imports modules for recipes, looked for beside them and in the current folder.

    Returns:
      Their names, without folders.

    Raises:
      ConfigurationError: one is not there, or fails.
    """
    if not names:
        return []
    _import_packages()
    places = [os.path.dirname(os.path.abspath(find(path))) for path in gin_files]
    try:
        return [modules.load(name, places) for name in names]
    except modules.UserModuleError as error:
        raise ConfigurationError(str(error)) from error


def find(path: str, including: str = "") -> str:
    """The path of a recipe: as given, or among the recipes of the package, `.gin` added if need be.

    Args:
      path: of a file, or the name of a recipe.
      including: the folder of the file that includes it, where it is looked for last.

    Raises:
      ConfigurationError: not there; names the nearest recipe.
    """
    name = path.removeprefix("gin/")
    places = [path, os.path.join(recipes_folder(), name)]
    places += [os.path.join(including, path)] if including else []
    for candidate in [*places, *(f"{place}.gin" for place in places)]:
        if files.exists(candidate) and not files.is_folder(candidate):
            return candidate
    known = names()
    near = difflib.get_close_matches(os.path.basename(path).removesuffix(".gin"), known, 1)
    hint = f"did you mean gin/{near[0]}.gin?" if near else f"recipes: {', '.join(known)}."
    raise ConfigurationError(f"there is no recipe {path}; {hint}")


def names() -> list[str]:
    """The recipes of the package, without `.gin`."""
    entries = sorted(tf.io.gfile.listdir(recipes_folder()))
    return [name.removesuffix(".gin") for name in entries if name.endswith(".gin")]


def without_effect(used: str, gin_params: Sequence[str]) -> list[str]:
    """The bindings among `gin_params` that nothing in the run has read, once all is built.

    Args:
      used: `Bindings.used()`.
      gin_params: as given.
    """
    found = re.findall(r"^# Parameters for (\S+):$", used, re.M)
    owners = {name.split("/")[-1].split(".")[-1] for name in found}
    owners.add("evaluate")  # called when the training is over
    idle = []
    for binding in gin_params:
        owner, dot, _ = binding.split("=")[0].strip().split("/")[-1].rpartition(".")
        if dot and owner.split(".")[-1] not in owners:
            idle.append(binding)
    return idle


def _import_packages() -> None:
    for name in _PACKAGES:
        importlib.import_module(f"robust_tf.{name}")


def _parse_file(path: str, above: tuple[str, ...]) -> None:
    """Parses a file and what it includes; `above`: the files that include it."""
    if path in above:
        raise ConfigurationError(f"{path} includes itself, by way of {above[-1]}.")
    try:
        text = files.read_text(path)
    except files.FileError as error:
        raise ConfigurationError(str(error)) from error
    if os.path.basename(path) == "config.gin":  # of a run, which records where its modules lay
        folder = os.path.dirname(path)
        modules.import_recorded(modules.recorded_in(folder), folder, [folder])
    _parse_text(text, path, (*above, path))


def _parse_text(text: str, source: str, above: tuple[str, ...]) -> None:
    """Parses bindings; `source`: how an error calls them."""
    with explained(source):
        parts, notes = syntax.parts(text)
    for note in notes:
        warnings.warn(note, RenamedWarning, stacklevel=2)
    for part in parts:
        for line, module in part.imports:
            folder = os.path.dirname(os.path.abspath(above[-1])) if above else None
            _import(module, f"{source}, line {line}" if above else source, folder)
        if part.include is None:
            with explained(source):
                gin.parse_config(_Lines(part, source if above else None))
            continue
        try:
            path = find(part.include, os.path.dirname(above[-1]) if above else "")
        except ConfigurationError:
            raise ConfigurationError(
                f"{source}, line {part.line}: it includes {part.include}, which is not there."
            ) from None
        _parse_file(path, above)


def _import(module: str, where: str, folder: str | None = None) -> None:
    """Imports what a recipe imports, which registers the classes of the user's with gin.

    Modules are looked for beside the recipe and in the current folder; those of the `config.gin` of
    a run also where they lay.
    """
    if modules.refused() and modules.own(module) and module not in sys.modules:
        raise ConfigurationError(
            f"{where}: it imports {module}, and --no_import refuses that; leave --no_import out, "
            f"or give --import={module} if you trust it."
        )
    try:
        modules.load(module, [] if folder is None else [folder], where=f"{where}: ")
    except modules.UserModuleError as error:
        raise ConfigurationError(str(error)) from error


class _Lines(io.StringIO):
    """A part of a recipe, for gin's parser: with the file's name and its numbers of lines."""

    def __init__(self, part: syntax.Part, name: str | None):
        super().__init__("\n" * (part.line - 1) + part.text)
        self.name = name


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
            f"the macro %{name} is used{where} but not bound; {nearest(name, sorted(bound))}"
        )
    given = {binding.split("=")[0].strip() for binding in gin_params}
    for name in sorted((bound - used) & given):
        known = [f"{owner}.{name}" for owner in sorted(owners()) if name in parameters(owner)]
        known = [full for full in known if full.startswith("train.")] or known
        near = difflib.get_close_matches(name, sorted(used), 1)
        hint = f"did you mean {' or '.join(known + near)}?"
        if not near and not known:
            hint = nearest(name, sorted(used))
        raise ConfigurationError(
            f"the parameter {name}=... binds a macro that nothing uses; {hint}"
        )
