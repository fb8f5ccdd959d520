"""gin bindings that are in force only where they are asked for.

gin has one configuration for the whole process. A recipe keeps its own here, and gives it to gin
while something of the recipe is built or runs; what the program had bound before is bound again
afterwards. So several recipes can be used side by side, and one that is locked locks no other.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import gin


class Bindings:
    """A gin configuration: its bindings, imports, and what has been read of it so far."""

    _current: Bindings | None = None

    def __init__(self) -> None:
        self._locked = False
        self._stores: list[Any] = [{}, {}, set(), {}]

    @contextlib.contextmanager
    def in_force(self) -> Iterator[None]:
        """Gin has these bindings inside, and those from before again afterwards."""
        if Bindings._current is self:  # nested
            yield
            return
        outer, before = Bindings(), Bindings._current
        outer._take()
        self._put()
        Bindings._current = self
        try:
            yield
        finally:
            self._take()
            outer._put()
            Bindings._current = before

    def text(self) -> str:
        """All bindings as gin text, the same for the same settings."""
        with self.in_force():
            return gin.config_str()

    def add_imports(self, names: Iterable[str]) -> None:
        """Lists modules that are loaded as imported, as if the recipe imported them."""
        nowhere = gin.config_parser.Location(None, 0, 0, "")
        self._stores[2] |= {
            gin.config_parser.ImportStatement(name, False, None, nowhere) for name in names
        }

    def used(self) -> str:
        """As gin text the bindings and defaults of all that has been built so far."""
        with self.in_force():
            return gin.operative_config_str()

    def _take(self) -> None:
        """Keeps what gin has now."""
        self._locked = gin.config.config_is_locked()
        self._stores = [store.copy() for store in _live()]

    def _put(self) -> None:
        """Gives gin what is kept here."""
        for store, content in zip(_live(), self._stores, strict=True):
            store.clear()
            store.update(content)
        gin.config._set_config_is_locked(self._locked)


def _live() -> tuple[Any, ...]:
    """Gin's own stores, which it changes in place; it has no public way to exchange them."""
    config = gin.config
    return config._CONFIG, config._OPERATIVE_CONFIG, config._IMPORTS, config._SINGLETONS
