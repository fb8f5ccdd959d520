"""The checks of numbers: what they take, what they return, and what their errors say."""

import numpy as np
import pytest
import tensorflow as tf

from robust_tf.validation import check_eps, check_norm, check_number, check_step_size, check_whole

BFLOAT16 = tf.bfloat16.as_numpy_dtype


@pytest.mark.parametrize(
    "value",
    [
        *(0.25, 1, 0, np.array(0.25), np.array(1, "uint8"), np.longdouble(0.25)),
        *(kind(0.25) for kind in (np.float16, np.float32, np.float64, BFLOAT16)),
        *(kind(1) for kind in (np.int8, np.uint8, np.int32, np.int64, np.uint64)),
    ],
)
def test_numbers_become_python_numbers(value):
    result = check_number("A", "b", value)
    assert type(result) in (int, float) and result == value


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), np.array(3)])
def test_integers_become_python_integers(value):
    result = check_whole("A", "b", value, 3)
    assert type(result) is int and result == 3


@pytest.mark.parametrize(
    "value",
    [
        *(True, np.bool_(True), np.array(True), "1", np.str_("1"), None, [1], np.array([1.0]), 1j),
        *(float("nan"), float("inf"), np.float16("inf"), -1, np.int8(-1), BFLOAT16(-1)),
    ],
)
def test_what_is_no_number_in_range_is_refused(value):
    with pytest.raises(ValueError, match=r"^A\(b=.*\): must be a finite number >= 0; use 1\.$"):
        check_number("A", "b", value, 0.0, "use 1")


@pytest.mark.parametrize(
    "value", [True, np.bool_(True), 3.0, np.float32(3), "3", None, 2, BFLOAT16(3)]
)
def test_what_is_no_integer_in_range_is_refused(value):
    with pytest.raises(ValueError, match=r"^A\(b=.*\): must be an integer >= 3\.$"):
        check_whole("A", "b", value, 3)


@pytest.mark.parametrize(
    ("limits", "inside", "outside", "words"),
    [
        ({}, 0, -1e-9, ">= 0"),
        ({"strict": True}, 1e-9, 0, "> 0"),
        ({"low": float("-inf")}, -5, float("-inf"), "must be a finite number$"),
        ({"high": 1.0}, 1, 1.001, r"in \[0, 1\]"),
        ({"high": 1.0, "strict": True}, 1, 0, r"in \(0, 1\]"),
        ({"high": 1.0, "strict_high": True}, 0, 1, r"in \[0, 1\)"),
    ],
)
def test_limits(limits, inside, outside, words):
    assert check_number("A", "b", inside, **limits) == inside
    with pytest.raises(ValueError, match=words.replace("$", r"\.$")):
        check_number("A", "b", outside, **limits)


@pytest.mark.parametrize("check", [check_eps, check_step_size])
def test_units(check):
    assert check("PGD", 1) == 1 and check("PGD", 8.0, "L2") == 8.0
    for value in (8, 8.0, np.int64(8)):
        with pytest.raises(ValueError, match=r"^PGD\(.*8.*\): must be in .0, 1\]; .*: 8/255\?$"):
            check("PGD", value)
    with pytest.raises(ValueError, match="must be a finite number"):
        check("PGD", float("inf"), "L2")


def test_zero():
    assert check_eps("PGD", 0) == 0
    with pytest.raises(ValueError, match=r"^PGD\(step_size=0\): must be in \(0, 1\]; common are"):
        check_step_size("PGD", 0)
    with pytest.raises(
        ValueError, match=r"^PGD\(norm='L3'\): must be one of \('Linf', 'L2', 'L1'\)"
    ):
        check_norm("PGD", "L3")
