"""`auto`: what is chosen from given timings, what is kept on disk, what is said."""

import itertools
import json
import os

import numpy as np
import pytest
import tensorflow as tf

from robust_tf import files, precision
from robust_tf.precision import Measurement

FAST, SAME, SLOW = (Measurement(1.0, other, "a processor") for other in (0.25, 1.0, 16.0))
MEASURED = precision.measured  # of the module, before the tests' own takes its place


def given(monkeypatch, found):
    monkeypatch.setattr(precision, "measured", lambda: found)


@pytest.mark.parametrize(
    ("found", "dtype", "policy"),
    [
        (FAST, "bfloat16", "mixed_bfloat16"),
        (SAME, "float32", "float32"),
        (SLOW, "float32", "float32"),
        (Measurement(1.0, 0.95, "noise"), "float32", "float32"),
    ],
)
def test_auto_is_what_is_measured_faster(found, dtype, policy, monkeypatch, recwarn):
    given(monkeypatch, found)
    choice = precision.choose("auto")
    assert (choice.dtype, choice.policy, choice.asked) == (dtype, policy, "auto")
    assert choice.factor == found.bfloat16
    record = json.loads(json.dumps(choice.to_json()))
    assert record == {
        "asked": "auto",
        "chosen": dtype,
        "factor": found.bfloat16,
        "reason": f"measured: bfloat16 takes {found.bfloat16:.2g} times as long as float32 on "
        f"{found.device}",
    }
    assert not recwarn.list


@pytest.mark.parametrize("name", ["bfloat16", "mixed_bfloat16"])
def test_bfloat16_by_name_is_taken_and_warns_where_it_is_slow(name, monkeypatch, recwarn):
    for found in (FAST, SAME):
        given(monkeypatch, found)
        assert precision.choose(name).policy == "mixed_bfloat16"
    assert not recwarn.list
    given(monkeypatch, SLOW)
    with pytest.warns(precision.PrecisionWarning, match="takes 16 times as long as float32 on a p"):
        choice = precision.choose(name)
    assert choice.dtype == "bfloat16" and choice.factor == 16
    assert choice.reason.startswith("named; measured")


@pytest.mark.parametrize(
    "name, policy", [("float32", "float32"), ("mixed_float16", "mixed_float16")]
)
def test_what_is_named_is_not_measured(name, policy, monkeypatch):
    monkeypatch.setattr(precision, "measured", lambda: pytest.fail("measured"))
    choice = precision.choose(name)
    assert (choice.policy, choice.reason) == (policy, "named")
    assert precision.keep(choice.to_json()) == choice


@pytest.mark.parametrize("name", ["float64", "mixed_auto", "", None, 16])
def test_another_word_is_refused(name):
    with pytest.raises(ValueError, match="'float32', 'mixed_bfloat16' or 'mixed_float16'"):
        precision.choose(name)


@pytest.mark.parametrize(
    "error", [tf.errors.UnimplementedError(None, None, "no kernel\nat all"), NotImplementedError()]
)
def test_a_device_that_cannot_be_measured_computes_in_float32(error, monkeypatch):
    def fails():
        raise error

    monkeypatch.setattr(precision, "measured", fails)
    choice = precision.choose("auto")
    assert choice.dtype == "float32" and choice.factor is None
    assert choice.reason.startswith("bfloat16 could not be measured: N" if not str(error) else "")
    assert "\n" not in choice.reason
    assert precision.choose("bfloat16").dtype == "bfloat16"


@pytest.mark.parametrize("began", [FAST, SLOW])
@pytest.mark.parametrize("here", [FAST, SLOW])
def test_a_run_keeps_its_precision(began, here, monkeypatch, recwarn):
    given(monkeypatch, began)
    choice = precision.choose("auto")
    record = json.loads(json.dumps(choice.to_json()))
    given(monkeypatch, here)
    kept = precision.keep(record)
    assert kept == choice and kept.to_json() == record
    said = [str(one.message) for one in recwarn.list]
    if (began, here) == (FAST, SLOW):
        assert len(said) == 1
        assert "began in bfloat16 (measured: bfloat16 takes 0.25 times" in said[0]
        assert "float32 is faster here (measured: bfloat16 takes 16 times" in said[0]
    else:
        assert not said


@pytest.mark.parametrize("record", [{}, None, {"asked": "auto"}, "float32"])
def test_what_is_no_record_is_refused(record):
    with pytest.raises(ValueError, match="no record of a choice"):
        precision.keep(record)
    sound = precision.Choice("auto", "float32", "x").to_json()
    with pytest.raises(ValueError, match="no record of a choice"):
        precision.keep({**sound, "chosen": "float8"})


