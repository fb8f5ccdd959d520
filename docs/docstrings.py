"""Between the library's docstrings and Sphinx: plain text with `code`, in Google style."""

import functools
import importlib
import inspect
import re
from pathlib import Path

from sphinx.util.inspect import stringify_signature

PAGES = Path(__file__).parent
# What reStructuredText would take for markup: emphasis, substitutions, targets.
MARKUP = re.compile(r"[\\*|]|(?<=\w)_(?!\w)")
CODE = re.compile(r"`([^`]+)`")
SECTION = re.compile(r"[A-Z]\w+:")  # alone on its line


def has_page(name: str) -> bool:
    """Whether an attack or a method has a page of its own."""
    return any((PAGES / folder / f"{name}.md").exists() for folder in ("attacks", "methods"))


def skipped(app, what, name, obj, skip, options):
    """Leaves out, of pages of packages, what has its own page and what is not the library's."""
    if str(getattr(obj, "__doc__", "")).startswith("Alias for field number"):
        return True  # of a named tuple, whose docstring says what its fields are
    if what != "module" or skip:
        return None
    module = getattr(obj, "__module__", "") or ""
    return True if has_page(name) or not module.startswith("robust_tf") else None


def to_restructured_text(app, what, name, obj, options, lines):
    """Changes the lines of a docstring in place, as autodoc asks."""
    lines[:] = restructured(lines)


def restructured(lines: list[str]) -> list[str]:
    """The lines of a docstring as reStructuredText, but for Google's sections.

    Text between backticks is code, and so is a block that is indented by four; lines of `name:
    text` whose continuations are indented are a list. No other character is markup.
    """
    found: list[str] = []
    for block, kind in parts(lines):
        if kind == "code":
            if not (found and found[-1].startswith("    ")):
                found.append("::")
            found += ["", *block]
            continue
        block = [_escaped(line) for line in block]
        if kind == "text" and any(line.startswith("  ") for line in block):
            block = [line if line.startswith("  ") else f"* {line}" for line in block]
        found += ["", *block]
    return [*found[1:], ""]


def parts(lines: list[str]) -> list[tuple[list[str], str]]:
    """What empty lines divide, each with its kind: 'section' (of Google's), 'code' or 'text'."""
    found, section = [], False
    for block in _blocks(lines):
        section = bool(SECTION.fullmatch(block[0])) or (section and block[0].startswith(" "))
        code = all(line.startswith("    ") for line in block)
        found.append((block, "section" if section else "code" if code else "text"))
    return found


def _blocks(lines: list[str]) -> list[list[str]]:
    """What empty lines divide."""
    blocks: list[list[str]] = [[]]
    for line in lines:
        if line.strip():
            blocks[-1].append(line)
        elif blocks[-1]:
            blocks.append([])
    return [block for block in blocks if block]


def _escaped(line: str) -> str:
    """Code as code, a public class as a link to it, and all else as it stands."""
    parts = CODE.split(line)
    for number, part in enumerate(parts):
        if number % 2:
            place = _classes().get(part)
            parts[number] = f":py:obj:`{part} <{place}>`" if place else f"``{part}``"
        else:
            parts[number] = MARKUP.sub(lambda m: "\\" + m.group(), part)
    return "".join(parts)


@functools.cache
def _classes() -> dict[str, str]:
    """The public classes that docstrings name without their package, and where they are."""
    found: dict[str, str] = {}
    for package in ("attacks", "methods", "models", "training"):
        module = importlib.import_module(f"robust_tf.{package}")
        for name in module.__all__:
            if inspect.isclass(getattr(module, name)):
                found.setdefault(name, f"robust_tf.{package}.{name}")
    return found


def constructor(app, what, name, obj, options, signature, return_annotation):
    """The arguments of a Keras model, which hides them behind those of its `__new__`."""
    if what != "class" or "**kwargs" not in (signature or ""):
        return None
    own = inspect.signature(obj.__init__)
    arguments = [value for key, value in own.parameters.items() if key != "self"]
    shown = own.replace(parameters=arguments, return_annotation=inspect.Signature.empty)
    return stringify_signature(shown, unqualified_typehints=True), None
