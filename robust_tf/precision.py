"""float32 or bfloat16: what `auto` is on this device, measured once per machine.

bfloat16 is faster than float32 where the processor has instructions for it (AVX512-bf16, AMX), or
on a recent GPU; elsewhere it is computed by conversions, and was measured up to 16 times slower. No
flag of a processor tells which of the two holds for a build of TensorFlow, so a small convolution
with its gradient is timed in both.

    precision.choose("auto").policy    # 'float32' or 'mixed_bfloat16', a Keras dtype policy
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from robust_tf import files
from robust_tf.device import device, in_words
from robust_tf.device import device_in_words as device_in_words

DTYPES = ("float32", "bfloat16")  # what `auto` chooses from
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}
# The factor (seconds in bfloat16 / seconds in float32) from which on `auto` is float32, and above
# which naming bfloat16 warns. Between them nothing is gained or lost that a timing could tell.
FASTER, SLOWER = 0.9, 1.1


class PrecisionWarning(UserWarning):
    """bfloat16 was asked for where float32 is faster."""


@dataclasses.dataclass(frozen=True)
class Choice:
    """A precision, and why.

    Attributes:
      asked: 'auto', 'float32', 'bfloat16' or 'float16'.
      dtype: 'float32', 'bfloat16' or 'float16'.
      reason: a clause for the record of a run.
      factor: seconds in bfloat16 / seconds in float32 on the device where it was chosen; None where
        it was not measured.
    """

    asked: str
    dtype: str
    reason: str
    factor: float | None = None

    @property
    def policy(self) -> str:
        """The Keras dtype policy: 'float32', 'mixed_bfloat16' or 'mixed_float16'."""
        return POLICIES[self.dtype]

    def to_json(self) -> dict[str, Any]:
        """For `run.json` and `summary.json`: asked, chosen, factor, reason."""
        factor = None if self.factor is None else round(self.factor, 3)
        return {
            "asked": self.asked,
            "chosen": self.dtype,
            "factor": factor,
            "reason": self.reason,
        }


@dataclasses.dataclass(frozen=True)
class Measurement:
    """Seconds of the same work in both precisions, and the device in words."""

    float32: float
    bfloat16: float
    device: str

    @property
    def factor(self) -> float:
        """How many times as long bfloat16 takes."""
        return self.bfloat16 / self.float32

    @property
    def text(self) -> str:
        """'measured: bfloat16 takes 3.7 times as long as float32 on ...'."""
        return (
            f"measured: bfloat16 takes {self.factor:.2g} times as long as float32 on {self.device}"
        )


def choose(asked: str) -> Choice:
    """The precision to compute in.

    Args:
      asked: 'float32'; 'float16', or 'mixed_float16' as Keras calls it, for GPUs; 'bfloat16', or
        'mixed_bfloat16', which warns where it is slower than float32; 'auto': float32, unless
        bfloat16 is measured faster on this device.

    Raises:
      ValueError: another word.
    """
    dtype = dtype_of(asked)
    if dtype in ("float32", "float16"):
        return Choice(dtype, dtype, "named")
    try:
        found = measured()
    except (tf.errors.OpError, NotImplementedError) as error:
        reason = f"bfloat16 could not be measured: {files.reason(error)}"
        return Choice(dtype, "float32" if dtype == "auto" else dtype, reason)
    if dtype == "auto":
        faster = found.factor < FASTER
        return Choice(dtype, "bfloat16" if faster else "float32", found.text, found.factor)
    if found.factor > SLOWER:
        warnings.warn(
            f"bfloat16 was named, but is slower than float32 here ({found.text}); 'auto' chooses "
            "float32.",
            PrecisionWarning,
            stacklevel=2,
        )
    return Choice(dtype, dtype, f"named; {found.text}", found.factor)


def dtype_of(asked: Any) -> str:
    """'auto', 'float32', 'bfloat16' or 'float16'.

    Raises:
      ValueError: another word.
    """
    dtype = asked.removeprefix("mixed_") if asked in POLICIES.values() else asked
    if dtype not in ("auto", *POLICIES):
        raise ValueError(
            f"{asked!r} must be 'auto', 'float32', 'mixed_bfloat16' or 'mixed_float16'."
        )
    return dtype


def keep(record: Mapping[str, Any]) -> Choice:
    """The choice of a run that is continued, whatever this device would choose.

    A run has one precision from its first step to its last. Where it is bfloat16 and this device is
    slower in it, a warning says by how much.

    Args:
      record: what `Choice.to_json` gave when the run began.

    Raises:
      ValueError: it is none.
    """
    try:
        choice = Choice(*(record[key] for key in ("asked", "chosen", "reason", "factor")))
        POLICIES[choice.dtype]
    except (KeyError, TypeError) as error:
        raise ValueError(f"precision={record!r}: is no record of a choice of precision.") from error
    if choice.dtype == "bfloat16":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PrecisionWarning)
            here = choose(choice.dtype)
        if here.factor is not None and here.factor > SLOWER:
            warnings.warn(
                f"the run began in bfloat16 ({choice.reason}) and goes on in it, though float32 is "
                f"faster here ({here.reason.removeprefix('named; ')}).",
                PrecisionWarning,
                stacklevel=2,
            )
    return choice


_MEASURED: dict[str, Measurement] = {}


def measured() -> Measurement:
    """Of this device: from this process, from the user's cache folder, or measured now.

    The cache is a file for each processor, TensorFlow and number of threads. One that cannot be
    read, written or believed is measured again.

    Raises:
      NotImplementedError: on a TPU, whose programs take longer to compile than the measurement may.
      tf.errors.OpError: the device has no such operation in bfloat16.
    """
    if tf.config.list_logical_devices("TPU"):
        raise NotImplementedError("TPUs are not measured")
    about = device()
    key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
    if key not in _MEASURED:
        path = _cache_path(key)
        seconds = _read(path, about)
        if seconds is None:
            seconds = time_both(about["kind"])
            _write(path, {"device": about, "seconds": seconds})
        _MEASURED[key] = Measurement(seconds["float32"], seconds["bfloat16"], in_words(about))
    return _MEASURED[key]


def time_both(kind: str = "CPU") -> dict[str, float]:
    """Seconds of a convolution with its gradient by precision: the least of several, in turns.

    What else the machine does makes a repetition longer, never shorter, and hits both alike.

    Args:
      kind: 'CPU' or 'GPU', whose work must be larger than what it takes to launch it.
    """
    shape = (256, 32, 32, 64) if kind == "GPU" else (32, 14, 14, 32)
    with tf.device(f"{kind}:0"):
        steps = {dtype: _step(dtype, shape) for dtype in DTYPES}
        for step in steps.values():  # traced, and the kernels chosen
            step()
        return fastest(steps)


def fastest(
    steps: Mapping[str, Callable[[], Any]],
    rounds: int = 15,
    limit: float = 0.8,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """The shortest time of each step, over rounds in which each runs once.

    Args:
      steps: by name.
      rounds: at most; 3 at least.
      limit: seconds after which no other round begins.
      clock: in seconds.
    """
    best = dict.fromkeys(steps, math.inf)
    began = clock()
    for count in range(rounds):
        if count >= 3 and clock() - began > limit:
            break
        for name, step in steps.items():
            start = clock()
            step()
            best[name] = min(best[name], clock() - start)
    return best


def _step(dtype: str, shape: tuple[int, ...]) -> Callable[[], Any]:
    """Convolution, rectifier and pooling, with gradients for images and kernel, as in training."""
    channels = shape[-1]
    kernel_shape = (3, 3, channels, channels)
    images, kernel = (
        tf.constant(np.linspace(-1, 1, math.prod(s), dtype=np.float32).reshape(s))
        for s in (shape, kernel_shape)
    )

    @tf.function(autograph=False)
    def step(x: tf.Tensor, w: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch([x, w])
            z = tf.nn.conv2d(tf.cast(x, dtype), tf.cast(w, dtype), 1, "SAME")
            z = tf.nn.max_pool2d(tf.nn.relu(z), 2, 2, "VALID")
            loss = tf.reduce_sum(tf.square(tf.cast(z, tf.float32)))
        return [tf.norm(gradient) for gradient in tape.gradient(loss, [x, w])]

    return lambda: [value.numpy() for value in step(images, kernel)]


def _cache_path(key: str) -> str | None:
    """None where the user has no folder of that kind."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(home, "robust_tf", f"precision-{key}.json") if os.path.isabs(home) else None


def _read(path: str | None, about: Mapping[str, Any]) -> dict[str, float] | None:
    """Seconds by precision; None unless the file holds them for just this device."""
    if path is None:
        return None
    try:
        found = files.read_json(path)
    except (OSError, RecursionError):
        return None
    if not isinstance(found, dict) or found.get("device") != about:
        return None
    seconds = found.get("seconds")
    if not isinstance(seconds, dict) or set(seconds) != set(DTYPES):
        return None
    sound = all(type(s) in (int, float) and 0 < s < math.inf for s in seconds.values())
    return {name: float(value) for name, value in seconds.items()} if sound else None


def _write(path: str | None, content: Any) -> None:
    if path is not None:
        try:
            files.write_json(path, content)
        except OSError:  # a cache is for speed alone
            pass
