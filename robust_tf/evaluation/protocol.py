"""How an evaluation goes through its examples: all that its verdicts may depend on."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import numpy as np
import tensorflow as tf

from robust_tf import registration
from robust_tf.attacks.arguments import check_labels
from robust_tf.data import Split


@registration.configurable_as("evaluate")
@dataclasses.dataclass(frozen=True)
class Protocol:
    """Settings of one evaluation.

    Args:
      batch_size: images attacked at once, >= 1. It changes time and memory; an example's result it
        changes only by float rounding.
      max_examples: only the first so many, >= 1; None: all.
      shard: (i, n), 1 <= i <= n: only the i-th of n equal parts (examples i - 1, i - 1 + n, ...).
        `merge` puts the parts together to what one run gives.
      seed: of the attacks' randomness, >= 0. An example's result depends on this seed, the number
        of the example and the attack alone.
      search_dtype: None: attack and judge the model as it is. 'bfloat16': the attacks work on a
        copy that computes in bfloat16, and what they find is judged by one in float32; what only
        the copy calls broken is attacked again in float32. RayS, which sees labels alone, works
        in float32 in any case: on the copy it was weaker. 'float32': both in float32.
      search_sample: with 'bfloat16', so many of each attack's survivors are attacked again in
        float32, to see whether the search lost anything.
      eight_bits: also judge each adversarial image after rounding to multiples of 1/255.
      checks: look for signs of masked gradients before and after the attacks.

    Raises:
      ValueError: a value outside its range.
    """

    batch_size: int = 500
    max_examples: int | None = None
    shard: tuple[int, int] | None = None
    seed: int = 0
    search_dtype: str | None = None
    search_sample: int = 8
    eight_bits: bool = False
    checks: bool = True

    def __post_init__(self) -> None:
        _check_whole("batch_size", self.batch_size, 1)
        _check_whole("seed", self.seed, 0)
        _check_whole("search_sample", self.search_sample, 0)
        if self.max_examples is not None:
            _check_whole("max_examples", self.max_examples, 1, ", or None for all")
        if self.search_dtype not in (None, "float32", "bfloat16"):
            raise ValueError(
                f"search_dtype={self.search_dtype!r}: must be None, 'float32' or 'bfloat16'."
            )
        if self.shard is not None:
            pair = isinstance(self.shard, (tuple, list)) and len(self.shard) == 2
            if not pair or not all(_is_whole(k) for k in self.shard):
                raise ValueError(f"shard={self.shard!r}: must be (i, n), e.g. (1, 4).")
            part, parts = self.shard
            if not 1 <= part <= parts:
                raise ValueError(f"shard={part}/{parts}: must be i/n with 1 <= i <= n.")
            object.__setattr__(self, "shard", (part, parts))


@dataclasses.dataclass(frozen=True)
class Examples:
    """What is evaluated: N examples of `total`, with their numbers in the whole.

    images: uint8 or float32 in [0, 1] (N, ...); labels: int32 (N,); numbers: int32 (N,);
    total: number of examples before the shard was taken; fingerprint: of all of those.
    """

    images: np.ndarray
    labels: np.ndarray
    numbers: np.ndarray
    total: int
    fingerprint: str

    def __len__(self) -> int:
        return len(self.labels)

    def pixels(self, part: np.ndarray) -> tf.Tensor:
        """float32 images in [0, 1] at these positions, to the bit what training feeds."""
        images = self.images[part]
        scale = 255.0 if images.dtype == np.uint8 else 1.0
        return tf.cast(tf.constant(images), tf.float32) / scale


def choose(split: Any, protocol: Protocol) -> Examples:
    """The examples of a `data.Split`, or of (images, labels), that the protocol asks for.

    Raises:
      TypeError, ValueError: images or labels that do not fit; no examples at all.
    """
    if not isinstance(split, Split):
        if not isinstance(split, (tuple, list)) or len(split) != 2:
            raise TypeError(
                f"the examples are {type(split).__name__}; expected data.Split or (images, labels)."
            )
        images, labels = split
        check_labels(tf.convert_to_tensor(labels))
        split = Split(np.asarray(images), np.asarray(labels))
    if not len(split):
        raise ValueError("there are no examples to evaluate on: the split is empty.")
    if protocol.max_examples is not None:
        split = split.take(protocol.max_examples)
    numbers = np.arange(len(split), dtype=np.int32)
    if protocol.shard:
        part, parts = protocol.shard
        if parts > len(split):
            raise ValueError(f"shard={part}/{parts}: there are only {len(split)} examples.")
        numbers = numbers[part - 1 :: parts]
    digest = hashlib.sha256(f"{split.images.dtype.str}{split.images.shape}".encode())
    for array in (split.images, split.labels):
        digest.update(np.ascontiguousarray(array).data)
    return Examples(
        split.images[numbers],
        split.labels[numbers],
        numbers,
        len(split),
        digest.hexdigest()[:16],
    )


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_whole(name: str, value: Any, low: int, also: str = "") -> None:
    if not _is_whole(value) or value < low:
        raise ValueError(f"{name}={value!r}: must be an integer >= {low}{also}.")
