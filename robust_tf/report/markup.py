"""HTML from Python: text is escaped unless it is `Html` already."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterable
from typing import Any

VOID = ("meta", "img", "input", "br", "hr", "link")


class Html(str):
    """Text that is HTML; `tag` and `join` give it."""


def escape(text: Any) -> Html:
    """`text` as HTML that shows it as it is."""
    return text if isinstance(text, Html) else Html(html.escape(str(text)))


def join(*parts: Any) -> Html:
    """The parts one after the other; None and '' are left out, lists are opened."""
    flat: list[str] = []
    for part in parts:
        if part is None or part == "":
            continue
        if isinstance(part, Iterable) and not isinstance(part, str):
            flat.append(join(*part))
        else:
            flat.append(escape(part))
    return Html("".join(flat))


def tag(name: str, /, *children: Any, **attributes: Any) -> Html:
    """An element. `class_` and `aria_label` are class and aria-label; None and False leave out."""
    parts = [name]
    for key, value in attributes.items():
        key = key.rstrip("_").replace("_", "-")
        if value is True:
            parts.append(key)
        elif value is not None and value is not False:
            parts.append(f'{key}="{html.escape(str(value))}"')
    opening = f"<{' '.join(parts)}>"
    return Html(opening if name in VOID else f"{opening}{join(*children)}</{name}>")


def as_json(value: Any) -> Html:
    """JSON that may stand inside <script>: without '<', and null for what is not finite."""
    text = json.dumps(_finite(value), separators=(",", ":"), ensure_ascii=True)
    return Html(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if hasattr(value, "tolist"):  # NumPy
        return _finite(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
