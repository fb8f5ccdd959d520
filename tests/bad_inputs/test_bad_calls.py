"""Bad arguments and data in Python: one sentence that names them, before TensorFlow meets them."""

import typing
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given

from robust_tf import argument_types, registration
from tests.bad_inputs import calls, generated

KINDS = ("attacks", "methods", "models", "training", "data", "evaluation")


@pytest.mark.parametrize("kind", KINDS)
def test_one_wrong_argument(kind):
    found = {call.text: call.fault() for call in calls.one_wrong((kind,))}
    assert not {call: fault for call, fault in found.items() if fault}


def test_bad_data(tmp_path):
    found = {f"{call.kind}: {call.text}": call.fault() for call in calls.bad_data(tmp_path)}
    assert not {call: fault for call, fault in found.items() if fault}


@given(call=generated.bad_calls())
def test_generated_arguments(call):
    assert not call.fault(), call.text


@pytest.mark.parametrize(
    "value, annotation, expected",
    [
        (np.float32(0.5), float, True),
        (np.int64(3), float, True),
        (np.bool_(True), bool, True),
        (np.bool_(True), int, False),
        (3, int, True),
        (3.0, int, False),
        (float("nan"), float | None, False),
        (None, float | None, True),
        ((1, 2), Sequence[int], True),
        ((1, 2.5), Sequence[int], False),
        (np.arange(3), Sequence[int], True),
        ("ab", Sequence[str], False),
        ({}, Mapping[str, int], True),
        ([], Mapping[str, int], False),
        (len, Callable[..., int], True),
        ((1, 2), tuple[int, int], True),
        ((1, 2, 3), tuple[int, int], False),
        ("b", typing.Literal["a", "b"], True),
        ("c", typing.Literal["a", "b"], False),
        (object(), typing.Any, True),
    ],
)
def test_types(value, annotation, expected):
    assert argument_types.fits(value, annotation) is expected


def test_a_users_own_class_and_function():
    @registration.configurable
    class OfAUser:
        def __init__(self, size: int = None, rate: "float" = 0.5):  # a default is always right
            self.size = size

    @argument_types.checked
    def of_a_user(names: Sequence[str], flag: bool = False, other: "NotThere" = 3):  # noqa: F821
        return names

    assert OfAUser().size is None and OfAUser(3).size == 3
    assert of_a_user(["a"], other=object()) == ["a"]
    with pytest.raises(ValueError, match=r"^OfAUser\(size='3'\): must be an integer\.$"):
        OfAUser("3")
    with pytest.raises(ValueError, match=r"^of_a_user\(names='ab'\): must be a list, each a text"):
        of_a_user("ab")
    with pytest.raises(ValueError, match=r"^of_a_user\(flag=1\): must be True or False\.$"):
        of_a_user(["a"], 1)
    with pytest.raises(TypeError, match="missing"):
        of_a_user()
