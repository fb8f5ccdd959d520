"""Attacks from text, `PGD(eps=8/255, step_size=2/255, steps=20)`, and from result files."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from robust_tf import argument_types, compat, modules
from robust_tf import attacks as library
from robust_tf.attacks import Attack
from robust_tf.call_text import CallText
from robust_tf.evaluation.attack_names import at_eps, fraction, named, norm_of
from robust_tf.evaluation.sources import transfer
from robust_tf.validation import check_eps, check_number


@argument_types.checked
def parse_attack(text: str) -> Attack:
    """The attack that `text` describes: calls of names in `robust_tf.attacks`, and arithmetic.

    A class of a user's own is known once its module is imported: `my_lab.MyAttack(eps=0.1)`, and
    without the module where no other has its name.

    Nothing is evaluated but calls of those names with numbers, strings, True, False, None and
    other such calls. Arguments are given by name, an attack to be wrapped may stand alone. The
    source of a Transfer is named by its path, the folder of a run or a model file: `run='...'`.

    Example:
      parse_attack("MultiTargeted(PGD(eps=8/255, step_size=2/255, steps=20))")

    Raises:
      ValueError: what is wrong, where, and the nearest right name.
      FileError: a source that cannot be read.
    """
    attack = _TEXT.read(text)
    if not isinstance(attack, Attack):
        raise ValueError(f"{text.strip()!r} is not an attack; known: {', '.join(_attack_names())}.")
    return attack


@argument_types.checked
def parse_attacks(text: str) -> dict[str, Attack]:
    """Attacks by a readable name, from descriptions divided by semicolons.

    A list in place of a number, `PGD(eps=[0.1, 0.2, 0.3], ...)`, is as many attacks; the list of a
    union's attacks, `Union([PGD(...), PGD(...)])`, is that of one.

    Raises:
      ValueError: as `parse_attack`; or there is none.
    """
    parts = [part for part in text.split(";") if part.strip()]
    if not parts:
        raise ValueError("no attacks given; e.g. 'PGD(eps=8/255, step_size=2/255, steps=20)'.")
    return named(parse_attack(one) for part in parts for one in _spread(part))


def _spread(text: str) -> list[str]:
    """The descriptions that one with lists stands for; lists in it go together, item by item."""
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError):
        return [text]  # parse_attack says what is wrong with it
    members = _members_in(tree)
    lists = [node for node in ast.walk(tree) if isinstance(node, ast.List) and node not in members]
    if not lists:
        return [text]
    lengths = {len(node.elts) for node in lists}
    if len(lengths) != 1 or lengths == {0}:
        raise ValueError(f"the lists in {text.strip()!r} must have the same length, 1 or more.")

    class Pick(ast.NodeTransformer):
        def __init__(self, index: int):
            self.index = index

        def visit_List(self, node: ast.List) -> ast.expr:
            if node in self.members:
                return self.generic_visit(node)  # type: ignore[return-value]
            return node.elts[self.index]

        def visit_Expression(self, node: ast.Expression) -> ast.AST:
            self.members = _members_in(node)
            return self.generic_visit(node)

    picked = [Pick(k).visit(ast.parse(text.strip(), mode="eval")) for k in range(lengths.pop())]
    return [ast.unparse(tree) for tree in picked]


def _members_in(tree: ast.AST) -> list[ast.expr]:
    """The lists in a description that are an argument called `attacks`, by name or the first."""
    found = []
    for call in ast.walk(tree):
        if isinstance(call, ast.Call):
            maker = _maker(ast.unparse(call.func), _makers())
            names = [] if maker is None else list(inspect.signature(maker).parameters)
            given = dict(zip(names, call.args, strict=False))
            given |= {str(keyword.arg): keyword.value for keyword in call.keywords}
            if "attacks" in names and "attacks" in given:
                found.append(given["attacks"])
    return found


def number(text: str) -> float:
    """The number that `text` describes, e.g. '8/255'.

    Raises:
      ValueError: it is not one.
    """
    try:
        return _TEXT.number(ast.parse(text.strip(), mode="eval").body, text)
    except (SyntaxError, ValueError) as error:
        if "divides by zero" in str(error):
            raise
        raise ValueError(f"{text!r} is not a number, such as 0.3 or 8/255.") from None


def as_attacks(
    attacks: Attack | Mapping[str, Attack] | Sequence[Attack] | str,
    eps: float | Sequence[float] | None = None,
) -> dict[str, Attack]:
    """Attacks by name from any of the forms that `evaluate` takes.

    Args:
      attacks: one, several, several by name, or text.
      eps: one or several, > 0: each attack at each of them. Names that the user has given have
        the eps added where there are several.

    Raises:
      TypeError: something else is among them.
      ValueError: as `parse_attacks`; an eps out of range; an attack that has none.
    """
    if isinstance(attacks, str):
        attacks = list(parse_attacks(attacks).values())
    elif isinstance(attacks, Attack):
        attacks = [attacks]
    elif not isinstance(attacks, (Mapping, Sequence)):
        raise TypeError(
            f"the attacks are {attacks!r}; expected attacks.PGD(eps=8/255, step_size=2/255, "
            "steps=20), a list of attacks, or a dictionary of them by name."
        )
    given = isinstance(attacks, Mapping)
    items: dict[Any, Any] = dict(attacks if isinstance(attacks, Mapping) else enumerate(attacks))
    for name, attack in items.items():
        if not isinstance(attack, Attack):
            raise TypeError(
                f"attack {name!r} is {attack!r}; expected an Attack, e.g. "
                "attacks.PGD(eps=8/255, step_size=2/255, steps=20)."
            )
    if eps is None:
        return items if given else named(items.values())
    radii = _radii(eps, {norm_of(attack) for attack in items.values()})
    if not given:
        return named(at_eps(attack, radius) for radius in radii for attack in items.values())
    return {
        f"{name} eps={fraction(radius)}" if len(radii) > 1 else name: at_eps(attack, radius)
        for radius in radii
        for name, attack in items.items()
    }


def _radii(eps: float | Sequence[float], norms: Iterable[str]) -> list[float]:
    """One eps or several, checked for these norms."""
    given: list[Any] = [eps] if np.ndim(eps) == 0 else list(eps)  # type: ignore[arg-type]
    if not given:
        raise ValueError("evaluate(eps=[]): must be one eps or more, such as [4/255, 8/255].")
    for radius in given:
        for norm in norms:
            check_eps("evaluate", radius, norm)
        check_number("evaluate", "eps", radius, 0, "give the eps of the attacks", strict=True)
    return [float(radius) for radius in given]


def attacks_from_json(value: dict[str, Any]) -> dict[str, Attack]:
    """The attacks of `Evaluation.to_json()`, built again, by name.

    Raises:
      ValueError: `value` is not an evaluation's, or an attack in it is not known here.
    """
    try:
        configs = {name: part["attack"] for name, part in value["attacks"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"this is not an evaluation's JSON: {error!r}.") from error
    attacks = {}
    for name, config in configs.items():
        try:
            attack = compat.deserialize(config)
        except Exception as error:  # Keras raises of every kind
            raise ValueError(f"cannot rebuild the attack {name!r}: {error}") from error
        if not isinstance(attack, Attack):
            raise ValueError(f"{name!r} is not an attack but {type(attack).__name__}.")
        attacks[name] = attack
    return attacks


def _attack_names() -> list[str]:
    """Names of what makes an attack to evaluate by: its class, or a preset that returns one."""
    own = {dotted(cls): cls for those in _own().values() for cls in those}
    every = {**_makers(), **own}.items()
    leave = {name for name, maker in every if getattr(maker, "leaves_ball", False)}
    return [name for name, maker in every if _makes_attack(maker) and name not in leave]


def _makers() -> dict[str, Callable[..., Any]]:
    bases = {
        "Attack",
        "Budget",
        "GradientAttack",
        "MinimalDistance",
        "MinimumNorm",
        "Objective",
        "Start",
        "Threat",
    }
    others = bases | {*library.training.__all__}
    makers = {n: getattr(library, n) for n in sorted(library.__all__) if n not in others}
    return {**makers, "Transfer": transfer}  # whose source text can only name


def _own() -> dict[str, list[type]]:
    """The classes of users' own modules that text can name, by their name without the module."""
    found: dict[str, dict[str, type]] = {}
    left: list[type] = [Attack, library.Objective, library.Start, library.Steepest, library.Threat]
    while left:
        cls = left.pop()
        left += cls.__subclasses__()
        if modules.own(cls.__module__) or cls.__module__ == "__main__":
            if "<locals>" not in cls.__qualname__:
                found.setdefault(cls.__name__, {})[dotted(cls)] = cls
    return {name: list(those.values()) for name, those in found.items()}


def dotted(cls: type) -> str:
    """A class with its module: 'my_lab.MyAttack'."""
    return f"{cls.__module__}.{cls.__qualname__}"


def _maker(name: str, makers: dict[str, Callable[..., Any]]) -> Callable[..., Any] | None:
    """What a name in a text makes; None where it is not known.

    Raises:
      ValueError: several of a user's classes have the name.
    """
    if name in makers:
        return makers[name]
    last = name.rpartition(".")[2]
    those = [cls for cls in _own().get(last, []) if name in (last, dotted(cls))]
    if len(those) > 1:
        raise ValueError(
            f"{name!r} may be {' or '.join(sorted(map(dotted, those)))}; name the module, too."
        )
    return those[0] if those else None


def _makes_attack(maker: Any) -> bool:
    return maker is transfer or (inspect.isclass(maker) and issubclass(maker, Attack))


class _AttackText(CallText):
    kind, example = "attack", "PGD(eps=8/255, step_size=2/255, steps=20)"
    sequences = True

    def maker(self, name: str) -> Callable[..., Any] | None:
        return _maker(name, _makers())

    def known(self) -> Sequence[str]:
        return _attack_names()

    def parts(self) -> Sequence[str]:
        return [*_makers()]


_TEXT = _AttackText()
