"""What a page of an attack or a method says: its sections, its code, its cost."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import robust_tf
from robust_tf import recipes
from robust_tf.evaluation import parse_attacks

CLONE = Path(robust_tf.__file__).resolve().parent.parent
SECTIONS = [
    "Idea",
    "Formula",
    "Cost",
    "gin and command line",
    "Example",
    "When not to use it",
    "Source",
    "Arguments",
]


def pages(kind: str) -> dict[str, Path]:
    """The pages of 'attacks' or 'methods', by name."""
    folder = CLONE / "docs" / kind
    return {path.stem: path for path in folder.glob("*.md") if path.stem != "index"}


def sections(path: Path) -> dict[str, str]:
    """The text under each heading."""
    parts = re.split(r"^## (.+)\n", path.read_text(), flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def code(text: str, language: str) -> list[str]:
    """The code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.M | re.S)


def check_sections(path: Path, name: str) -> None:
    """All are there, in order, and none is empty; the arguments are those of the class."""
    found = sections(path)
    assert list(found) == SECTIONS
    assert all(text.strip() for text in found.values())
    assert path.read_text().startswith(f"# {name}\n")
    assert f"autoclass:: robust_tf.{path.parent.name}.{name}\n" in found["Arguments"]
    assert len(code(found["Example"], "python")) == 1


def check_settings(path: Path, tmp_path: Path) -> None:
    """Gin reads the bindings, and commands name recipes and attacks that there are."""
    text = sections(path)["gin and command line"]
    for number, block in enumerate(code(text, "gin")):
        file = tmp_path / f"{number}.gin"
        file.write_text(block)
        recipes.parse([str(file)])
    for line in "".join(code(text, "sh")).splitlines():
        program, *arguments = shlex.split(line)
        assert (CLONE / program).exists(), line
        for argument in arguments:
            option, _, value = argument.partition("=")
            if option == "--gin_file":
                assert (CLONE / value).exists(), line
            if option == "--attacks":
                assert parse_attacks(value)


def run(path: Path, namespace: dict[str, Any]) -> dict[str, Any]:
    """The names after the page's example, which begins with these."""
    names = dict(namespace)
    (block,) = code(sections(path)["Example"], "python")
    exec(compile(block, str(path), "exec"), names)  # noqa: S102
    return names


def stated_cost(path: Path, owner: Any, **names: Any) -> tuple[str, list[float]]:
    """How the cost is meant, '', 'at most' or 'at least', and the numbers that are stated.

    Args:
      path: of the page.
      owner: whose attributes the formulas name.
      names: what else they name.
    """

    class Attributes(dict[str, Any]):
        def __missing__(self, name: str) -> Any:
            if not hasattr(owner, name):
                raise KeyError(name)
            return getattr(owner, name)

    header, _, row, *_ = _table(sections(path)["Cost"])
    bound = header[0].rpartition(",")[0]
    return bound, [eval(formula.strip("`"), {}, Attributes(names)) for formula in row]  # noqa: S307


def _table(text: str) -> list[list[str]]:
    rows = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def assert_costs(bound: str, stated: list[float], counted: list[float]) -> None:
    """The numbers counted are those stated, or within what is stated."""
    for one, other in zip(stated, counted, strict=True):
        held = {"": one == other, "at most": other <= one, "at least": other >= one}[bound]
        assert held, f"stated {bound} {stated}, counted {counted}"


def made_from(base: type, package: str) -> Iterator[type]:
    """The classes below this one that a package of the library has."""
    for cls in base.__subclasses__():
        if cls.__module__.startswith(f"{package}."):
            yield cls
            yield from made_from(cls, package)
