"""Recipes: the settings of trainings as gin files, found by name, read, built and trained.

As `bin/train` does:

    from robust_tf import recipes

    print(recipes.describe())
    recipe = recipes.load("adr_digits", ["train.epochs=2", "PGD.eps=32/255"])
    model = recipe.model()
    recipe.train("runs/first")
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from robust_tf import files
from robust_tf.recipes.bindings import Bindings
from robust_tf.recipes.gin_errors import ConfigurationError, readable
from robust_tf.recipes.loaded import LoadedRecipe
from robust_tf.recipes.reading import (
    RenamedWarning,
    find,
    import_modules,
    names,
    parse,
    recipes_folder,
)

__all__ = [
    "Bindings",
    "ConfigurationError",
    "LoadedRecipe",
    "RenamedWarning",
    "describe",
    "find",
    "import_modules",
    "load",
    "names",
    "parse",
    "readable",
    "recipes_folder",
]


def load(
    name: str | os.PathLike[str] | Sequence[str],
    params: Sequence[str] = (),
    imports: Sequence[str] = (),
) -> LoadedRecipe:
    """Reads a recipe.

    Args:
      name: of a recipe of the library (`names()`), or the path of a gin file; or several, later
        ones over earlier ones.
      params: bindings over them, as on the command line: `train.epochs=2`, `PGD.eps=8/255`.
      imports: modules of your own whose names it uses, by name or path: 'my_lab', 'lab/my_lab.py'.

    Returns:
      The recipe, with its data, its model and its trainer.

    Raises:
      ConfigurationError: what is wrong, where, and the nearest right name.
    """
    given = [os.fspath(name)] if isinstance(name, (str, os.PathLike)) else list(name)
    if not given:
        raise ConfigurationError("no recipe given; recipes.names() lists them.")
    if isinstance(params, str):
        raise ConfigurationError(f"params={params!r}: must be a list, such as ['train.epochs=2'].")
    return LoadedRecipe(given, params, imports)


def describe(name: str | None = None) -> str:
    """One line about a recipe, its first comment; without a name, a table of all.

    Raises:
      ConfigurationError: there is no such recipe; names the nearest.
    """
    if name is None:
        width = max(map(len, names()))
        return "\n".join(f"{known:{width}}  {describe(known)}" for known in names())
    lines = files.read_text(find(name)).splitlines()
    comments = [line.lstrip("# ").strip() for line in lines if line.startswith("#")]
    return comments[0] if comments else ""
