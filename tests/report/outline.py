"""A page as the standard library's parser reads it: elements with attributes, text, nesting."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "img", "input", "br", "hr", "link"}


class Outline(HTMLParser):
    """Elements in order, as (tag, attributes, text); raises where tags do not nest."""

    def __init__(self, page: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None], list[str]]] = []
        self._open: list[int] = []
        self.feed(page)
        assert not self._open, f"not closed: {[self.elements[k][0] for k in self._open]}"

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), f"<{tag}> has an attribute twice: {names}"
        self.elements.append((tag, dict(attrs), []))
        if tag not in VOID:
            self._open.append(len(self.elements) - 1)

    def handle_endtag(self, tag):
        assert self._open and self.elements[self._open[-1]][0] == tag, f"</{tag}> closes another"
        self._open.pop()

    def handle_data(self, data):
        for k in self._open:
            self.elements[k][2].append(data)

    def all(self, tag: str) -> list[tuple[dict[str, str | None], str]]:
        """Attributes and text of every element of this name."""
        return [(attributes, "".join(text)) for t, attributes, text in self.elements if t == tag]

    def by_id(self, name: str) -> tuple[str, dict[str, str | None], str]:
        """The element of this id."""
        [found] = [(t, a, "".join(x)) for t, a, x in self.elements if a.get("id") == name]
        return found
