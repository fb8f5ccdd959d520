"""gin's bindings as plain values: numbers, texts, lists, and references as '@NAME()'."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gin import config as gin_config
from gin import config_parser

from robust_tf.validation import plain

Bindings = dict[str, Any]


def operative() -> Bindings:
    """What was in force: 'PGD.steps' -> 40, 'evaluation/PGD.steps' -> 100, the macro 'eps' -> 0.3.

    Macros have their values. A reference is the text '@NAME', or '@NAME()' where it is made there;
    what JSON cannot hold is left out.
    """
    with gin_config._OPERATIVE_CONFIG_LOCK:
        used = {key: dict(values) for key, values in gin_config._OPERATIVE_CONFIG.items()}
    found: Bindings = {}
    for (scope, selector), values in used.items():
        if selector == "gin.macro":
            found[scope] = values["value"]
        elif not selector.startswith("gin."):
            name = gin_config._REGISTRY.minimal_selector(selector)
            owner = f"{scope}/{name}" if scope else name
            found.update({f"{owner}.{key}": value for key, value in values.items()})
    plain = {name: _plain(value, found) for name, value in found.items()}
    return {name: value for name, value in sorted(plain.items()) if value is not _UNKNOWN}


def imported() -> list[str]:
    """The modules that the recipe imports, a user's own among them."""
    return sorted({statement.module for statement in gin_config._IMPORTS})


def parse(text: str) -> tuple[Bindings, list[str]]:
    """The bindings of a gin text and the modules that it imports; for runs of version 0.1 alone.

    Raises:
      ValueError: it is not gin.
    """
    found: Bindings = {}
    modules: list[str] = []
    try:
        for statement in config_parser.ConfigParser(text, _Names()):
            if isinstance(statement, config_parser.BindingStatement):
                scope = f"{statement.scope}/" if statement.scope else ""
                owner = f"{statement.selector}.{statement.arg_name}".rstrip(".")
                found[scope + owner] = statement.value
            elif isinstance(statement, config_parser.ImportStatement):
                modules.append(statement.module)
    except (SyntaxError, ValueError, TypeError) as error:
        raise ValueError(f"it is not a gin configuration: {error}") from error
    return {name: _plain(value, found) for name, value in found.items()}, modules


class _Reference(str):
    """'@NAME', '@NAME()' or '%MACRO'."""


class _Names(config_parser.ParserDelegate):
    """Keeps references as they stand: what they name need not be known here."""

    def configurable_reference(self, scoped_configurable_name: str, evaluate: bool) -> _Reference:
        return _Reference(f"@{scoped_configurable_name}{'()' * evaluate}")

    def macro(self, macro_name: str) -> _Reference:
        return _Reference(f"%{macro_name}")


_UNKNOWN = object()


def _plain(value: Any, macros: Mapping[str, Any], depth: int = 0) -> Any:
    """`value` as JSON knows it, `_UNKNOWN` where that cannot be."""
    if isinstance(value, (_Reference, gin_config.ConfigurableReference)):
        text = str(value) if isinstance(value, _Reference) else repr(value)
        if text.startswith("%") and text[1:] in macros and depth < 20:
            return _plain(macros[text[1:]], macros, depth + 1)
        return text
    value = plain(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        items = [_plain(item, macros, depth) for item in value]
        return _UNKNOWN if _UNKNOWN in items else items
    if isinstance(value, Mapping):
        pairs = {str(key): _plain(item, macros, depth) for key, item in value.items()}
        return _UNKNOWN if _UNKNOWN in pairs.values() else pairs
    return _UNKNOWN
