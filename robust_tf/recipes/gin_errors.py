"""What gin's errors mean to who writes a recipe: where, which name was meant, what is missing."""

from __future__ import annotations

import contextlib
import difflib
import inspect
import os
import re
import tokenize
from collections.abc import Iterator, Sequence

import gin

# What the training gives to what it builds.
_OF_THE_TRAINING = ("network", "input_shape", "num_classes", "steps_per_epoch")


class ConfigurationError(ValueError):
    """A recipe that cannot be read, or that says what cannot be."""


@contextlib.contextmanager
def explained(source: str) -> Iterator[None]:
    """Turns whatever gin's parser raises into a `ConfigurationError` that says where."""
    try:
        yield
    except ConfigurationError:
        raise
    except (SyntaxError, tokenize.TokenError) as error:
        where = source
        if isinstance(error, SyntaxError) and error.lineno and os.path.exists(source):
            where = f"{source}, line {error.lineno}"
        what = _first_line(str(error.args[0]))
        token = re.search(r"Failed to parse token '(.+?)'", str(error))
        if token:
            what = f"{token[1]} is not a value"
        raise ConfigurationError(
            f"{where}: {what}. Bindings read NAME.PARAMETER=VALUE; a text as value needs quotes of "
            "its own: --gin_param=\"data.name='mnist'\"."
        ) from error
    except (ValueError, TypeError, AttributeError, KeyError, OSError) as error:
        line = re.search(r'In file "(.+?)", line (\d+)', str(error))
        where = f"{line[1]}, line {line[2]}" if line else source
        raise ConfigurationError(f"{where}: {explain(str(error))}") from error


def explain(message: str) -> str:
    """The message of gin, with the nearest known name where it names an unknown one."""
    unknown = re.search(r"No configurable matching (?:reference )?'@?([\w./]+?)(?:\(\))?'", message)
    if unknown:
        word = unknown[1].split("/")[-1]
        return f"unknown gin name {word!r}; {nearest(word, sorted(owners()))}"
    parameter = re.search(
        r"onfigurable '([\w./]+)' doesn't have a parameter named '(\w+)'", message
    )
    if parameter:
        owner = parameter[1].split("/")[-1].split(".")[-1]
        known = parameters(owner)
        return f"{owner} has no parameter {parameter[2]!r}; {nearest(parameter[2], known)}"
    return _first_line(message)


@contextlib.contextmanager
def readable() -> Iterator[None]:
    """Around calls of gin-bound constructors: their errors without gin's account of the calls.

    Raises:
      ConfigurationError: instead of a ValueError or TypeError inside.
    """
    try:
        yield
    except ConfigurationError:
        raise
    except (ValueError, TypeError) as error:
        raise ConfigurationError(_without_calls(error)) from error


def _without_calls(error: Exception) -> str:
    """An error's message without gin's lines on the calls, but with the outermost one's name."""
    message, *_ = re.split(r"\n  (?:In call to|No values supplied)", str(error))
    calls = re.findall(r"In call to configurable '(\S+)' \(.*\)(?: in scope '(\S+)')?", str(error))
    names = [f"{scope}/{name}" if scope else name for name, scope in calls]
    names = names or getattr(error, "gin_calls", [])  # registered by us, or by gin's own decorator
    absent = re.search(r"([\w.]+)\(\) missing \d+ required [\w -]+arguments?: (.+)", message)
    if absent:
        owner = names[0] if names else absent[1].split(".")[0]
        parameter = absent[2].replace("'", "").split(",")[0].split(" and ")[0]
        if parameter in _OF_THE_TRAINING:
            return (
                f"{owner} is given its {parameter} when it is built: name it without brackets, "
                f"@{owner}, such as train.method = @ADR or train.network = @CNN."
            )
        return f"{owner} needs {absent[2]}; bind it: {owner}.{parameter} = ..."
    excess = re.search(
        r"(\w+)(?:\.__init__)?\(\) got an unexpected keyword argument '(\w+)'", message
    )
    if excess:
        return (
            f"{excess[1]} takes no {excess[2]!r}, so it cannot stand where it is bound; of what "
            "can, recipes of the library show examples, such as train.network = @CNN."
        )
    if not names or names[-1] in message.split(":")[0]:
        return message
    ends = message.rstrip().endswith(".")
    return f"{message.rstrip().removesuffix('.')} (in {names[-1]}){'.' * ends}"


def nearest(word: str, names: Sequence[str]) -> str:
    """A hint at the name that was meant, or at all that are known."""
    lower = {name.lower(): name for name in names}
    near = difflib.get_close_matches(word.lower(), lower, 1, cutoff=0.5)
    return f"did you mean {lower[near[0]]}?" if near else f"known: {', '.join(names)}."


def _first_line(message: str) -> str:
    return (message.strip().splitlines() or [message])[0].rstrip(".")


def owners() -> dict[str, str]:
    """All that gin can bind here: name -> name with its module."""
    selectors = [selector for selector, _ in gin.config._REGISTRY.items()]
    return {s.split(".")[-1]: s for s in selectors if not s.startswith("gin.")}


def parameters(owner: str) -> list[str]:
    """The parameters of a gin name."""
    configurable = gin.get_configurable(owners()[owner])
    return [name for name in inspect.signature(configurable).parameters if name != "self"]
