"""A user's own modules: imported by name or path, written into runs, found again.

Only modules that the user, a recipe or the own record of a run names are imported. A run records
the name of each and the folder in which it lay, and copies nothing. Whatever is imported because a
run records it is said with its file, and `refuse` forbids it.
"""

from __future__ import annotations

import contextlib
import contextvars
import importlib
import importlib.machinery
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

# Of no user: this library, what it stands on, and scripts, which have no name to be imported by.
_OTHERS = ("robust_tf", "keras", "tensorflow", "tf_keras", "gin", "numpy", "__main__", "")
REFUSED = "the modules of runs are not imported (--no_import, imports=False)"


class ModuleNote(UserWarning):
    """What was imported because a run records it, or was not."""

    kind = "note"


class UserModuleError(ValueError):
    """A user's module that is not there, or fails; the message says what to do."""


class _Guard:
    """Refuses to import modules of these names, whoever asks, such as Keras reading a file."""

    def __init__(self) -> None:
        self.roots: set[str] = set()

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.partition(".")[0] in self.roots:
            raise ModuleNotFoundError(REFUSED, name=name)


_guard: contextvars.ContextVar[_Guard | None] = contextvars.ContextVar("guard", default=None)


@contextlib.contextmanager
def scope() -> Iterator[None]:
    """What `refuse` forbids inside is allowed again afterwards."""
    before = _guard.get()
    try:
        yield
    finally:
        own = _guard.get()
        if own is not before:
            sys.meta_path.remove(own)  # type: ignore[arg-type]
            _guard.set(before)


def refuse() -> None:
    """From here to the end of the `scope` no module is imported because a run records it."""
    if _guard.get() is None:
        _guard.set(_Guard())
        sys.meta_path.insert(0, _guard.get())  # type: ignore[arg-type]


def refused() -> bool:
    """Whether `refuse` is in force."""
    return _guard.get() is not None


def load(module: str, places: Sequence[str] = (), *, where: str = "") -> str:
    """Imports a module that the user or a recipe names.

    It is looked for in `places`, then in the current folder, then wherever Python looks.

    Args:
      module: 'my_lab', 'my_package.attacks', or with its folder: 'lab/my_lab.py', 'lab/my_lab'.
      places: folders.
      where: what names it, for messages: 'mine.gin, line 3: '.

    Returns:
      Its name.

    Raises:
      UserModuleError: it is not there, it fails, or an installed package has its name.
    """
    folder, name = os.path.split(os.fspath(module))
    name = name.removesuffix(".py")
    if not all(part.isidentifier() for part in name.split(".")):
        raise UserModuleError(
            f"{where}import {module}: must be the name of a module, such as my_lab or "
            "my_package.attacks, or its path, such as lab/my_lab.py."
        )
    places = [folder] if folder else [*places, os.getcwd()]
    file = next(filter(None, (_file_in(place, name) for place in places)), None)
    if folder and file is None:
        raise UserModuleError(f"{where}import {module}: there is no {folder}{os.sep}{name}.py.")
    if name in sys.modules:
        _check_loaded(name, file, where)
        return name
    if file is not None and not folder:
        _check_name(name, file, where)
    try:
        with _on_the_path(None if file is None else _folder_of(file, name)):
            importlib.import_module(name)
    except (Exception, SystemExit) as error:  # a module may raise anything
        raise UserModuleError(f"{where}import {name} fails: {_said(error, name)}") from error
    return name


def record_of(names: Iterable[str]) -> list[dict[str, Any]]:
    """What a run records of modules: 'name', and 'folder' where it lies.

    The folder is None for installed packages. Those of no user are left out, and Python's own.
    """
    return [{"name": name, "folder": folder_of(name)} for name in sorted({*names}) if own(name)]


def own(name: str) -> bool:
    """Whether a module may be a user's: not this library, what it stands on, or Python's own."""
    root = name.partition(".")[0]
    return root not in _OTHERS and root not in sys.stdlib_module_names


def folder_of(name: str) -> str | None:
    """The folder from which a module that is loaded is imported; None if it is installed."""
    file = getattr(sys.modules.get(name), "__file__", None)
    return None if file is None or _installed(file) else _folder_of(os.path.abspath(file), name)


def entries(recorded: Any) -> list[dict[str, Any]]:
    """The modules in a record, which is a list of `record_of`, or of names alone."""
    found = []
    for one in recorded if isinstance(recorded, (list, tuple)) else []:
        one = one if isinstance(one, Mapping) else {"name": one}  # as runs before have them
        name, folder = one.get("name"), one.get("folder")
        if isinstance(name, str) and all(part.isidentifier() for part in name.split(".")):
            if own(name):
                found.append({"name": name, "folder": folder if isinstance(folder, str) else None})
    return found


def recorded_in(folder: str) -> list[dict[str, Any]]:
    """The modules that the run in a folder records; [] where there is no run that can be read."""
    from robust_tf import files  # imports TensorFlow: not for --help

    path = os.path.join(folder, "run.json")
    if not files.exists(path):
        return []
    with contextlib.suppress(files.FileError):  # damaged: whoever reads the run says so
        content = files.read_json(path)
        return entries(content.get("modules")) if isinstance(content, dict) else []
    return []


