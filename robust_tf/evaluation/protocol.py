"""How an evaluation goes through its examples: all that its verdicts may depend on."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from typing import Any

import numpy as np
import tensorflow as tf

from robust_tf.attacks.arguments import check_labels
from robust_tf.data import Data, SequentialSplit, Split
from robust_tf.data.pipeline import to_unit_interval
from robust_tf.validation import check_whole


@dataclasses.dataclass(frozen=True)
class Protocol:
    """Settings of one evaluation; see `evaluate`, whose arguments they are.

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
        for name, least in (("batch_size", 1), ("seed", 0), ("search_sample", 0)):
            value = check_whole("evaluate", name, getattr(self, name), least)
            object.__setattr__(self, name, value)
        if self.max_examples is not None:
            most = check_whole("evaluate", "max_examples", self.max_examples, 1, "None is all")
            object.__setattr__(self, "max_examples", most)
        if self.search_dtype not in (None, "float32", "bfloat16"):
            raise ValueError(
                f"evaluate(search_dtype={self.search_dtype!r}): must be None, 'auto', "
                "'float32' or 'bfloat16'."
            )
        if self.shard is not None:
            if not isinstance(self.shard, (tuple, list)) or len(self.shard) != 2:
                raise ValueError(f"evaluate(shard={self.shard!r}): must be (i, n), e.g. (1, 4).")
            part, parts = (check_whole("evaluate", "shard", k, 1) for k in self.shard)
            if part > parts:
                raise ValueError(f"shard={part}/{parts}: must be i/n with 1 <= i <= n.")
            object.__setattr__(self, "shard", (part, parts))


@dataclasses.dataclass
class Examples:
    """What is evaluated: N examples of `total`, read when they are needed.

    Attributes:
      split: the examples before the shard was taken.
      numbers: of those that are evaluated, in `split`, int32 (N,).
      labels: int32 (N,).
      fingerprint: of the split.
    """

    split: Split
    numbers: np.ndarray
    fingerprint: str

    def __post_init__(self) -> None:
        self.labels = self.split.labels[self.numbers]
        self._last: tuple[bytes, tf.Tensor] | None = None

    @property
    def total(self) -> int:
        """Number of examples before the shard was taken."""
        return len(self.split)

    def __len__(self) -> int:
        return len(self.labels)

    def pixels(self, part: np.ndarray) -> tf.Tensor:
        """float32 images in [0, 1] at these positions, to the bit what training feeds."""
        key = part.tobytes()
        if self._last is None or self._last[0] != key:  # several steps ask for the same images
            self._last = key, to_unit_interval(tf.constant(self.split.at(self.numbers[part])))
        return self._last[1]


def choose(data: Any, protocol: Protocol) -> Examples:
    """The examples of a split, a `tf.data.Dataset`, or (images, labels) that the protocol asks for.

    Raises:
      TypeError, ValueError: images or labels that do not fit; no examples at all.
      DataError: a dataset that is none of (image, label), or cannot be read.
    """
    split = _as_split(data)
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
    return Examples(split, numbers, _fingerprint(split))


def _as_split(data: Any) -> Split:
    if isinstance(data, Split):
        return data
    if isinstance(data, tf.data.Dataset):
        return SequentialSplit(data)
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        hint = "; give one of its splits: data.test" if isinstance(data, Data) else ""
        raise TypeError(
            f"the examples are {type(data).__name__}; expected data.Split or (images, labels), "
            f"or a tf.data.Dataset of both{hint}."
        )
    images, labels = (np.asarray(part) for part in data)
    if labels.ndim == 2 and labels.shape[1] == 1:
        raise ValueError(
            f"labels have shape {labels.shape}; expected class ids of shape ({len(labels)},): "
            "labels[:, 0]."
        )
    check_labels(tf.convert_to_tensor(labels))
    return Split(images, labels)


def _fingerprint(split: Split) -> str:
    """16 hex digits of SHA-256, the same from memory and from files."""
    if split.origin is not None:
        return split.fingerprint
    digest = hashlib.sha256(f"{split.dtype.str}{(len(split), *split.image_shape)}".encode())
    for piece in itertools.chain(split.pieces(), [split.labels]):
        digest.update(np.ascontiguousarray(piece).data)
    return digest.hexdigest()[:16]
