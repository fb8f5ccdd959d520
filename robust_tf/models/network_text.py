"""Networks as text, `WideResNet(depth=34, width=10)`: builders by the names that gin knows."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any

import gin

from robust_tf.call_text import CallText

Builder = Callable[..., Any]
# What a builder is told of the data, not by its text; discriminators take `inputs`.
TOLD = ("input_shape", "inputs", "num_classes")


def builder(text: str) -> Builder:
    """The builder that `text` describes, to be called with input_shape and num_classes.

    Names are those of builders that gin knows: the library's own, and those of a user's modules
    that are imported. Arguments are numbers, strings, lists, and for a builder around a builder
    other such texts. `CNN` alone is `CNN()`.

    >>> network = builder("WideResNet(depth=34, width=10)")((32, 32, 3), 10)

    Raises:
      ValueError: what is wrong, where, and the nearest right name.
    """
    text = text.strip()
    made = _TEXT.read(f"{text}()" if re.fullmatch(r"[A-Za-z_][\w.]*", text) else text)
    if not isinstance(made, functools.partial):
        raise ValueError(f"{text!r} is not a network; it is written like {_TEXT.example}.")
    return made


def takes(maker: Builder) -> str:
    """The parameter by which a builder is told what its network takes.

    That is 'input_shape' of images, or 'inputs', the number of values that a discriminator judges
    an image by; '' of what is no builder.
    """
    try:
        parameters = inspect.signature(maker).parameters
    except (TypeError, ValueError):
        return ""
    if "num_classes" not in parameters:
        return ""
    return next((name for name in TOLD[:2] if name in parameters), "")


class _NetworkText(CallText):
    kind, example, sequences = "network", "WideResNet(depth=34, width=10)", True

    def maker(self, name: str) -> Builder | None:
        found = {s: one for s, one in _builders().items() if f".{s}".endswith(f".{name}")}
        if len(found) > 1:
            raise ValueError(f"{name!r} may be {' or '.join(sorted(found))}; name the module, too.")
        return next(iter(found.values()), None)

    def known(self) -> Sequence[str]:
        return sorted(
            s if not s.startswith("robust_tf.") else s.rpartition(".")[2] for s in _builders()
        )

    def hidden(self, maker: Builder) -> Sequence[str]:
        return TOLD

    def bind(self, maker: Builder, args: list[Any], kwargs: dict[str, Any]) -> None:
        self._bound(maker, args, kwargs)

    def make(self, maker: Builder, args: list[Any], kwargs: dict[str, Any]) -> Builder:
        return functools.partial(maker, **self._bound(maker, args, kwargs))

    def _bound(self, maker: Builder, args: list[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
        own = inspect.signature(maker)
        own = own.replace(parameters=[p for n, p in own.parameters.items() if n not in TOLD])
        return own.bind(*args, **kwargs).arguments


def _builders() -> dict[str, Builder]:
    """Builders by their names with modules, as gin knows them."""
    names = [selector for selector, _ in gin.config._REGISTRY.items()]
    made = {name: gin.get_configurable(name) for name in names}
    return {name: one for name, one in made.items() if takes(one)}


_TEXT = _NetworkText()