@pytest.fixture
def timed(monkeypatch, tmp_path):
    """The cache in a folder of its own, a counter of measurements, a known device."""
    about = {"kind": "CPU", "name": "processor A", "flags": "avx2", "threads": 2}
    calls = []

    def time_both(kind):
        calls.append(kind)
        return {"float32": 1.0, "bfloat16": 3.0 + len(calls)}

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(precision, "time_both", time_both)
    monkeypatch.setattr(precision, "device", lambda: dict(about))
    monkeypatch.setattr(precision, "_MEASURED", {})
    return about, calls, tmp_path / "robust_tf"


def again(monkeypatch):
    """What another process measures."""
    monkeypatch.setattr(precision, "_MEASURED", {})
    return MEASURED().factor


def test_a_machine_is_measured_once(timed, monkeypatch):
    about, calls, folder = timed
    assert MEASURED().factor == MEASURED().factor == 4.0
    assert MEASURED().device == "processor A, 2 threads"
    assert again(monkeypatch) == 4.0 and calls == ["CPU"]
    [file] = os.listdir(folder)
    assert files.read_json(folder / file)["device"] == about
    for key, value in (("name", "processor B"), ("flags", "avx2 amx_bf16"), ("threads", 4)):
        before = len(calls)
        about[key] = value
        assert again(monkeypatch) == 3.0 + len(calls) and len(calls) == before + 1
    assert len(os.listdir(folder)) == 4


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: "[" * 100_000,
        lambda text: "[]",
        lambda text: '{"seconds": {"float32": 1.0, "bfloat16": 0.1}}',
        lambda text: text.replace("processor A", "processor B"),
        lambda text: text.replace("4.0", "-1"),
        lambda text: text.replace("4.0", "NaN"),
        lambda text: text.replace("4.0", "true"),
        lambda text: text.replace('"bfloat16"', '"float16"'),
        lambda text: "\udcff",
    ],
)
def test_a_damaged_cache_is_not_believed(damage, timed, monkeypatch):
    _, calls, folder = timed
    MEASURED()
    [file] = os.listdir(folder)
    text = (folder / file).read_text()
    (folder / file).write_bytes(damage(text).encode(errors="surrogateescape"))
    assert again(monkeypatch) == 5.0 and len(calls) == 2
    assert again(monkeypatch) == 5.0 and len(calls) == 2  # it was written anew


def test_a_cache_that_cannot_be_written_is_no_error(timed, monkeypatch, tmp_path):
    _, calls, folder = timed
    folder.write_text("a file where the folder should be")
    assert MEASURED().factor == MEASURED().factor == 4.0 and len(calls) == 1
    assert again(monkeypatch) == 5.0
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert again(monkeypatch) == 6.0 and not os.path.exists("relative")


class Clock:
    """Seconds that pass by what the steps say."""

    def __init__(self, **lengths):
        self.now, self.order = 0.0, []
        self.lengths = {name: itertools.cycle(values) for name, values in lengths.items()}
        self.steps = {name: lambda name=name: self.run(name) for name in lengths}

    def __call__(self):
        return self.now

    def run(self, name):
        self.order.append(name)
        self.now += next(self.lengths[name])


def test_the_shortest_of_several_turns_counts():
    clock = Clock(a=[5.0, 0.25, 9.0], b=[2.0, 8.0, 0.5])
    assert precision.fastest(clock.steps, rounds=6, limit=1e9, clock=clock) == {"a": 0.25, "b": 0.5}
    assert clock.order == ["a", "b"] * 6


@pytest.mark.parametrize(("length", "rounds"), [(100.0, 3), (0.0625, 7), (0.001, 15)])
def test_a_slow_device_is_measured_less_often(length, rounds):
    clock = Clock(a=[length], b=[length])
    precision.fastest(clock.steps, clock=clock)
    assert len(clock.order) == 2 * rounds


def test_both_precisions_do_the_same_work():
    sums = {dtype: precision._step(dtype, (2, 4, 4, 3))() for dtype in precision.DTYPES}
    assert len(sums["float32"]) == 2 and np.abs(sums["float32"]).min() > 1e-3
    np.testing.assert_allclose(sums["bfloat16"], sums["float32"], rtol=0.05)
    assert not np.array_equal(*sums.values())  # bfloat16 was computed in


def test_this_device_is_described_and_measured():
    about = json.loads(json.dumps(precision.device()))
    assert about["tensorflow"] == tf.__version__ and about["name"] and about["flags"]
    assert about["kind"] == "GPU" or about["threads"] >= 1
    found = precision.time_both(about["kind"])
    assert set(found) == {"float32", "bfloat16"} and min(found.values()) > 0
