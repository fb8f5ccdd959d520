"""How an evaluation goes through its examples: all that its verdicts may depend on."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import warnings
from typing import Any

import numpy as np
import tensorflow as tf

from robust_tf import argument_types
from robust_tf.attacks.arguments import check_labels
from robust_tf.data import Data, DataNote, SequentialSplit, Split, draw_order
from robust_tf.data.pipeline import to_unit_interval
from robust_tf.validation import check_whole

DRAWS = ("first", "balanced")
_STREAM = 8  # of the draws by `draw_seed`


@argument_types.checked
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
    draw: str = "first"
    draw_seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (
            ("batch_size", 1),
            ("seed", 0),
            ("search_sample", 0),
            ("draw_seed", 0),
        ):
            value = check_whole("evaluate", name, getattr(self, name), least)
            object.__setattr__(self, name, value)
        if self.max_examples is not None:
            most = check_whole("evaluate", "max_examples", self.max_examples, 1, "None is all")
            object.__setattr__(self, "max_examples", most)
        if self.draw not in DRAWS:
            raise ValueError(f"evaluate(draw={self.draw!r}): must be one of {DRAWS}.")
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
      split: the examples, N.
      numbers: of each in what was given, int32 (N,): its attacks' seeds go by that.
      total: number of examples before the shard was taken.
      fingerprint: of all of those.
      drawn: by which numbers those were chosen; None: the first, or all.
    """

    split: Split
    numbers: np.ndarray
    total: int
    fingerprint: str
    drawn: np.ndarray | None = None

    def __post_init__(self) -> None:
        self.labels = self.split.labels
        self._last: tuple[bytes, tf.Tensor] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def pixels(self, part: np.ndarray) -> tf.Tensor:
        """float32 images in [0, 1] at these positions, to the bit what training feeds."""
        key = part.tobytes()
        if self._last is None or self._last[0] != key:  # several steps ask for the same images
            self._last = key, to_unit_interval(tf.constant(self.split.at(part)))
        return self._last[1]


def choose(data: Any, protocol: Protocol) -> Examples:
    """The examples of a split, a `tf.data.Dataset`, or (images, labels) that the protocol asks for.

    Raises:
      TypeError, ValueError: images or labels that do not fit; no examples at all.
      DataError: a dataset that is none of (image, label), or cannot be read.
    """
    split = as_split(data)
    if not len(split):
        raise ValueError("there are no examples to evaluate on: the split is empty.")
    numbers, drawn = np.arange(len(split), dtype=np.int32), None
    if protocol.max_examples is not None and protocol.max_examples < len(split):
        if protocol.draw == "balanced":
            order = draw_order(split.labels, protocol.draw_seed, _STREAM)
            numbers = drawn = order[: protocol.max_examples].astype(np.int32)
        else:
            numbers = numbers[: protocol.max_examples]
        _note_missing(split.labels, split.labels[numbers], drawn is None)
        split = split.take(len(numbers)) if drawn is None else split.select(numbers)
    total, fingerprint = len(split), _fingerprint(split)
    if protocol.shard:
        part, parts = protocol.shard
        if parts > total:
            raise ValueError(f"shard={part}/{parts}: there are only {total} examples.")
        split = split.select(slice(part - 1, None, parts))
        numbers = numbers[part - 1 :: parts]
    return Examples(split, numbers, total, fingerprint, drawn)


def _note_missing(labels: np.ndarray, chosen: np.ndarray, first: bool) -> None:
    """Says which classes of the examples are not among those that were chosen, and what helps."""
    missing = np.setdiff1d(labels, chosen)
    if len(missing):
        shown = ", ".join(map(str, missing[:10])) + (", ..." if len(missing) > 10 else "")
        way = "; draw='balanced' (--draw=balanced) takes each class by its share" if first else ""
        warnings.warn(
            f"the {len(chosen):,} images are of {len(np.unique(chosen))} of "
            f"{len(np.unique(labels))} classes; there is none of {shown}{way}.",
            DataNote,
            stacklevel=4,
        )


def as_split(data: Any) -> Split:
    """The examples of a split, a `tf.data.Dataset`, or (images, labels), all of them.

    Raises:
      TypeError, ValueError, DataError: as `choose`.
    """
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
