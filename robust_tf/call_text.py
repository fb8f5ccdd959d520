"""Calls as text, such as `PGD(eps=8/255, steps=20)`, read without running any code of it."""

from __future__ import annotations

import ast
import difflib
import inspect
import operator
import re
from collections.abc import Callable, Sequence
from typing import Any

_BINARY: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_UNARY: dict[type, Callable[[Any], Any]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}


class CallText:
    """How texts of one kind are read; a subclass says what their names stand for.

    Nothing is evaluated but calls of known names with numbers, arithmetic, strings, True, False,
    None and other such calls.

    Attributes:
      kind: what a text describes: 'attack'.
      example: how it is written.
      sequences: whether an argument may be a list or tuple of such values.
    """

    kind: str
    example: str
    sequences = False

    def maker(self, name: str) -> Callable[..., Any] | None:
        """What a name makes; None where it is not known. ValueError where it may be several."""
        raise NotImplementedError

    def known(self) -> Sequence[str]:
        """The names that an error lists."""
        raise NotImplementedError

    def parts(self) -> Sequence[str]:
        """The names of what may stand inside a call, but makes no whole."""
        return ()

    def make(self, maker: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]) -> Any:
        """The value of a call."""
        return maker(*args, **kwargs)

    def bind(self, maker: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]) -> None:
        """Raises TypeError where arguments are missing or too many."""
        inspect.signature(maker).bind(*args, **kwargs)

    def hidden(self, maker: Callable[..., Any]) -> Sequence[str]:
        """Parameters that a text cannot give."""
        return ()

    def read(self, text: str) -> Any:
        """The value that `text` describes.

        Raises:
          ValueError: what is wrong, where, and the nearest right name.
        """
        try:
            node = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError) as error:
            raise ValueError(
                f"cannot read the {self.kind} {text!r}: {getattr(error, 'msg', error)}. It is "
                f"written like {self.example}."
            ) from None
        return self._value(node, text)

    def number(self, node: ast.expr, text: str) -> float:
        """The number of a part of `text`; ValueError for anything else."""
        value = self._value(node, text)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(f"{ast.unparse(node)!r} in {text!r} is not a number.")
        return value

    def _value(self, node: ast.expr, text: str) -> Any:
        """The value of a part of `text`, by a short list of what may stand there."""
        if isinstance(node, ast.Constant) and isinstance(node.value, (int, float, str, type(None))):
            return node.value
        if isinstance(node, ast.UnaryOp) and type(node.op) in _UNARY:
            return _UNARY[type(node.op)](self.number(node.operand, text))
        if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
            left, right = self.number(node.left, text), self.number(node.right, text)
            try:
                return _BINARY[type(node.op)](left, right)
            except ZeroDivisionError:
                raise ValueError(f"{ast.unparse(node)!r} in {text!r} divides by zero.") from None
        if isinstance(node, (ast.List, ast.Tuple)) and self.sequences:
            return tuple(self._value(one, text) for one in node.elts)
        if isinstance(node, ast.Call) and re.fullmatch(r"\w+(\.\w+)*", ast.unparse(node.func)):
            return self._call(node, text)
        if isinstance(node, ast.Name):
            raise ValueError(
                f"{node.id!r} in {text!r} has no arguments; strings take quotes, {self.kind}s "
                f"parentheses, e.g. {node.id}(...)."
            )
        raise ValueError(
            f"{ast.unparse(node)!r} in {text!r} is not allowed; use numbers, + - * /, strings, and "
            f"{self.kind}s such as {self.example}."
        )

    def _call(self, node: ast.Call, text: str) -> Any:
        name = ast.unparse(node.func)
        maker = self.maker(name)
        if maker is None:
            raise ValueError(self._unknown(name))
        hidden = self.hidden(maker)
        parameters = inspect.signature(maker).parameters.values()
        shown = [one for one in parameters if one.name not in hidden]
        allowed = [one.name for one in shown]
        options = f"{name}({', '.join(map(_parameter, shown))})"
        for keyword in node.keywords:
            if keyword.arg not in allowed:
                near = difflib.get_close_matches(str(keyword.arg), allowed, n=1, cutoff=0.5)
                hint = f" Did you mean {near[0]}?" if near else ""
                raise ValueError(f"{name} has no parameter {keyword.arg!r}.{hint} It is {options}.")
        args = [self._value(argument, text) for argument in node.args]
        kwargs = {str(keyword.arg): self._value(keyword.value, text) for keyword in node.keywords}
        try:
            self.bind(maker, args, kwargs)
        except TypeError as error:
            raise ValueError(f"{ast.unparse(node)}: {error}. It is {options}.") from None
        try:
            return self.make(maker, args, kwargs)
        except (TypeError, ValueError, AttributeError) as error:
            said = str(error).splitlines()[0]
            owned = said.startswith(f"{name}(")
            raise ValueError(said if owned else f"{ast.unparse(node)}: {said}") from error

    def _unknown(self, name: str) -> str:
        names = self.known()
        by_lower = {known.lower(): known for known in [*self.parts(), *names]}
        near = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
        hint = f" Did you mean {by_lower[near[0]]}?" if near else ""
        module = name.rpartition(".")[0] or "MODULE"
        way = "" if near else f" One of a module of yours needs --import={module}."
        return f"there is no {self.kind} {name!r}.{hint} Known: {', '.join(names)}.{way}"


def _parameter(parameter: inspect.Parameter) -> str:
    """'eps' or 'restarts=1'."""
    if parameter.default is inspect.Parameter.empty:
        return parameter.name
    return f"{parameter.name}={parameter.default!r}"
