"""How an evaluation goes through its examples: all that its verdicts may depend on."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import numpy as np
import tensorflow as tf

from robust_tf.attacks.arguments import check_labels
from robust_tf.data import Data, Split
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
            hint = "; give one of its splits: data.test" if isinstance(split, Data) else ""
            raise TypeError(
                f"the examples are {type(split).__name__}; expected data.Split or (images, labels)"
                f"{hint}."
            )
        images, labels = (np.asarray(part) for part in split)
        if labels.ndim == 2 and labels.shape[1] == 1:
            raise ValueError(
                f"labels have shape {labels.shape}; expected class ids of shape ({len(labels)},): "
                "labels[:, 0]."
            )
        check_labels(tf.convert_to_tensor(labels))
        split = Split(images, labels)
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
