"""What is registered with gin keeps its errors, its signature and its bindings."""

import dataclasses
import inspect
import traceback

import gin
import pytest

from robust_tf import attacks, methods, models, recipes, registration


@registration.configurable
@dataclasses.dataclass(frozen=True)
class Number:
    """A dataclass with a check."""

    value: int = 1

    def __post_init__(self):
        if self.value < 0:
            raise ValueError(f"Number(value={self.value}): must be >= 0.")


@registration.configurable_as("pair_of")
def make_pair(first, second=Number, *, third=3):
    """A function that calls something registered."""
    return first, second(), third


@registration.configurable
def refused(value):
    """A function that takes nothing."""
    raise ValueError(f"value={value}")


class Child(Number):
    """A class that is not registered, of one that is."""


def test_errors_are_as_they_were_raised():
    for make in (lambda: Number(-1), lambda: Number(value=-1), lambda: Child(-1)):
        with pytest.raises(ValueError) as error:
            make()
        assert str(error.value) == "Number(value=-1): must be >= 0."
        assert type(error.value) is ValueError
        shown = "".join(traceback.format_exception(error.value))
        assert "In call to configurable" not in shown and "During handling" not in shown
    with pytest.raises(TypeError, match=r"missing 1 required positional argument: 'first'$"):
        make_pair()


@pytest.mark.parametrize(
    "make",
    [
        lambda: attacks.PGD(eps=-1, step_size=0.1, steps=1),
        lambda: attacks.PGD(eps=8, step_size=2, steps=10),
        lambda: models.CNN((28, 28)),
        lambda: methods.ADR(models.MLP((2,), 2), attack="PGD"),
        lambda: methods.ADR(None, attack=attacks.PGD(0.1, 0.1, 1)),
    ],
)
def test_errors_of_the_library_are_one_sentence(make):
    with pytest.raises((ValueError, TypeError)) as error:
        make()
    assert "configurable" not in str(error.value) and "\n" not in str(error.value)


def test_bindings_scopes_and_defaults():
    gin.parse_config("Number.value = 5\na/Number.value = 6\npair_of.second = @a/Number\n")
    assert Number().value == 5 and Number(7).value == 7 and Child().value == 5
    assert [getattr(x, "value", x) for x in make_pair(0)] == [0, 6, 3]
    gin.parse_config("Number.value = -5\na/Number.value = -6\n")
    said = r"value=-6\): must be >= 0 \(in a/Number\)\."
    with pytest.raises(recipes.ConfigurationError, match=said):
        with recipes.readable(), gin.config_scope("a"):
            Number()
    # Through a reference, which gin calls by itself, of a function as of a class.
    gin.parse_config("pair_of.first = @refused()\nrefused.value = 3\n")
    with pytest.raises(recipes.ConfigurationError, match=r"^value=3 \(in refused\)$"):
        with recipes.readable():
            make_pair()
    gin.parse_config("pair_of.first = @refused\n")
    assert make_pair(second=int)[0] is refused


def test_signatures_are_kept():
    assert list(inspect.signature(Number).parameters) == ["value"]
    assert list(inspect.signature(make_pair).parameters) == ["first", "second", "third"]
    assert dataclasses.replace(Number(2), value=3) == Number(3)