def import_recorded(recorded: Any, owner: str, places: Sequence[str] = ()) -> str:
    """Imports the modules that a run records, and says so.

    Each is looked for in `places`, in the current folder, where it lay, and wherever Python looks.

    Args:
      recorded: see `entries`.
      owner: the run's folder, or the file that records them.
      places: folders.

    Returns:
      Why one of them was not imported, a sentence, which is said, too; '' if all were.
    """
    loaded, faults = [], []
    guard = _guard.get()
    for one in entries(recorded):
        name, folder = one["name"], one["folder"]
        if name in sys.modules:
            continue
        if guard is not None:
            guard.roots.add(name.partition(".")[0])
            faults.append(
                f"{owner} records the module {name}, and {REFUSED}; allow it, or give "
                f"--import={name} if you trust it."
            )
            continue
        try:
            load(name, [*places, os.getcwd(), *([folder] if folder else [])])
            loaded.append(f"{name} from {getattr(sys.modules[name], '__file__', None)}")
        except UserModuleError as error:
            if _is_missing(name, error.__cause__):
                there = f" or in {folder}, where it lay" if folder else ""
                faults.append(
                    f"{owner} needs the module {name}, which is not in the current folder "
                    f"{os.getcwd()}{there}; give --import=FOLDER/{name}."
                )
            else:
                faults.append(f"{owner} needs the module {name}: {error}")
    if loaded:
        warnings.warn(
            f"imported {', '.join(loaded)}: {owner} records it (--no_import to refuse).",
            ModuleNote,
            stacklevel=3,
        )
    for fault in faults:
        warnings.warn(fault, ModuleNote, stacklevel=3)
    return faults[0] if faults else ""


def as_option(entry: Mapping[str, Any]) -> str:
    """A module of a record as `--import` takes it, from any folder."""
    folder, name = entry.get("folder"), str(entry["name"])
    return os.path.join(folder, name) if folder else name


def _file_in(folder: str, name: str) -> str | None:
    """The file of a module whose name is looked for in a folder."""
    path = os.path.join(os.path.abspath(folder or "."), *name.split("."))
    found = (file for file in (f"{path}.py", os.path.join(path, "__init__.py")))
    return next(filter(os.path.isfile, found), None)


def _folder_of(file: str, name: str) -> str:
    """The folder in which the name of a module is looked for."""
    up = len(name.split(".")) + (os.path.basename(file) == "__init__.py")
    for _ in range(up):
        file = os.path.dirname(file)
    return file


def _installed(file: str) -> bool:
    parts = os.path.abspath(file).split(os.sep)
    standard = os.path.dirname(os.path.abspath(os.__file__)) + os.sep
    packages = {"site-packages", "dist-packages"} & set(parts)
    return bool(packages) or os.path.abspath(file).startswith(standard)


def _check_loaded(name: str, file: str | None, where: str) -> None:
    """Raises where the module of this name that is loaded is an installed one, and not `file`."""
    there = getattr(sys.modules[name], "__file__", None)
    if file is None or there is None or not os.path.exists(there) or os.path.samefile(file, there):
        return
    if _installed(there) or not own(name):
        raise UserModuleError(
            f"{where}import {name}: {file} has the name of the package {there}, which is loaded "
            "already; rename yours."
        )
    said = f"{name} is {there}, loaded before; {file} is not read."
    warnings.warn(said, ModuleNote, stacklevel=4)


def _check_name(name: str, file: str, where: str) -> None:
    """Raises where an installed package has the name of a user's file: either could be meant."""
    root = name.partition(".")[0]
    places = [path for path in sys.path if path and _installed(os.path.join(path, root))]
    found = importlib.machinery.PathFinder.find_spec(root, places)
    there = None if found is None else found.origin
    if there is not None and os.path.isfile(there):
        if not file.startswith(os.path.dirname(there) + os.sep):
            raise UserModuleError(
                f"{where}import {name}: {file} has the name of the installed package {there}; "
                f"rename yours, or give --import={_folder_of(file, name)}{os.sep}{name} to mean it."
            )


@contextlib.contextmanager
def _on_the_path(folder: str | None) -> Iterator[None]:
    """The folder is the first in which Python looks, and afterwards the last."""
    importlib.invalidate_caches()
    first = [] if folder is None else [folder]
    sys.path[:0] = first
    try:
        yield
    finally:
        if first:
            sys.path.remove(first[0])
            if first[0] not in sys.path:  # modules beside it, imported in functions, are found
                sys.path.append(first[0])


def _is_missing(name: str, error: BaseException | None) -> bool:
    """Whether it is the module itself that is not there, and not one that it imports."""
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return False
    return name == error.name or name.startswith(f"{error.name}.")


def _said(error: BaseException, name: str) -> str:
    """What went wrong, and where a way is known, the way."""
    lines = str(error).strip().splitlines() or [""]
    what = f"{type(error).__name__}: {lines[0]}".rstrip(".: ")
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}: SyntaxError: {error.msg}."
    if _is_missing(name, error):
        return f"{what}; is it on PYTHONPATH?"
    return f"{what}."
